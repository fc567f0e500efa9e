"""An AVIF file for a decoder: without its EXIF block, and with the size that its coded pictures
really have.

The header of the file says one size and each coded picture another; libavif takes memory for the
latter before it compares them. EXIF goes to a reader that follows every offset in it. AV1 is
specified in "AV1 Bitstream & Decoding Process", §5.5.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["StrippedAvif", "strip_avif"]

_MAX_BOXES = 10_000
_MADE = (
    12.0  # bytes a pixel of what is made of a coded picture; measured: 9 in all, 14 with opacity
)
_SEQUENCE_HEADER = 1  # the type of an OBU


@dataclass(frozen=True)
class StrippedAvif:
    """An AVIF for a decoder.

    Attributes:
        data: the file without its EXIF block. size: (width, height) of its largest picture, coded
            or shown.
        bytes_per_pixel: what decoding takes.
    """

    data: bytes
    size: tuple[int, int]
    bytes_per_pixel: float


class _Bits:
    """Reads bits from the first on; behind the end they are 0."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data), 8 * len(data)

    def take(self, count: int) -> int:
        self._left -= count
        return self._value >> self._left & (1 << count) - 1 if self._left >= 0 else 0


def strip_avif(data: bytes) -> StrippedAvif:
    """The AVIF `data`.

    Raises:
        ValueError: it is a sequence, damaged, or asks for too much to look at.
    """
    if data[8:12] == b"avis":
        raise ValueError(
            "is an AVIF sequence, whose frames cannot be read; run: ffmpeg -i IN -frames:v 1 "
            "out.png"
        )
    meta = next(
        ((start, end) for kind, start, end in _boxes(data, 0, len(data)) if kind == b"meta"), None
    )
    if meta is None:
        raise ValueError("has no meta box")
    inner = list(_boxes(data, meta[0] + 4, meta[1]))
    parts = {kind: (start, end) for kind, start, end in inner}
    types = _item_types(data, *parts.get(b"iinf", (0, 0)))
    sizes, depth = _properties(data, *parts.get(b"iprp", (0, 0)))
    budget = 2 * len(data)
    for item, coded in _items(data, parts):
        if types.get(item) != b"av01":
            continue
        budget -= len(coded)
        if budget < 0:
            raise ValueError("has items that share their bytes")
        sizes += list(_coded_sizes(coded))
    if not sizes:
        raise ValueError("has no picture")
    start, end = parts.get(b"iinf", (0, 0))
    plain = data[:start] + data[start:end].replace(b"Exif", b"none") + data[end:]
    return StrippedAvif(plain, max(sizes, key=lambda size: size[0] * size[1]), depth + _MADE)


def _boxes(data: bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(kind, start and end of its content) of each box between two places."""
    for _ in range(_MAX_BOXES):
        if start + 8 > end:
            return
        length, head = int.from_bytes(data[start : start + 4]), 8
        if length == 1:
            length, head = int.from_bytes(data[start + 8 : start + 16]), 16
        stop = end if length == 0 else start + length
        if (length and length < head) or stop > end:
            raise ValueError("has a box that is larger than the file")
        yield data[start + 4 : start + 8], start + head, stop
        start = stop
    raise ValueError(f"has more than {_MAX_BOXES} boxes")


def _item_types(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """Item → its type, from the box iinf."""
    found = {}
    first = start + (6 if data[start : start + 1] == b"\0" else 8)
    for kind, at, _ in _boxes(data, first, end):
        if kind == b"infe":
            wide = 4 if data[at] == 3 else 2
            found[int.from_bytes(data[at + 4 : at + 4 + wide])] = data[
                at + 6 + wide : at + 10 + wide
            ]
    return found


def _properties(data: bytes, start: int, end: int) -> tuple[list[tuple[int, int]], float]:
    """(the sizes that the file says, bytes a pixel of its largest kind of coded picture), from the
    box iprp."""
    sizes, depth = [], 1.5
    for kind, at, stop in _boxes(data, start, end):
        for inner, place, _ in _boxes(data, at, stop) if kind == b"ipco" else ():
            if inner == b"ispe":
                sizes.append(
                    (
                        int.from_bytes(data[place + 4 : place + 8]),
                        int.from_bytes(data[place + 8 : place + 12]),
                    )
                )
            elif inner == b"av1C":
                flags = data[place + 2]
                bands = 1.0 if flags & 16 else {12: 1.5, 8: 2.0}.get(flags & 12, 3.0)
                depth = max(depth, bands * (2 if flags & 64 else 1))
    return sizes, depth + 1  # and one for opacity


def _items(data: bytes, parts: dict[bytes, tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    """(item, its bytes), from the box iloc."""
    start, _ = parts.get(b"iloc", (0, 0))
    version = data[start]
    widths = data[start + 4] >> 4, data[start + 4] & 15, data[start + 5] >> 4, data[start + 5] & 15
    at = start + 6

    def take(width: int) -> int:
        nonlocal at
        at += width
        return int.from_bytes(data[at - width : at])

    wide = 4 if version == 2 else 2
    for _ in range(min(take(wide), _MAX_BOXES)):
        item = take(wide)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(widths[2]) + (parts.get(b"idat", (0, 0))[0] if method == 1 else 0)
        pieces, held = [], 0
        for _ in range(min(take(2), _MAX_BOXES)):
            take(widths[3] if version else 0)
            offset, length = base + take(widths[0]), take(widths[1])
            pieces.append(data[offset : offset + length] if length else data[offset:])
            held += len(pieces[-1])
            if held > 2 * len(data):
                raise ValueError("has items that share their bytes")
        yield item, b"".join(pieces)


def _coded_sizes(coded: bytes) -> Iterator[tuple[int, int]]:
    """The largest size of a picture by each sequence header among the OBUs of an item."""
    at = 0
    while at + 2 <= len(coded):
        head = coded[at]
        at += 2 if head & 4 else 1
        length, shift = len(coded) - at, 0
        if head & 2:
            length = 0
            while at < len(coded) and shift < 56:
                byte = coded[at]
                length |= (byte & 127) << shift
                at, shift = at + 1, shift + 7
                if byte < 128:
                    break
        if head >> 3 & 15 == _SEQUENCE_HEADER:
            yield _sequence_size(coded[at : at + length])
        at += length


def _sequence_size(header: bytes) -> tuple[int, int]:
    bits = _Bits(header[:64])
    bits.take(4)
    reduced = bits.take(1)
    if reduced:
        bits.take(5)
    else:
        if bits.take(1):
            raise ValueError("has timing information, as no still picture has")
        bits.take(1)
        for _ in range(bits.take(5) + 1):
            bits.take(12)
            if bits.take(5) > 7:
                bits.take(1)
    wide, high = bits.take(4) + 1, bits.take(4) + 1
    if reduced:
        return bits.take(wide) + 1, bits.take(high) + 1
    return 1 << wide, 1 << high  # each frame may have a size of its own, up to what these bits hold
