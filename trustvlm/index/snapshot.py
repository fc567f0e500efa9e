"""Snapshot files: named arrays under a key, whole or not at all, and checked to the last byte.

Invariants: a file appears under its name only when complete and on disk (temporary file, fsync,
rename, fsync of the folder), and is never changed afterwards, only replaced: a mapped one stays
what it was. Nothing is handed out, and no memory taken beyond the file's size, before the head
proved right (:mod:`trustvlm.index.snapshot_header`); no array before its checksum did, but for
those that a caller asks for as rows: these carry a checksum a row. No pickle: only the number types
of :data:`DTYPES`.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import mmap
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.index.row_file import RowFile
from trustvlm.index.snapshot_header import (
    DTYPES,
    HEAD_BYTES,
    Entry,
    SnapshotKey,
    aligned,
    head_of,
    read_head,
    room_for,
)
from trustvlm.system.durable import make_folder, sync
from trustvlm.system.fault_points import reached
from trustvlm.types.arrays import Float32s

__all__ = [
    "DTYPES",
    "Snapshot",
    "SnapshotKey",
    "SnapshotWriter",
    "map_snapshot",
    "read_snapshot",
    "sweep",
    "write_snapshot",
]

_CHUNK = 4 << 20  # hashed while still in the processor's cache
_ROOM = 16 << 10  # for the description of a snapshot whose arrays are not known beforehand


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A key, its arrays by name, and those that are read by the row."""

    key: SnapshotKey
    arrays: dict[str, npt.NDArray[Any]]
    rows: dict[str, RowFile]


