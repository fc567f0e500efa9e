"""A TIFF file with one directory that holds the tags of its pixels and no others.

A directory can name any number of further ones and of tags that each claim the whole file as their
value, and a tile can be larger than the image: all of that a decoder would follow.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

__all__ = ["MAX_BLOCKS", "MAX_BLOCK_BYTES", "StrippedTiff", "strip_tiff"]

MAX_BLOCK_BYTES = 512 * 2**20
"""A strip or tile, unpacked; it may be the whole image."""
MAX_BLOCKS = 100_000
"""Strips or tiles; the tallest image accepted has 100,000 rows."""
_MAX_TAGS = 4_096
_MAX_TAG_BYTES = 4 * 2**20

_WIDTH, _HEIGHT, _BITS, _STRIPS, _SAMPLES, _ROWS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = (
    256,
    257,
    258,
    273,
    277,
    278,
    322,
    323,
    324,
)
_KEPT = frozenset({
    254, _WIDTH, _HEIGHT, _BITS, 259, 262, 266, _STRIPS, 274, _SAMPLES, _ROWS, 279, 284, 292, 293,
    317, 320,
    _TILE_WIDTH, _TILE_HEIGHT, _TILES, 325, 338, 339, 347, 512, 513, 514, 515, 517, 518, 519, 520,
    521, 529, 530, 531,
    532, 42113,
})  # fmt: skip
_SIZES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}


_READ = _KEPT | {330, 50706}  # whether it is a camera's RAW file shows in these


@dataclass(frozen=True)
class StrippedTiff:
    """A TIFF for a decoder.

    Attributes:
        data: the file with its directory shortened.
        block: bytes of its largest strip or tile.
        values: tag → its first value, 0 where that is no whole number; of the tags of its pixels,
            and of sub-images.
    """

    data: bytes
    block: int = 0
    values: dict[int, int] = field(default_factory=dict)

    @property
    def deep_colour(self) -> bool:
        """Whether its colours have more than 8 bits."""
        return self.values.get(_BITS, 1) > 8 and self.values.get(_SAMPLES, 1) > 1


def strip_tiff(data: bytes) -> StrippedTiff:
    """The TIFF `data` with one short directory.

    Raises:
        ValueError: too many or too large blocks, or tags that claim more than any image needs.
    """
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or len(data) < 16:
        return StrippedTiff(data)
    big = 43 in data[2:4]
    number, count_of, entry = (
        (order + "Q", "Q", order + "HHQ8s") if big else (order + "I", "H", order + "HHI4s")
    )
    offset_at = 8 if big else 4
    start = struct.unpack_from(number, data, offset_at)[0]
    step, first = struct.calcsize(entry), start + struct.calcsize(order + count_of)
    if first > len(data):
        return StrippedTiff(data)
    count = struct.unpack_from(order + count_of, data, start)[0]
    if count > _MAX_TAGS:
        raise ValueError(f"has a directory of {count} tags, more than the limit of {_MAX_TAGS}")
    entries: dict[int, bytes] = {}
    values: dict[int, int] = {}
    claimed = 0
    for at in range(first, min(first + count * step, len(data) - step + 1), step):
        tag, kind, length, inline = struct.unpack_from(entry, data, at)
        if tag not in _READ:
            continue
        size = length * _SIZES.get(kind, 1)
        claimed += size if tag not in values else 0
        if claimed > _MAX_TAG_BYTES or (tag in (_STRIPS, _TILES) and length > MAX_BLOCKS):
            raise ValueError(
                f"has tags of more than {_MAX_TAG_BYTES} bytes, or more than {MAX_BLOCKS} "
                f"strips or tiles"
            )
        if tag in _KEPT:
            entries[tag] = data[at : at + step]
        values[tag] = _first(data, order, kind, size, inline, number)
    block = _block_bytes(values)
    if block > MAX_BLOCK_BYTES:
        raise ValueError(
            f"has strips or tiles of {block} bytes, more than the limit of {MAX_BLOCK_BYTES}"
        )
    # In place of the old directory, so that no strip finds more bytes than the file had; and no
    # directory follows.
    body = struct.pack(order + count_of, len(entries)) + b"".join(
        entries[tag] for tag in sorted(entries)
    )
    body += bytes(struct.calcsize(number))
    return StrippedTiff(data[:start] + body + data[start + len(body) :], block, values)


def _first(data: bytes, order: str, kind: int, size: int, inline: bytes, number: str) -> int:
    """The first value of a tag of whole numbers; 0 where there is none."""
    form = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q"}.get(kind)
    if form is None or not size:
        return 0
    at, where = (0, inline) if size <= len(inline) else (struct.unpack(number, inline)[0], data)
    if at + struct.calcsize(order + form) > len(where):
        return 0
    return int(struct.unpack_from(order + form, where, at)[0])


def _block_bytes(values: dict[int, int]) -> int:
    width, height = values.get(_WIDTH, 0), values.get(_HEIGHT, 0)
    if _TILES in values or _TILE_WIDTH in values:
        pixels = values.get(_TILE_WIDTH, 0) * values.get(_TILE_HEIGHT, 0)
    else:
        pixels = width * min(values.get(_ROWS) or height, height)
    return pixels * max(values.get(_SAMPLES, 1), 1) * max(values.get(_BITS, 1), 1) // 8
