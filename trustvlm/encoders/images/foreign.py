"""What a file that is not read here is, from its first bytes and the tags of a TIFF, and what to
run to have a file that is. The kinds are in foreign.toml."""

from __future__ import annotations

import io
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_HEAD = 4_096  # bytes that are looked at
_AGAIN = "fetch the file again"
_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_SUBFILE, _PLANES, _SUB_IMAGES, _EXTRA, _DNG = 254, 284, 330, 338, 50706
_TAGS = (
    *(_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT),
    *(_SUBFILE, _PLANES, _SUB_IMAGES, _EXTRA, _DNG),
)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DECODED = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)  # compressions whose failure means damage
_JPEG_FRAME = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7])..(.)", re.DOTALL)
_RAW = (
    "is a camera RAW file ({}), only its preview can be read; run: dcraw -w -T IN, or "
    "darktable-cli IN out.png"
)
_DEEP_PLANES = (
    "is a TIFF with 16-bit bands stored separately, which cannot be read; run: tiffcp -p contig "
    "-c none IN out.tif"
)
_SEQUENCE = (
    "is an AVIF sequence, whose frames cannot be read; run: ffmpeg -i IN -frames:v 1 out.png"
)


@cache
def _kinds() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("foreign.toml").read_text(encoding="utf-8"))


def what_it_is(data: bytes) -> str | None:
    """What the file `data` is and how it is converted, as the end of a sentence that begins with
    its name; None: unknown."""
    if not data.strip(b"\0"):
        return f"holds zero bytes only, as after an interrupted download or copy; {_AGAIN}"
    kind = _box(data) or _signature(data) or _text(data[:_HEAD])
    if kind is not None:
        what, remedy = kind
        run = f"; {remedy if remedy == _AGAIN else f'run: {remedy}'}" if remedy else ""
        return f"is {what}, not an image in a supported format{run}"
    if layout := layout_of(data):
        return layout
    for start, form in _kinds()["headers"].items():
        if data.startswith(start.encode("latin-1")):
            return f"begins like a {form} file, but its header is damaged; {_AGAIN}"
    return None


def refused(data: bytes) -> str:
    """Why a file that Pillow would decode is not read here, and what to run; "" for any other.

    A camera's RAW file shows a small preview first and has the picture in a sub-image. Of planes of
    16 bits that are compressed, or of four of them, Pillow gives upper bytes only.
    """
    if data[4:12] == b"ftypavis":
        return _SEQUENCE
    if data[:4] not in _TIFF:
        return ""
    values = _tags(data)
    bands = values.get(_SAMPLES, 1)
    deep_planes = values.get(_PLANES) == 2 and bands > 1 and values.get(_BITS, 1) > 8
    if deep_planes and (values.get(_COMPRESSION, 1) > 1 or (bands > 3 and values.get(_EXTRA, 1))):
        return _DEEP_PLANES
    if data[8:11] == b"CR\2":
        return _RAW.format("Canon CR2")
    if _DNG in values:
        return _RAW.format("DNG")
    preview = values.get(_SUBFILE, 0) & 1 and _SUB_IMAGES in values
    if preview or values.get(_PHOTOMETRIC) in (32803, 34892):
        return _RAW.format("TIFF with a preview, such as NEF, ARW, SRW, PEF")
    return ""


