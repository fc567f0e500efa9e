"""Snapshot files: named arrays under a key, whole or not at all, and checked to the last byte.

Layout, little-endian: 8 bytes magic; uint32 version; uint32 length of the header; 32 bytes SHA-256 of (version, length,
header); the header, JSON; then the raw bytes of each array, each starting at a multiple of 64, zeros in between. The
header holds the key, the file's size, and each array's name, dtype, shape, offset and SHA-256.

Invariants: a file appears under its name only when complete and on disk (temporary file, fsync, rename, fsync of the
folder). Nothing is handed out, and no memory taken beyond the file's size, before the header proved right; no array before
its checksum did. No pickle: only the number types of :data:`DTYPES`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import struct
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.types import Int64s

__all__ = ["DTYPES", "Snapshot", "SnapshotKey", "pack_strings", "read_snapshot", "unpack_strings", "write_snapshot"]

DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"],
)
"""The array types a snapshot may hold, as numpy spells them."""

_MAGIC = b"TVLMSNAP"
_VERSION = 1
_FIXED = struct.Struct("<8sII32s")
_ALIGNMENT = 64
_CHUNK = 4 << 20  # hashed while still in the processor's cache
_MAX_HEADER = 16 << 20
_STALE_SECONDS = 3600.0  # a temporary file older than this was left behind by a process that died


@dataclass(frozen=True)
class SnapshotKey:
    """What a snapshot was derived from. All but the revision must agree for it to be usable at all.

    Attributes:
        epoch: the catalog's epoch (a UUID).
        space_id: id of the label space.
        revision: the space's revision it shows.
        recipe: name of the index recipe.
        classifier, verifier: identities of the encoders.
    """

    epoch: str
    space_id: int
    revision: int
    recipe: str
    classifier: str
    verifier: str


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A key and its arrays by name."""

    key: SnapshotKey
    arrays: dict[str, npt.NDArray[Any]]


