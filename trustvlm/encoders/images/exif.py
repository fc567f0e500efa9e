"""The orientation of an image, found in its EXIF or XMP block without reading anything else of it.

A full EXIF reader follows what a block says: tags that each claim the whole file as their value
cost gigabytes.
"""

from __future__ import annotations

import re
import struct

__all__ = ["exif_orientation", "xmp_orientation"]

_ORIENTATION = 0x0112
_MAX_TAGS = 1_000  # cameras write about 50
_XMP = re.compile(rb"tiff:Orientation(?:=[\"']|>)([1-8])")


def exif_orientation(block: bytes) -> int:
    """1 to 8 as an EXIF block says; 1 where it says nothing, or nothing that can be read."""
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 10:
        return 1
    start = struct.unpack_from(order + "I", block, 4)[0]
    if start + 2 > len(block):
        return 1
    count = struct.unpack_from(order + "H", block, start)[0]
    for at in range(start + 2, start + 2 + 12 * min(count, _MAX_TAGS), 12):
        if at + 12 > len(block):
            return 1
        tag, kind, values = struct.unpack_from(order + "HHI", block, at)
        if tag == _ORIENTATION and values == 1 and kind in (3, 4):
            value = int(struct.unpack_from(order + ("H" if kind == 3 else "I"), block, at + 8)[0])
            return value if 1 <= value <= 8 else 1
    return 1


def xmp_orientation(block: bytes) -> int:
    """1 to 8 as an XMP block says; 1 where it says nothing."""
    found = _XMP.search(block)
    return int(found[1]) if found else 1
