"""TIFF and PNG files of any layout, byte by byte: Pillow writes few of those that there are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["png", "tiff"]

_TYPES = {1: "u", 2: "i", 3: "f"}


def png(pixels: npt.NDArray[Any]) -> bytes:
    """A PNG of 16 bits a channel: (h, w) grey, (h, w, 2) grey and opacity, (h, w, 3) colour, (h, w,
    4) colour and opacity."""
    height, width = pixels.shape[:2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[1 if pixels.ndim == 2 else pixels.shape[2]]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def tiff(
    pixels: npt.NDArray[Any],
    *,
    bits: int = 8,
    photometric: int = 1,
    extra: Sequence[int] | None = None,
    sample_format: int = 1,
    order: str = "<",
    planes: bool = False,
    deflate: bool = False,
    tags: Sequence[tuple[int, int, list[int] | bytes]] = (),
) -> bytes:
    """A TIFF of (h, w) or (h, w, bands) `pixels`.

    Args:
        extra: the values of ExtraSamples; None: the tag is left out. sample_format: 1 unsigned, 2
            signed, 3 floating point.
        order: "<" or ">". planes: each band on its own. deflate: compressed. tags: further ones, as
            (tag, type, values).
    """
    height, width = pixels.shape[:2]
    bands = 1 if pixels.ndim == 2 else pixels.shape[2]
    stored = np.moveaxis(pixels, 2, 0) if planes else pixels
    raw_strips = [
        band.astype(f"{order}{_TYPES[sample_format]}{bits // 8}").tobytes()
        for band in (stored if planes else [stored])
    ]
    blocks = [zlib.compress(strip) for strip in raw_strips] if deflate else raw_strips
    strips = len(blocks)
    entries: list[tuple[int, int, list[int] | bytes]] = [
        (256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * bands), (259, 3,
        [8 if deflate else 1]),
        (262, 3, [photometric]), (273, 4, [0] * strips), (277, 3, [bands]), (278, 4, [height]),
        (279, 4, [len(block) for block in blocks]),
        (284, 3, [2 if planes else 1]), (339, 3, [sample_format] * bands), *tags,
    ]  # fmt: skip
    if extra is not None:
        entries.append((338, 3, list(extra)))
    entries.sort(key=lambda entry: entry[0])
    outside = 8 + 2 + 12 * len(entries) + 4
    start = outside + sum(
        len(raw) for _, kind, values in entries if len(raw := _raw(values, kind, order)) > 4
    )
    directory, far = b"", b""
    for tag, kind, values in entries:
        if tag == 273:
            values = [start + sum(map(len, blocks[:i])) for i in range(strips)]
        raw = _raw(values, kind, order)
        inline = (
            raw.ljust(4, b"\0") if len(raw) <= 4 else struct.pack(f"{order}I", outside + len(far))
        )
        far += raw if len(raw) > 4 else b""
        directory += struct.pack(f"{order}HHI", tag, kind, len(values)) + inline
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + directory + bytes(4) + far + b"".join(blocks)


def _raw(values: list[int] | bytes, kind: int, order: str) -> bytes:
    if isinstance(values, bytes):
        return values
    return b"".join(struct.pack(order + {3: "H", 4: "I"}[kind], value) for value in values)
