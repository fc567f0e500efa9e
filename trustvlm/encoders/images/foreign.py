"""What a file that is not read here is, by its first bytes, and what to run to have a file that
is."""

from __future__ import annotations

import re

from trustvlm.encoders.images.layouts import layout_of

__all__ = ["what_it_is"]

_HEAD = 4_096  # bytes that are looked at

_RAW = "dcraw -w -T IN, or darktable-cli IN out.png"
_FRAME = "ffmpeg -i IN -frames:v 1 out.png"
_MAGICK = "magick IN out.png"
_FIRST_LAYER = "magick 'IN[0]' out.png"
_GS = "gs -dSAFER -sDEVICE=png16m -r150 -o out.png IN"
_HEIC = "heif-convert IN out.png, or magick IN out.png"
_JPEG_2000 = "opj_decompress -i IN -o out.png"
_GDAL = "gdal_translate -of GTiff IN out.tif"
_SAVE_ARRAY = "read the array with h5py and save it as PNG or TIFF"
_SAVE_SLICE = "choose a slice and save it as PNG or TIFF (nibabel)"
_FROM_NUMPY = "PIL.Image.fromarray(numpy.load(IN)).save('out.png')"
_AGAIN = "fetch the file again"

_SIGNATURES: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "git lfs pull"),
    (0, b"/annex/objects/", "a pointer of git-annex, not the file itself", "git annex get IN"),
    (0, b"\0\5\x16\7", "an AppleDouble file of macOS (._NAME), not the picture beside it",
     "dot_clean on its folder"),
    (0, b"%PDF-", "a PDF document", "pdftoppm -png -r 150 IN out"),
    (0, b"%!PS", "a PostScript or EPS drawing", _GS),
    (0, b"\xc5\xd0\xd3\xc6", "an EPS drawing", _GS),
    (0, b"8BPS", "a Photoshop document (PSD)", _FIRST_LAYER),
    (0, b"gimp xcf", "a GIMP document (XCF)", "magick IN -flatten out.png"),
    (0, b"\xff\x0a", "a JPEG XL image", "djxl IN out.png"),
    (0, b"\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL image", "djxl IN out.png"),
    (0, b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image", _JPEG_2000),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image", _JPEG_2000),
    (0, b"II\xbc", "a JPEG XR image", "JxrDecApp -i IN -o out.tif"),
    (0, b"FUJIFILMCCD-RAW", "a camera RAW file (Fujifilm RAF)", _RAW),
    (0, b"IIRO", "a camera RAW file (Olympus ORF)", _RAW),
    (0, b"IIRS", "a camera RAW file (Olympus ORF)", _RAW),
    (0, b"MMOR", "a camera RAW file (Olympus ORF)", _RAW),
    (0, b"IIU\0", "a camera RAW file (Panasonic RW2)", _RAW),
    (0, b"IIII", "a camera RAW file (Phase One IIQ)", _RAW),
    (0, b"FOVb", "a camera RAW file (Sigma X3F)", _RAW),
    (0, b"\0MRM", "a camera RAW file (Minolta MRW)", _RAW),
    (6, b"HEAPCCDR", "a camera RAW file (Canon CRW)", _RAW),
    (128, b"DICM", "a DICOM file", "dcm2img --write-png IN out.png, or gdcmimg"),
    (344, b"n+1\0", "a NIfTI volume", _SAVE_SLICE),
    (0, b"SIMPLE  =", "a FITS file", "fits2bitmap -o out.png IN"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file", _SAVE_ARRAY),
    (0, b"CDF\1", "a NetCDF file", _GDAL),
    (0, b"CDF\2", "a NetCDF file", _GDAL),
    (0, b"\x93NUMPY", "a NumPy array", _FROM_NUMPY),
    (0, b"v/1\1", "an OpenEXR image", _MAGICK),
    (0, b"#?RADIANCE", "a Radiance HDR image", _MAGICK),
    (0, b"#?RGBE", "a Radiance HDR image", _MAGICK),
    (0, b"DDS ", "a DirectDraw texture (DDS)", _MAGICK),
    (0, b"qoif", "a QOI image", _MAGICK),
    (0, b"P7\n", "a PAM image", "pamtopnm IN > out.ppm"),
    (0, b"PF\n", "a colour PFM image", _MAGICK),
    (0, b"\0\0\1\0", "an icon (ICO)", _FIRST_LAYER),
    (0, b"icns", "an icon (ICNS)", _FIRST_LAYER),
    (0, b"\xd7\xcd\xc6\x9a", "a drawing (WMF)", _MAGICK),
    (40, b" EMF", "a drawing (EMF)", _MAGICK),
    (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)", _FRAME),
    (8, b"AVI ", "a video (AVI)", _FRAME),
    (0, b"\0\0\1\xba", "a video (MPEG)", _FRAME),
    (0, b"\0\0\1\xb3", "a video (MPEG)", _FRAME),
    (0, b"FLV\1", "a video (FLV)", _FRAME),
    (0, b"OggS", "an Ogg video or sound", _FRAME),
    (4, b"moov", "a video (QuickTime)", _FRAME),
    (4, b"mdat", "a video (QuickTime)", _FRAME),
    (0, b"PK\3\4", "a ZIP archive or an office document", "unzip IN"),
    (0, b"\x1f\x8b", "a gzip archive", "gunzip IN, or tar xzf IN"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive", "7z x IN"),
    (0, b"Rar!", "a RAR archive", "unrar x IN"),
    (257, b"ustar", "a tar archive", "tar xf IN"),
)  # fmt: skip
_BRANDS: dict[bytes, tuple[str, str]] = {
    b"crx ": ("a camera RAW file (Canon CR3)", _RAW),
    b"avif": (
        "an AVIF image, which the installed Pillow cannot decode",
        "avifdec IN out.png; or install Pillow 11.3 or newer",
    ),
    b"avis": ("an AVIF sequence", "ffmpeg -i IN -frames:v 1 out.png"),
    **dict.fromkeys(
        (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
        ("a HEIC or HEIF photograph", _HEIC),
    ),
}
_BROKEN = {
    b"\x89PNG": "PNG",
    b"\xff\xd8": "JPEG",
    b"GIF8": "GIF",
    b"RIFF": "WebP or other RIFF",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}


def what_it_is(data: bytes) -> str | None:
    """What the file `data` is and how it is converted, as the end of a sentence that begins with
    its name; None: unknown."""
    if not data.strip(b"\0"):
        return f"holds zero bytes only, as after an interrupted download or copy; {_AGAIN}"
    kind = _box(data) or _signature(data) or _text(data[:_HEAD])
    if kind is not None:
        what, remedy = kind
        return (
            f"is {what}, not an image in a supported format; "
            f"{remedy if remedy == _AGAIN else f'run: {remedy}'}"
        )
    layout = layout_of(data)
    if layout:
        return layout
    broken = next((name for start, name in _BROKEN.items() if data.startswith(start)), None)
    return f"begins like a {broken} file, but its header is damaged; {_AGAIN}" if broken else None


def _signature(data: bytes) -> tuple[str, str] | None:
    return next(
        (kind for at, mark, *kind in _SIGNATURES if data[at : at + len(mark)] == mark), None
    )  # type: ignore[return-value]


def _box(data: bytes) -> tuple[str, str] | None:
    """A file of boxes (HEIF, MP4, QuickTime), by its brands."""
    if data[4:8] != b"ftyp":
        return None
    length = min(max(int.from_bytes(data[:4]), 16), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data)), 4))]
    general = (b"mif1", b"msf1")
    brands.sort(key=lambda brand: brand in general)  # what says which coding it is comes first
    return next(
        (_BRANDS[brand] for brand in brands if brand in _BRANDS),
        ("a video (MP4 or QuickTime)", _FRAME),
    )


def _text(head: bytes) -> tuple[str, str] | None:
    """A text that came in place of a picture."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if b"<svg" in start:
        return "an SVG drawing", "rsvg-convert -o out.png IN"
    if re.match(rb"<(!doctype html|html|head|body|script)", start) or b"<html" in start:
        return (
            "an HTML page, as a server sends it in place of a picture (an error or a log-in)",
            _AGAIN,
        )
    if start.startswith(b"<?xml") or (start.startswith(b"<") and b">" in start):
        return "an XML text, as a server sends it in place of a picture (an error)", _AGAIN
    if start[:1] in (b"{", b"["):
        return "a JSON text, as a server sends it in place of a picture (an error)", _AGAIN
    try:
        text = head.decode("utf-8", "strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    printable = sum(c.isprintable() or c in "\r\n\t" for c in text)
    return ("a text", _AGAIN) if text and printable == len(text) else None