def write_snapshot(path: Path, key: SnapshotKey, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes `arrays` under `key` to `path`, replacing what is there in one step.

    Raises:
        InvalidInput: an array of another type than :data:`DTYPES` (objects, strings, big-endian numbers).
        ReadOnly: the folder cannot be written.
        Unavailable: another failure to write, such as a full disk; the old file is untouched.
    """
    whole = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in whole.items():
        if array.dtype.str not in DTYPES:
            raise InvalidInput(f"array {name!r}: expected one of {', '.join(sorted(DTYPES))}, got {array.dtype.str}")
    head, offsets = _header(key, whole)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _sweep(path)
        with temporary.open("xb") as file:
            file.write(head)
            for name, array in whole.items():
                file.write(bytes(offsets[name] - file.tell()))
                file.write(_bytes_of(array))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        kind = ReadOnly if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else Unavailable
        raise kind(f"cannot write snapshot {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # there only if something above failed, and that is the error to tell
            temporary.unlink()


def read_snapshot(path: Path, key: SnapshotKey | None = None) -> Snapshot:
    """The snapshot at `path`, every byte of it checked.

    Args:
        path: the file.
        key: what it must have been derived from; its revision may differ.

    Raises:
        NotFound: there is no such file.
        Damaged: it is truncated, changed, of a future version, or no snapshot; the message says which.
        Conflict: it is whole, but derived from something else ("stale").
        Unavailable: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            found, entries = _read_header(path, file)
            _require_same(path, found, key)
            return Snapshot(found, {entry.name: _read_array(path, file, entry) for entry in entries})
    except FileNotFoundError as error:
        raise NotFound(f"no snapshot {path}") from error
    except OSError as error:
        raise Unavailable(f"cannot read snapshot {path}: {error.strerror or error}") from error


def pack_strings(strings: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Int64s]:
    """`strings` as the UTF-8 bytes of all of them and (n + 1,) offsets where each starts; the last is the length.

    Raises:
        InvalidInput: a string that has no UTF-8 form (a lone surrogate).
    """
    try:
        encoded = [string.encode() for string in strings]
    except UnicodeEncodeError as error:
        raise InvalidInput(f"expected text, got a string that has no UTF-8 form: {error}") from error
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def unpack_strings(data: npt.NDArray[np.uint8], offsets: Int64s) -> list[str]:
    """The strings that :func:`pack_strings` packed.

    Raises:
        Damaged: offsets that do not cover the bytes in order, or bytes that are no UTF-8.
    """
    ordered = offsets.ndim == 1 and len(offsets) > 0 and bool((offsets[1:] >= offsets[:-1]).all())
    if not ordered or offsets[0] != 0 or offsets[-1] != data.size:
        raise Damaged(f"string offsets do not cover their {data.size} bytes in order")
    whole = data.tobytes()
    bounds = offsets.tolist()
    try:
        return [whole[start:stop].decode() for start, stop in pairwise(bounds)]
    except UnicodeDecodeError as error:
        raise Damaged(f"stored strings are not UTF-8: {error}") from error


@dataclass(frozen=True)
class _Entry:
    """One array as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    sha256: str

    @property
    def nbytes(self) -> int:
        size = np.dtype(self.dtype).itemsize
        for length in self.shape:
            size *= length
        return size


def _header(key: SnapshotKey, arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[bytes, dict[str, int]]:
    """Everything before the first array, and where each array goes."""
    sums = {name: hashlib.sha256(_bytes_of(array)).hexdigest() for name, array in arrays.items()}
    # Offsets stand in the header, whose length decides them: lay out behind a header of the largest length they can give.
    room = len(json.dumps(_description(key, arrays, dict.fromkeys(arrays, 2**62), sums, 2**62)).encode())
    position, offsets = _FIXED.size + room, {}
    for name, array in arrays.items():
        offsets[name] = position = -(-position // _ALIGNMENT) * _ALIGNMENT
        position += array.nbytes
    text = json.dumps(_description(key, arrays, offsets, sums, position)).encode().ljust(room)
    if len(text) > _MAX_HEADER:
        raise InvalidInput(f"expected a header of at most {_MAX_HEADER} bytes, got {len(text)}: too many arrays")
    return _FIXED.pack(_MAGIC, _VERSION, len(text), _header_sum(_VERSION, text)) + text, offsets


def _description(
    key: SnapshotKey,
    arrays: Mapping[str, npt.NDArray[Any]],
    offsets: Mapping[str, int],
    sums: Mapping[str, str],
    size: int,
) -> dict[str, object]:
    entries = [asdict(_Entry(name, a.dtype.str, a.shape, offsets[name], sums[name])) for name, a in arrays.items()]
    return {"key": asdict(key), "size": size, "arrays": entries}


def _read_header(path: Path, file: BinaryIO) -> tuple[SnapshotKey, list[_Entry]]:
    size = os.fstat(file.fileno()).st_size
    fixed = file.read(_FIXED.size)
    if len(fixed) < _FIXED.size:
        raise Damaged(f"snapshot {path}: {size} bytes are no snapshot")
    magic, version, length, checksum = _FIXED.unpack(fixed)
    if magic != _MAGIC:
        raise Damaged(f"snapshot {path}: not a trustvlm snapshot (it starts with {magic!r})")
    if version != _VERSION:
        raise Damaged(f"snapshot {path}: version {version}, but this trustvlm reads {_VERSION}: from another one, or damaged")
    if length > min(_MAX_HEADER, size - _FIXED.size):
        raise Damaged(f"snapshot {path}: truncated in its header")
    text = file.read(length)
    if _header_sum(version, text) != checksum:
        raise Damaged(f"snapshot {path}: the header does not match its checksum")
    try:
        content = json.loads(text)
        key, entries = _key(content["key"]), [_entry(entry) for entry in content["arrays"]]
        expected = content["size"]
        _check_layout(entries, _FIXED.size + length, expected)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"snapshot {path}: the header makes no sense: {error}") from error
    if size != expected:
        raise Damaged(f"snapshot {path}: truncated or grown: expected {expected} bytes, got {size}")
    return key, entries


def _key(content: object) -> SnapshotKey:
    """The key as the header spells it; ValueError if it is none."""
    kinds = {"space_id": int, "revision": int}
    if not isinstance(content, dict) or set(content) != {field.name for field in fields(SnapshotKey)}:
        raise ValueError(f"wrong key {content!r}")
    if any(type(value) is not kinds.get(name, str) for name, value in content.items()):
        raise ValueError(f"wrong key {content!r}")
    return SnapshotKey(**content)


def _entry(content: dict[str, Any]) -> _Entry:
    """An array as the header spells it; ValueError if none could be like that."""
    entry = _Entry(**(content | {"shape": tuple(content["shape"])}))
    if not all(isinstance(text, str) for text in (entry.name, entry.dtype, entry.sha256)) or entry.dtype not in DTYPES:
        raise ValueError(f"array {entry.name!r} has dtype {entry.dtype!r}")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in (*entry.shape, entry.offset)):
        raise ValueError(f"array {entry.name!r} has shape {entry.shape} at {entry.offset!r}")
    return entry


def _check_layout(entries: list[_Entry], start: int, size: object) -> None:
    """ValueError unless the arrays lie one behind the other, as the writer lays them, and end at `size`."""
    position = start
    for entry in entries:
        if entry.offset != -(-position // _ALIGNMENT) * _ALIGNMENT:
            raise ValueError(f"array {entry.name!r} at {entry.offset}, behind {position}")
        position = entry.offset + entry.nbytes
    if position != size or len({entry.name for entry in entries}) != len(entries):
        raise ValueError(f"arrays end at {position}, size is {size!r}, or a name occurs twice")


def _read_array(path: Path, file: BinaryIO, entry: _Entry) -> npt.NDArray[Any]:
    """The array, read into its own memory and hashed on the way."""
    if any(file.read(entry.offset - file.tell())):
        raise Damaged(f"snapshot {path}: bytes between the arrays were changed, before {entry.name!r}")
    array = np.empty(entry.shape, entry.dtype)
    data, checksum = _bytes_of(array), hashlib.sha256()
    for start in range(0, len(data), _CHUNK):
        part = data[start : start + _CHUNK]
        if file.readinto(part) != len(part):  # type: ignore[attr-defined]
            raise Damaged(f"snapshot {path}: truncated in array {entry.name!r}")
        checksum.update(part)
    if checksum.hexdigest() != entry.sha256:
        raise Damaged(f"snapshot {path}: array {entry.name!r} does not match its checksum")
    return array


def _require_same(path: Path, found: SnapshotKey, wanted: SnapshotKey | None) -> None:
    """Raises Conflict when the two differ in anything but the revision."""
    if wanted is None:
        return
    old, new = asdict(found), asdict(wanted)
    wrong = [f"{name} {old[name]!r}, expected {new[name]!r}" for name in old if name != "revision" and old[name] != new[name]]
    if wrong:
        raise Conflict(f"snapshot {path} is stale: {'; '.join(wrong)}")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def _header_sum(version: int, text: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<II", version, len(text)) + text).digest()


def _sweep(path: Path) -> None:
    """Removes temporary files of `path` whose writer died long ago."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            if time.time() - old.stat().st_mtime > _STALE_SECONDS:
                old.unlink()
        except FileNotFoundError:  # its writer, or another sweeper, was faster
            continue


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