class SnapshotWriter:
    """Writes a snapshot piece by piece: inside :meth:`writing`, reserve arrays and put rows into
    them in order."""

    def __init__(self, file: BinaryIO, key: SnapshotKey, room: int) -> None:
        self._file, self._key, self._room = file, key, room
        self._entries: dict[str, Entry] = {}
        self._sums: dict[str, Any] = {}
        self._written: dict[str, int] = {}
        self._end = HEAD_BYTES + room

    @classmethod
    @contextmanager
    def writing(cls, path: Path, key: SnapshotKey, room: int = _ROOM) -> Iterator[SnapshotWriter]:
        """A writer of `path`, which replaces what is there when the block ends, and leaves it when
        the block raises.

        Raises:
            ReadOnly: the folder cannot be written. Unavailable: another failure to write, such as a
                full disk.
        """
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            make_folder(path.parent)
            sweep(path)
            with temporary.open("x+b") as file:
                fcntl.flock(
                    file, fcntl.LOCK_EX
                )  # until it is closed: what is not locked has lost its writer
                reached("snapshot.opened")
                writer = cls(file, key, room)
                yield writer
                writer._finish()
                reached("snapshot.synced")
                temporary.replace(path)
            reached("snapshot.renamed")
            sync(path.parent)
            reached("snapshot.done")
        except OSError as error:
            kind = (
                ReadOnly if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else Unavailable
            )
            raise kind(f"cannot write snapshot {path}: {error.strerror or error}") from error
        finally:
            with suppress(
                OSError
            ):  # there only if something above failed, and that is the error to tell
                temporary.unlink()

    def reserve(self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        """Make room for an array.

        Raises:
            InvalidInput: it is of another type than :data:`DTYPES` (objects, strings, big-endian
                numbers).
        """
        kind = np.dtype(dtype).str
        if kind not in DTYPES:
            raise InvalidInput(
                f"array {name!r}: expected one of {', '.join(sorted(DTYPES))}, got {kind}"
            )
        entry = Entry(name, kind, shape, aligned(self._end), "")
        self._entries[name], self._sums[name], self._written[name] = entry, hashlib.sha256(), 0
        self._end = entry.offset + entry.nbytes

    def put(self, name: str, part: npt.NDArray[Any]) -> None:
        """Write the next part of an array, of its type."""
        entry, data = (
            self._entries[name],
            _bytes_of(np.ascontiguousarray(part, self._entries[name].dtype)),
        )
        at = self._written[name]
        if at + len(data) > entry.nbytes:
            raise InvalidInput(f"array {name!r}: expected {entry.nbytes} bytes in all, got more")
        for start in range(0, len(data), _CHUNK):
            chunk = data[start : start + _CHUNK]
            self._sums[name].update(chunk)
            self._file.seek(entry.offset + at + start)
            self._file.write(chunk)
            reached("snapshot.part")
        self._written[name] = at + len(data)

    def add(self, name: str, array: npt.NDArray[Any]) -> None:
        """Reserve and put a whole array."""
        self.reserve(name, array.dtype, array.shape)
        self.put(name, array)

    def written(self, name: str, start: int, stop: int) -> Float32s:
        """Rows start … stop of a float32 matrix that was put."""
        entry = self._entries[name]
        rows = np.empty((stop - start, entry.shape[1]), np.float32)
        self._file.flush()
        os.preadv(self._file.fileno(), [_bytes_of(rows)], entry.offset + 4 * entry.shape[1] * start)
        return rows

    def written_at(self, name: str, positions: npt.NDArray[np.int64]) -> Float32s:
        """(n, dim) the rows at these positions of a float32 matrix that was put."""
        entry = self._entries[name]
        size = 4 * entry.shape[1]
        self._file.flush()
        descriptor = self._file.fileno()
        data = b"".join(
            [os.pread(descriptor, size, at) for at in (entry.offset + size * positions).tolist()]
        )
        return np.frombuffer(data, np.float32).reshape(len(positions), entry.shape[1])

    def _finish(self) -> None:
        entries = []
        for name, entry in self._entries.items():
            if self._written[name] != entry.nbytes:
                raise InvalidInput(
                    f"array {name!r}: expected {entry.nbytes} bytes, got {self._written[name]}"
                )
            entries.append(
                Entry(name, entry.dtype, entry.shape, entry.offset, self._sums[name].hexdigest())
            )
        self._file.truncate(
            self._end
        )  # where the last array is empty, nothing was written up to there
        self._file.seek(0)
        self._file.write(head_of(self._key, entries, self._end, self._room))
        self._file.flush()
        reached("snapshot.unsynced")
        os.fsync(self._file.fileno())


def write_snapshot(path: Path, key: SnapshotKey, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Writes `arrays` under `key` to `path`, replacing what is there in one step.

    Raises:
        InvalidInput: an array of another type than :data:`DTYPES` (objects, strings, big-endian
            numbers).
        ReadOnly: the folder cannot be written.
        Unavailable: another failure to write, such as a full disk; the old file is untouched.
    """
    with SnapshotWriter.writing(path, key, room_for(key, arrays)) as writer:
        for name, array in arrays.items():
            writer.add(name, np.asarray(array, order="C"))


def read_snapshot(path: Path, key: SnapshotKey | None = None) -> Snapshot:
    """The snapshot at `path` in memory, every byte of it checked.

    Args:
        path: the file.
        key: what it must have been derived from; its revision may differ.

    Raises:
        NotFound: there is no such file.
        Damaged: it is truncated, changed, of a future version, or no snapshot; the message says
            which.
        Conflict: it is whole, but derived from something else ("stale").
        Unavailable: it cannot be read.
    """
    with _opened(path, key) as (file, found, entries):
        return Snapshot(
            found, {entry.name: _read_array(path, file, entry) for entry in entries}, {}
        )


def map_snapshot(
    path: Path, key: SnapshotKey | None = None, rows: Mapping[str, str] | None = None
) -> Snapshot:
    """The snapshot at `path`, mapped: its arrays are read-only and shared with all processes that
    map it.

    Every byte is read and checked, in one sequential walk, except of the arrays named in `rows`
    (name → name of the uint32 array of their rows' CRC-32): these are read row by row, and checked
    then.

    Raises:
        as :func:`read_snapshot`.
    """
    with _opened(path, key) as (file, found, entries):
        wanted = rows or {}
        size = os.fstat(file.fileno()).st_size
        mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
        whole = np.frombuffer(mapped, np.uint8)
        arrays, position = {}, HEAD_BYTES
        for entry in entries:
            data = whole[entry.offset : entry.offset + entry.nbytes]
            if entry is not entries[0] and whole[position : entry.offset].any():
                raise Damaged(
                    f"snapshot {path}: bytes between the arrays were changed, before {entry.name!r}"
                )
            position = entry.offset + entry.nbytes
            if entry.name in wanted:
                continue
            if hashlib.sha256(data.data).hexdigest() != entry.sha256:
                raise Damaged(f"snapshot {path}: array {entry.name!r} does not match its checksum")
            arrays[entry.name] = data.view(entry.dtype).reshape(entry.shape)
        by_row = {
            entry.name: RowFile(
                path,
                os.dup(file.fileno()),
                entry.offset,
                entry.shape,
                arrays.pop(wanted[entry.name]),
            )
            for entry in entries
            if entry.name in wanted
        }
        return Snapshot(found, arrays, by_row)


@contextmanager
def _opened(
    path: Path, key: SnapshotKey | None
) -> Iterator[tuple[BinaryIO, SnapshotKey, list[Entry]]]:
    """The open file with its head, which must be right and belong to `key`."""
    try:
        with path.open("rb") as file:
            found, entries = read_head(path, file)
            _require_same(path, found, key)
            yield file, found, entries
    except FileNotFoundError as error:
        raise NotFound(f"no snapshot {path}") from error
    except OSError as error:
        raise Unavailable(f"cannot read snapshot {path}: {error.strerror or error}") from error


def _read_array(path: Path, file: BinaryIO, entry: Entry) -> npt.NDArray[Any]:
    """The array, read into its own memory and hashed on the way."""
    if any(file.read(entry.offset - file.tell())):
        raise Damaged(
            f"snapshot {path}: bytes between the arrays were changed, before {entry.name!r}"
        )
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
    wrong = [
        f"{name} {old[name]!r}, expected {new[name]!r}"
        for name in old
        if name != "revision" and old[name] != new[name]
    ]
    if wrong:
        raise Conflict(f"snapshot {path} is stale: {'; '.join(wrong)}")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


def sweep(path: Path) -> None:
    """Removes temporary files of `path` whose writer died: nobody holds their lock any more."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            with old.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                old.unlink()
        except (
            FileNotFoundError,
            BlockingIOError,
        ):  # another sweeper was faster, or its writer is alive
            continue
