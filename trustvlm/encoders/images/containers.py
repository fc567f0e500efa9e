"""What of an image file a decoder needs: its pixels, and nothing that could make decoding them
costly.

Invariants: nothing here is inflated, and no number in the file decides how much memory is taken or
how long a loop runs. Metadata (comments, text, colour profiles, EXIF, further frames) is left out,
so that a bomb in it is never met; only the orientation is read. What remains gives the same pixels.
What is no such file is handed on as it is: the decoder will say so.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from trustvlm.encoders.images.avif import strip_avif
from trustvlm.encoders.images.exif import exif_orientation, xmp_orientation
from trustvlm.encoders.images.layouts import refused_tiff
from trustvlm.encoders.images.tiff import strip_tiff

__all__ = ["MAX_BLOCKS", "MAX_PARTS", "MAX_SCANS", "Costly", "Foreign", "Stripped", "strip"]

MAX_PARTS = 100_000
"""Segments, chunks or blocks of one file; large photographs have some hundred."""
MAX_SCANS = 100
"""Scans of one JPEG: each costs a pass over the whole image. Progressive ones have about ten."""
MAX_BLOCKS = 300_000
"""Blocks of at most 255 bytes in front of a GIF's first frame: they hold the largest file
accepted."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
_PLAIN = 8.0  # bytes a pixel: what the decoder gives and its RGB copy, 4 each
_DEEP = 16.0  # 16-bit colour is decoded twice, for the upper and the lower bytes
_WEBP = 20.0  # measured: libwebp's canvases and Pillow's copies of them


class Costly(ValueError):
    """Decoding the file would cost more than any sensible image does; the message says what."""


class Foreign(ValueError):
    """The file is of a kind that is not read though a decoder would take it; the message says
    which, and what to run."""


@dataclass(frozen=True)
class Stripped:
    """What to decode.

    Attributes:
        data: the file without metadata.
        orientation: 1 to 8, how the pixels are to be turned after decoding.
        bytes_per_pixel: what decoding takes at most.
        extra_bytes: and what it takes besides, whatever the number of pixels.
        size: (width, height), for a format whose decoder takes memory before it says so.
    """

    data: bytes
    orientation: int = 1
    bytes_per_pixel: float = _PLAIN
    extra_bytes: int = 0
    size: tuple[int, int] | None = None


def strip(data: bytes, format_name: str) -> Stripped:
    """The file `data` of a format as Pillow names it.

    Raises:
        Costly: too many parts or scans, or blocks that are too large. Foreign: a TIFF that is not
            read.
    """
    match format_name:
        case "JPEG":
            return _jpeg(data)
        case "PNG":
            return _png(data)
        case "GIF":
            return Stripped(_gif(data))
        case "WEBP":
            return _webp(data)
        case "TIFF":
            return _tiff(data)
        case "AVIF":
            return _avif(data)
    return Stripped(data)


def _tiff(data: bytes) -> Stripped:
    try:
        tiff = strip_tiff(data)
    except ValueError as error:
        raise Costly(refused_tiff(data, {}) or str(error)) from error
    refused = refused_tiff(data, tiff.values)
    if refused:
        raise Foreign(refused)
    # Pillow turns it by the orientation that stays in it
    return Stripped(
        tiff.data, bytes_per_pixel=_DEEP if tiff.deep_colour else _PLAIN, extra_bytes=tiff.block
    )


def _avif(data: bytes) -> Stripped:
    try:
        avif = strip_avif(data)
    except (ValueError, IndexError) as error:
        raise Costly(
            str(error) if isinstance(error, ValueError) else "has a damaged AVIF header"
        ) from error
    return Stripped(avif.data, bytes_per_pixel=avif.bytes_per_pixel, size=avif.size)


