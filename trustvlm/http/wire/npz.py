"""Arrays from the bytes of an .npz file: plain numbers and strings only, and no more memory than
the limit says."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from functools import lru_cache
from typing import Any

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
_START = 12
"""Bytes of an .npy file that hold its magic, its version and the length of its header."""


def read_arrays(data: bytes, most_bytes: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name.

    Raises:
        InvalidInput: not an .npz file, damaged, an array of Python objects, or more than
            `most_bytes` when unpacked.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if len(members) > _MOST_ARRAYS:
                raise InvalidInput(
                    f"body: expected at most {_MOST_ARRAYS} arrays, got {len(members)}"
                )
            left, arrays = most_bytes, {}
            for member in members:
                array = _array(archive, member, left)
                arrays[member.filename.removesuffix(".npy")] = array
                left -= array.nbytes
            return arrays
    except InvalidInput:
        raise
    except _BROKEN as error:
        raise InvalidInput(
            "body: expected arrays saved with numpy.savez (.npz), got something else or damage"
        ) from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, most_bytes: int) -> npt.NDArray[Any]:
    with archive.open(member) as file:
        start = file.read(_START)
        length_bytes = 2 if start[6:7] == b"\x01" else 4
        length = int.from_bytes(start[8 : 8 + length_bytes], "little")
        if length > _HEADER:
            raise InvalidInput(
                f"body: {member.filename}: its header has {length} bytes, more than {_HEADER}"
            )
        shape, fortran, dtype = _parsed(start + file.read(8 + length_bytes + length - _START))
        if dtype.kind not in "biufU":
            raise InvalidInput(
                f"body: {member.filename} holds {dtype}, expected numbers or strings"
            )
        size = math.prod(shape) * dtype.itemsize  # a header may claim any shape
        if size > most_bytes:
            raise InvalidInput(
                f"body: its arrays have more than {most_bytes} bytes when unpacked, the limit"
            )
        content = file.read(size + 1)
    if len(content) != size:
        raise InvalidInput(
            f"body: {member.filename} does not hold the {size} bytes that its header says"
        )
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