def layout_of(data: bytes, *, opened: bool = False) -> str:
    """What keeps a JPEG or TIFF from being read here, and what to run; "" where that is nothing
    special.

    With `opened`, the header was understood and the pixels were not.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_layout(data)
    return _tiff_layout(_tags(data), opened=opened) if data[:4] in _TIFF else ""


def _signature(data: bytes) -> tuple[str, str] | None:
    for at, mark, what, remedy in _kinds()["signatures"]:
        if data[at : at + len(mark)] == mark.encode("latin-1"):
            return what, remedy
    return None


def _box(data: bytes) -> tuple[str, str] | None:
    """A file of boxes (HEIF, MP4, QuickTime), by its brands."""
    if data[4:8] != b"ftyp":
        return None
    length = min(max(int.from_bytes(data[:4]), 16), 256)
    brands = [data[8:12], *(data[at : at + 4] for at in range(16, min(length, len(data)), 4))]
    brands.sort(key=lambda brand: brand in (b"mif1", b"msf1"))  # what names a coding comes first
    kinds = _kinds()["brands"]
    for brand in brands:
        if (kind := kinds.get(brand.decode("latin-1"))) is not None:
            return kind[0], kind[1]
    return "a video (MP4 or QuickTime)", "ffmpeg -i IN -frames:v 1 out.png"


def _text(head: bytes) -> tuple[str, str] | None:
    """A text that came in place of a picture."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    sent = "as a server sends it in place of a picture (an error"
    if b"<svg" in start:
        return "an SVG drawing", "rsvg-convert -o out.png IN"
    if re.match(rb"<(!doctype html|html|head|body|script)", start) or b"<html" in start:
        return f"an HTML page, {sent} or a log-in)", _AGAIN
    if start.startswith(b"<?xml") or (start.startswith(b"<") and b">" in start):
        return f"an XML text, {sent})", _AGAIN
    if start[:1] in (b"{", b"["):
        return f"a JSON text, {sent})", _AGAIN
    try:
        text = head.decode("utf-8", "strict" if len(head) < _HEAD else "ignore")
    except UnicodeDecodeError:
        return None
    printable = all(c.isprintable() or c in "\r\n\t" for c in text)
    return ("a text", "") if text and printable else None


def _tags(data: bytes) -> dict[int, int]:
    """The first value of each tag that tells a TIFF's layout, 0 where that is no integer."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = io.BytesIO(data)
    try:
        directory = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
        file.seek(directory.next)
        directory.load(file)
        values = {tag: directory[tag] for tag in _TAGS if tag in directory}
    except MemoryError:
        raise
    except Exception:  # a foreign file's directory may be anything; its decoder says what is wrong
        return {}
    firsts = {tag: value[0] if isinstance(value, tuple) else value for tag, value in values.items()}
    return {tag: first if isinstance(first, int) else 0 for tag, first in firsts.items()}


def _tiff_layout(values: Mapping[int, int], *, opened: bool) -> str:
    """How the pixels of a TIFF are stored that is not read here, and what to run; "" without a
    directory, or where the layout is not at fault."""
    if not values or (opened and values.get(_COMPRESSION, 1) in _DECODED):
        return ""
    words = _kinds()["tiff"]

    def word(table: str, tag: int, default: int, unknown: str) -> str:
        code = values.get(tag, default)
        return str(words[table].get(str(code), f"{unknown} {code}"))

    bands, bits, kind = (values.get(tag, 1) for tag in (_SAMPLES, _BITS, _FORMAT))
    colours = values.get(_PHOTOMETRIC, 0)
    layout = (
        f"{bands} band{'s' if bands != 1 else ''} of {bits}-bit "
        f"{word('sample_formats', _FORMAT, 1, 'sample format')}, "
        f"{word('photometrics', _PHOTOMETRIC, 0, 'photometric')}, "
        f"{word('compressions', _COMPRESSION, 1, 'compression')}"
    )
    if bands == 2:
        remedy = "keep the first band: gdal_translate -b 1 IN out.tif"
    elif bands > 1 and colours not in (2, 5, 6):
        remedy = "choose red, green and blue: gdal_translate -b 3 -b 2 -b 1 -co PHOTOMETRIC=RGB"
        remedy += " IN out.tif"
    elif bands > 3:
        remedy = "keep red, green and blue: gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB"
        remedy += " IN out.tif"
    elif bands == 3 and (bits > 16 or kind not in (1, 4)):
        remedy = "run: gdal_translate -ot UInt16 -scale IN out.tif"
    elif bits > 16 or kind not in (1, 2, 4):
        remedy = "run: gdal_translate -ot Float32 IN out.tif"
    else:
        remedy = "run: gdal_translate IN out.tif, or tiffcp -c lzw IN out.tif"
    return f"is a TIFF in a layout that cannot be read ({layout}); {remedy}"


def _jpeg_layout(data: bytes) -> str:
    """Why a JPEG of a kind that no decoder here reads is refused, and what to run; "" for a usual
    one."""
    match = _JPEG_FRAME.search(data[: 1 << 16])
    if match is None:
        return ""
    marker, bits = match[1][0], match[2][0]
    png = "gdal_translate -of PNG"
    if marker == 0xF7:
        return "is a JPEG-LS image, which cannot be read; run: magick IN out.png, or dcmdjpls"
    if marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        kind = "is a lossless or hierarchical JPEG"
        return f"{kind}, which cannot be read; run: {png} IN out.png"
    if bits != 8:
        kind = f"is a JPEG of {bits} bits a channel; only 8 bits can be read"
        return f"{kind}; run: {png} -ot UInt16 IN out.png"
    return ""
