"""Layouts of JPEG and TIFF that no decoder here reads, in words, and what to run."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping

__all__ = ["layout_of", "refused_tiff"]

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT = 258, 259, 262, 277, 339
_SUBFILE, _PLANES, _SUB_IMAGES, _EXTRA, _DNG = 254, 284, 330, 338, 50706
_TAGS = (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _FORMAT, _SUBFILE, _PLANES, _SUB_IMAGES)
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# fmt: off
_COMPRESSIONS = {
    1: "no compression", 2: "CCITT RLE", 3: "CCITT Group 3", 4: "CCITT Group 4", 5: "LZW",
    6: "old-style JPEG", 7: "JPEG", 8: "Deflate", 32773: "PackBits", 32946: "Deflate",
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 34925: "LZMA",
    50000: "Zstandard", 50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 33003: "JPEG 2000",
    33005: "JPEG 2000", 34892: "lossy JPEG", 34933: "PNG", 34934: "JPEG XR",
    65000: "Eastman Kodak",
}
_FORMATS = {
    1: "unsigned integers", 2: "signed integers", 3: "floating point", 4: "unknown kind",
    5: "complex integers", 6: "complex floating point",
}
_PHOTOMETRICS = {
    0: "grey (white is zero)", 1: "grey", 2: "RGB", 3: "palette", 4: "mask", 5: "CMYK", 6: "YCbCr",
    8: "Lab", 9: "ICC Lab", 10: "ITU Lab", 32803: "colour filter array", 32844: "LogL",
    32845: "LogLuv", 34892: "linear RAW",
}
# fmt: on
_DECODED = (1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)  # compressions whose failure means damage
_RAW = (
    "is a camera RAW file ({}), only its preview can be read; run: dcraw -w -T IN, or "
    "darktable-cli IN out.png"
)
_FRAME = re.compile(rb"\xff([\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf\xf7])..(.)", re.DOTALL)


def layout_of(data: bytes, *, opened: bool = False) -> str:
    """What keeps a JPEG or TIFF from being read here, and what to run; "" where that is nothing
    special.

    With `opened`, the header was understood and the pixels were not.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg_layout(data)
    return _tiff_layout(_tags(data), opened=opened) if data[:4] in _TIFF else ""


def _tags(data: bytes) -> dict[int, int]:
    """The first value of each tag that tells a TIFF's layout, 0 where that is no whole number."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    file = io.BytesIO(data)
    try:
        directory = ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
        file.seek(directory.next)
        directory.load(file)
        values = {tag: directory[tag] for tag in (*_TAGS, _EXTRA, _DNG) if tag in directory}
    except MemoryError:
        raise
    except Exception:  # a foreign file's directory may be anything; its decoder says what is wrong
        return {}
    firsts = {tag: value[0] if isinstance(value, tuple) else value for tag, value in values.items()}
    return {tag: first if isinstance(first, int) else 0 for tag, first in firsts.items()}


def refused_tiff(data: bytes) -> str:
    """Why a TIFF that Pillow would decode is not read here, and what to run; "" for any other file.

    A camera's RAW file shows a small preview first and has the picture in a sub-image. Of planes of
    16 bits that are compressed, or of four of them, Pillow gives upper bytes only.
    """
    if data[:4] not in _TIFF:
        return ""
    values = _tags(data)
    bands = values.get(_SAMPLES, 1)
    deep_planes = values.get(_PLANES) == 2 and bands > 1 and values.get(_BITS, 1) > 8
    if deep_planes and (values.get(_COMPRESSION, 1) > 1 or (bands > 3 and values.get(_EXTRA, 1))):
        return (
            "is a TIFF with 16-bit bands stored separately, which cannot be read; run: "
            "tiffcp -p contig -c none IN out.tif"
        )
    if data[8:11] == b"CR\2":
        return _RAW.format("Canon CR2")
    if _DNG in values:
        return _RAW.format("DNG")
    if values.get(_PHOTOMETRIC) in (32803, 34892) or (
        values.get(_SUBFILE, 0) & 1 and _SUB_IMAGES in values
    ):
        return _RAW.format("TIFF with a preview, such as NEF, ARW, SRW, PEF")
    return ""


def _tiff_layout(values: Mapping[int, int], *, opened: bool) -> str:
    """How the pixels of a TIFF are stored that is not read here, and what to run; "" without a
    directory.

    With `opened`, its directory was understood and its pixels were not: "" where that is not the
    layout's fault.
    """
    if not values or (opened and values.get(_COMPRESSION, 1) in _DECODED):
        return ""
    bands, bits = values.get(_SAMPLES, 1), values.get(_BITS, 1)
    compression = _COMPRESSIONS.get(
        values.get(_COMPRESSION, 1), f"compression {values.get(_COMPRESSION)}"
    )
    kind = _FORMATS.get(values.get(_FORMAT, 1), f"sample format {values.get(_FORMAT)}")
    photometric = _PHOTOMETRICS.get(
        values.get(_PHOTOMETRIC, 0), f"photometric {values.get(_PHOTOMETRIC)}"
    )
    layout = (
        f"{bands} band{'s' if bands != 1 else ''} of {bits}-bit {kind}, {photometric}, "
        f"{compression}"
    )
    if bands == 2:
        remedy = "keep the first band: gdal_translate -b 1 IN out.tif"
    elif bands > 1 and values.get(_PHOTOMETRIC) not in (2, 5, 6):
        remedy = (
            "choose red, green and blue: gdal_translate -b 3 -b 2 -b 1 -co PHOTOMETRIC=RGB "
            "IN out.tif"
        )
    elif bands > 3:
        remedy = (
            "keep red, green and blue: gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB IN out.tif"
        )
    elif bands == 3 and (bits > 16 or values.get(_FORMAT, 1) not in (1, 4)):
        remedy = "run: gdal_translate -ot UInt16 -scale IN out.tif"
    elif bits > 16 or values.get(_FORMAT, 1) not in (1, 2, 4):
        remedy = "run: gdal_translate -ot Float32 IN out.tif"
    else:
        remedy = "run: gdal_translate IN out.tif, or tiffcp -c lzw IN out.tif"
    return f"is a TIFF in a layout that cannot be read ({layout}); {remedy}"


def _jpeg_layout(data: bytes) -> str:
    """Why a JPEG of a kind that no decoder here reads is refused, and what to run; "" for a usual
    one."""
    match = _FRAME.search(data[: 1 << 16])
    if match is None:
        return ""
    marker, bits = match[1][0], match[2][0]
    if marker == 0xF7:
        return "is a JPEG-LS image, which cannot be read; run: magick IN out.png, or dcmdjpls"
    if marker in (0xC3, 0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF):
        return (
            "is a lossless or hierarchical JPEG, which cannot be read; run: gdal_translate "
            "-of PNG IN out.png"
        )
    if bits != 8:
        return (
            f"is a JPEG of {bits} bits a channel; only 8 bits can be read; run: "
            f"gdal_translate -of PNG -ot UInt16 IN out.png"
        )
    return ""
