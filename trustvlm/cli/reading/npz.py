"""Reading .npz and .npy files, never unpickling, with errors that name the array."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound

Array = npt.NDArray[Any]
MAX_ARRAYS = 1_000
"""Arrays in one .npz file; we read five."""
MAX_BYTES = 64 * 2**30
"""Of all arrays of a file together: 20 million vectors of 768 values."""
MAX_RATIO = 100
FREE_BYTES = 256 * 2**20
"""What a compressed file may unpack to: this many times its size, or this many bytes. Embeddings
hardly shrink at all."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # others may ask for gigabytes to unpack
_REASON = 200  # characters of a reason: zipfile repeats what it read


def read_npz(path: Path, *names: str) -> dict[str, Array]:
    """The arrays of these names that the file has.

    Raises:
        NotFound: no such file. InvalidInput: not an .npz file, or an array of Python objects.
    """
    with _opened(path) as file:
        if isinstance(file, np.ndarray):
            raise InvalidInput(
                f"{path}: expected an .npz file with named arrays, got a single array (.npy)"
            )
        arrays = {name: _array(path, file, name) for name in names if name in file.files}
        if not arrays:
            raise InvalidInput(
                f"{path}: expected arrays named {', '.join(names)}; it has: {_listed(file)}"
            )
        return arrays


def read_query_vectors(path: Path, side: str) -> Array:
    """The array `side` of an .npz file, its only array, or the array of an .npy file."""
    with _opened(path) as file:
        if isinstance(file, np.ndarray):
            return file
        if side not in file.files and len(file.files) != 1:
            raise InvalidInput(
                f"{path}: expected an array named {side}, or only one; it has: {_listed(file)}"
            )
        return _array(path, file, side if side in file.files else file.files[0])


def _listed(file: Any) -> str:
    return ", ".join(file.files) or "none"


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An NpzFile, or the array of an .npy file."""
    if not os.path.lexists(path):
        raise NotFound(f"no file {path}")
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path}: expected a file, this is a folder, a pipe or a device")
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))  # numpy would leave a damaged file open
            _check_archive(path, raw)
            with _errors_for_warnings():
                file: Any = np.load(raw, allow_pickle=False)
        except InvalidInput:
            raise
        # zipfile, zlib, tokenize, ast and numpy parse foreign bytes; whatever it is, they are bad
        except Exception as error:
            reason = getattr(error, "strerror", None) or "not such a file, or damaged"
            raise InvalidInput(
                f"{path}: expected arrays saved with numpy (.npz or .npy): {reason}"
            ) from error
        if not isinstance(file, np.ndarray):
            stack.enter_context(file)
        yield file


@contextmanager
def _errors_for_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Look at what a zip archive says of itself before anything is unpacked.

    Raises:
        InvalidInput: too many or too large arrays, two of one name, or packed in another way than
            numpy does.
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise InvalidInput(f"{path}: expected at most {MAX_BYTES >> 30} GiB, got {size} bytes")
    if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if len(members) > MAX_ARRAYS:
            raise InvalidInput(f"{path}: expected at most {MAX_ARRAYS} arrays, got {len(members)}")
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"{path}: two arrays are named {twice[:80]}")
        if any(member.compress_type not in _METHODS for member in members):
            raise InvalidInput(
                f"{path}: expected arrays stored or deflated, as numpy does, got another kind "
                f"of compression"
            )
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_BYTES or (unpacked > FREE_BYTES and unpacked > MAX_RATIO * size):
            raise InvalidInput(
                f"{path}: {size} bytes would unpack to {unpacked}; expected at most {MAX_RATIO} "
                f"times as many, and {MAX_BYTES >> 30} GiB; save it with numpy.savez"
            )
    file.seek(0)


def _array(path: Path, file: Any, name: str) -> Array:
    try:
        with _errors_for_warnings():
            array: Array = file[name]
    except Exception as error:  # as above; a header may also claim any shape
        what = f"is damaged ({(str(error).splitlines() or [type(error).__name__])[0]:.{_REASON}})"
        if "Object arrays" in str(error):
            what = "holds Python objects, which are not read; save plain numbers or strings"
        raise InvalidInput(f"{path}: {name} {what}") from error
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path}: {name} is not an array")
    return array