def _jpeg(data: bytes) -> Stripped:
    """JFIF and Adobe segments decide about colours and stay; the other application segments and
    comments go."""
    kept, at, orientation, parts = [data[:2]], 2, 1, 0
    layers: list[int] = []
    buffered = False
    while (found := _MARKER.search(data, at)) is not None:
        parts += 1
        if parts > MAX_PARTS:
            raise Costly(f"has more than {MAX_PARTS} segments")
        marker, start = data[found.start() + 1], found.start()
        length = int.from_bytes(data[start + 2 : start + 4], "big")
        at = start + (2 if marker in (0x01, 0xD8, 0xD9) else 2 + length)
        body = data[start + 4 : at]
        if marker == 0xDA:
            scans = _scans(data, at)
            if scans > MAX_SCANS:
                raise Costly(f"has {scans} scans, more than the limit of {MAX_SCANS}")
            if (
                buffered or scans > 1 or (body and body[0] < len(layers))
            ):  # all coefficients are kept, two bytes each
                largest = max(layers, default=1)
                cost = 4.0 + 2.0 * sum(layers) / max(largest, 1)
                return Stripped(b"".join(kept) + data[start:], orientation, max(_PLAIN, cost))
            return Stripped(b"".join(kept) + data[start:], orientation)
        if marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = exif_orientation(body) if orientation == 1 else orientation
        elif marker == 0xE1 and body.startswith(_JPEG_XMP):
            orientation = xmp_orientation(body) if orientation == 1 else orientation
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            layers = [(part >> 4) * (part & 15) for part in body[7::3]]
            buffered = marker not in (0xC0, 0xC1, 0xC9)
        if not (0xE1 <= marker <= 0xEF or marker == 0xFE) or marker == 0xEE:
            kept.append(data[start:at])
    return Stripped(data)  # no scan: no image


def _scans(data: bytes, at: int) -> int:
    """How many scans there are from the first on, whose data begin at `at`; stops counting behind
    the limit."""
    scans = parts = 1
    while (
        scans <= MAX_SCANS
        and parts <= MAX_PARTS
        and (found := _MARKER.search(data, at)) is not None
    ):
        marker, start = data[found.start() + 1], found.start()
        if marker == 0xD9:
            break
        parts, scans = parts + 1, scans + (marker == 0xDA)
        at = start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    if parts > MAX_PARTS:
        raise Costly(f"has more than {MAX_PARTS} segments")
    return scans


def _png(data: bytes) -> Stripped:
    """Critical chunks and transparency stay."""
    kept, at, orientation = [data[:8]], len(_PNG_SIGNATURE), 1
    for _ in range(MAX_PARTS):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        if len(kind) < 4:
            break
        end = at + 12 + length
        if kind == b"eXIf":
            orientation = exif_orientation(data[at + 8 : end - 4])
        elif (
            kind == b"iTXt"
            and data[at + 8 : at + 26] == b"XML:com.adobe.xmp\0"
            and orientation == 1
        ):
            orientation = xmp_orientation(data[at + 8 : end - 4])
        elif not kind[0] & 0x20 or kind == b"tRNS":
            kept.append(data[at:end])
        at = end
        if kind == b"IEND":
            break
    else:
        raise Costly(f"has more than {MAX_PARTS} chunks")
    deep = data[24:26] in (b"\x10\2", b"\x10\4", b"\x10\6")  # 16 bits, and more than grey
    return Stripped(b"".join(kept), orientation, _DEEP if deep else _PLAIN)


def _gif(data: bytes) -> bytes:
    """The head, the graphic control of the first frame, and all from that frame on; no decoder
    reads on behind it."""
    if len(data) < 13:
        return data
    head = 13 + (3 << ((data[10] & 7) + 1) if data[10] & 0x80 else 0)
    at, control, blocks = head, b"", 0
    while blocks < MAX_BLOCKS:
        blocks += 1
        kind = data[at : at + 1]
        if kind != b"!":
            if kind in (b",", b";", b""):
                return data[:head] + control + data[at:]
            at += 1  # stray bytes between blocks are passed over, as decoders do
            continue
        label, start, at = data[at + 1 : at + 2], at, at + 2
        while blocks < MAX_BLOCKS and (size := data[at : at + 1]) not in (b"", b"\0"):
            blocks, at = blocks + 1, at + 1 + size[0]
        at += 1
        if label == b"\xf9":
            control = data[start:at]
    raise Costly(f"has more than {MAX_BLOCKS} blocks in front of its first frame")


def _webp(data: bytes) -> Stripped:
    size, kind = None, data[12:16]
    if kind == b"VP8X" and len(data) >= 30:
        size = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    elif kind == b"VP8L" and len(data) >= 25:
        bits = int.from_bytes(data[21:25], "little")
        size = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    elif kind == b"VP8 " and len(data) >= 30:
        width, height = struct.unpack_from("<HH", data, 26)
        size = width & 0x3FFF, height & 0x3FFF
    at, orientation = 12, 1
    for _ in range(MAX_PARTS):
        name, length = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        if len(name) < 4:
            return Stripped(data, orientation, _WEBP, size=size)
        if name == b"EXIF":
            orientation = exif_orientation(data[at + 8 : at + 8 + length])
        elif name == b"XMP " and orientation == 1:
            orientation = xmp_orientation(data[at + 8 : at + 8 + length])
        at += 8 + length + (length & 1)
    raise Costly(f"has more than {MAX_PARTS} chunks")
