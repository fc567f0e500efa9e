"""Arrays from the bytes of an .npz file: plain numbers and strings only, and no more memory than
the limit says."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from functools import lru_cache
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput

_BROKEN = (
    OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError,
    RuntimeError, SyntaxError,
    OverflowError, TypeError, KeyError,
)  # fmt: skip
_MOST_ARRAYS = 16
_HEADER = 10_000
_LOCAL = struct.Struct("<4s22xHH")
"""The header in front of a member of a ZIP file: its magic, the lengths of name and extra field."""
_START = 12
"""Bytes of an .npy file that hold its magic, its version and the length of its header."""


def read_arrays(data: bytes, most_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name.

    Raises:
        InvalidInput: not an .npz file, damaged, an array of Python objects, two arrays of one name,
            or more than `most_bytes` when unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise InvalidInput(
                    f"body: expected at most {_MOST_ARRAYS} arrays, got {len(members)}"
                )
            left, arrays = most_bytes, dict[str, npt.NDArray[Any]]()
            for member in members:
                name = member.filename.removesuffix(".npy")
                if name in arrays:
                    raise InvalidInput(f"body: two arrays are named {name:.80}")
                with _opened(archive, data, member) as file:
                    array = _array(file, member.filename, left)
                arrays[name] = array
                left -= array.nbytes
            return arrays
    except InvalidInput:
        raise
    except _BROKEN as error:
        raise InvalidInput(
            "body: expected arrays saved with numpy.savez (.npz), got something else or damage"
        ) from error


def _opened(archive: zipfile.ZipFile, data: bytes, member: zipfile.ZipInfo) -> IO[bytes]:
    """The file of a member. One that numpy.savez wrote, uncompressed, is taken as it lies in data:
    zipfile takes ten times as long for a small one."""
    content = _stored(data, member)
    return archive.open(member) if content is None else io.BytesIO(content)


def _stored(data: bytes, member: zipfile.ZipInfo) -> bytes | None:
    """The content of an uncompressed member, whose sum is right; None for any other member."""
    name_at = member.header_offset + _LOCAL.size
    head = data[member.header_offset : name_at]
    if member.compress_type != zipfile.ZIP_STORED or member.flag_bits or len(head) < _LOCAL.size:
        return None
    magic, name_bytes, extra_bytes = _LOCAL.unpack(head)
    start = name_at + name_bytes + extra_bytes
    content = data[start : start + member.file_size]
    name = data[name_at : name_at + name_bytes]
    if magic != b"PK\3\4" or name != member.orig_filename.encode():
        return None
    checks = len(content) == member.compress_size and zlib.crc32(content) == member.CRC
    return content if checks else None


def _array(file: IO[bytes], name: str, most_bytes: int) -> npt.NDArray[Any]:
    start = file.read(_START)
    length_bytes = 2 if start[6:7] == b"\x01" else 4
    length = int.from_bytes(start[8 : 8 + length_bytes], "little")
    if length > _HEADER:
        raise InvalidInput(f"body: {name}: its header has {length} bytes, more than {_HEADER}")
    shape, fortran, dtype = _parsed(start + file.read(8 + length_bytes + length - _START))
    if dtype.kind not in "biufU":
        raise InvalidInput(f"body: {name} holds {dtype}, expected numbers or strings")
    size = math.prod(shape) * dtype.itemsize  # a header may claim any shape
    if size > most_bytes:
        raise InvalidInput(
            f"body: its arrays have more than {most_bytes} bytes when unpacked, the limit"
        )
    content = file.read(size + 1)
    if len(content) != size:
        raise InvalidInput(f"body: {name} does not hold the {size} bytes that its header says")
    return np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")


@lru_cache(256)
def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype of an array, from the beginning of its .npy file. Results are kept:
    NumPy parses a header as Python source, and a client mostly sends arrays of one shape."""
    file = io.BytesIO(header)
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file, max_header_size=_HEADER)
