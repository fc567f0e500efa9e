"""A JPEG or PNG that lacks its last bytes, given an end so that a decoder takes what is there."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

from trustvlm.types.remarks import Remark

__all__ = ["COMPLETED", "LACKS_END", "completed", "completion_bytes", "lacks_end"]

COMPLETED = Remark("cut off before the end, the missing part filled", named=True)
LACKS_END = (
    "its last bytes are missing, as after an interrupted download or copy: fetch it "
    "again, or read the part that is there "
    "with accept_truncated"
)

_PIECE = 64 << 10
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_PASSES = (
    (0, 0, 8, 8),
    (4, 0, 8, 8),
    (0, 4, 4, 8),
    (2, 0, 4, 4),
    (0, 2, 2, 4),
    (1, 0, 2, 2),
    (0, 1, 1, 2),
)
"""First column and row of each pass of an interlaced PNG, and the steps between them."""


def lacks_end(data: bytes, format_name: str) -> bool:
    """Whether a JPEG or PNG without its metadata stops before its end."""
    if format_name == "JPEG":
        return b"\xff\xd9" not in data
    return format_name == "PNG" and data[-8:-4] != b"IEND"


def completion_bytes(data: bytes, format_name: str) -> int:
    """Bytes of memory that :func:`completed` takes. Raises ValueError or struct.error for a header
    that is none."""
    return 0 if format_name == "JPEG" else 3 * _unpacked_bytes(_header(data))


def completed(data: bytes, format_name: str) -> bytes:
    """The file with an end; missing rows of a PNG are zero, those of a JPEG are what its decoder
    makes of none.

    Raises:
        ValueError: it ends before its first pixels.
    """
    if format_name == "JPEG":
        return data + b"\xff\xd9"
    size = _unpacked_bytes(_header(data))
    chunks = list(_chunks(data))
    raw = _unpacked(b"".join(body for kind, body in chunks if kind == b"IDAT"), size)
    if not raw:
        raise ValueError("it ends before its first pixels")
    kept = [(kind, body) for kind, body in chunks if kind not in (b"IDAT", b"IEND")]
    parts = [*kept, (b"IDAT", zlib.compress(raw.ljust(size, b"\0"), 1)), (b"IEND", b"")]
    return data[:8] + b"".join(_chunk(kind, body) for kind, body in parts)


def _unpacked(packed: bytes, size: int) -> bytes:
    """At most `size` bytes of what `packed` holds, up to where it breaks off or is damaged."""
    unpacker, raw = zlib.decompressobj(), bytearray()
    for at in range(0, len(packed), _PIECE):
        if len(raw) >= size:
            break
        try:
            raw += unpacker.decompress(packed[at : at + _PIECE], size - len(raw))
        except zlib.error:
            break
    return bytes(raw)


def _header(data: bytes) -> bytes:
    return next((body for kind, body in _chunks(data) if kind == b"IHDR"), b"")


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _unpacked_bytes(header: bytes) -> int:
    """Bytes of all rows of a PNG, each with its filter byte."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    bits = depth * _CHANNELS[colour]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    total = 0
    for left, top, right, down in passes:
        columns, rows = -(-max(0, width - left) // right), -(-max(0, height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns else 0
    return total
