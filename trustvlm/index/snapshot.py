"""Snapshot files: named arrays under a key, complete or absent, and checked to the last byte.

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
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
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
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import make_folder, remove, sync
from trustvlm.types.arrays import Float32s

_CHUNK = 4 << 20  # hashed while still in the processor's cache
_ROOM = 16 << 10  # for the description of a snapshot whose arrays are not known beforehand


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A key, its arrays by name, and those that are read by the row."""

    key: SnapshotKey
    arrays: dict[str, npt.NDArray[Any]]
    rows: dict[str, RowFile]


class SnapshotWriter:
    """Writes a snapshot in pieces: inside :meth:`writing`, reserve arrays and put rows in order."""

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
        try:
            with unfinished(path) as (temporary, file):
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
            forbidden = error.errno in (errno.EROFS, errno.EACCES, errno.EPERM)
            kind = ReadOnly if forbidden else Unavailable
            raise kind(f"cannot write snapshot {path}: {error.strerror or error}") from error

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
        entry, at = self._entries[name], self._written[name]
        data = _bytes_of(np.ascontiguousarray(part, entry.dtype))
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
        rows = np.empty((stop - start, self._entries[name].shape[1]), np.float32)
        self._file.flush()
        at = self._entries[name].offset + rows.itemsize * rows.shape[1] * start
        os.preadv(self._file.fileno(), [_bytes_of(rows)], at)
        return rows

    def _finish(self) -> None:
        entries = []
        for name, entry in self._entries.items():
            if (size := self._written[name]) != entry.nbytes:
                raise InvalidInput(f"array {name!r}: expected {entry.nbytes} bytes, got {size}")
            entries.append(replace(entry, sha256=self._sums[name].hexdigest()))
        self._file.truncate(self._end)  # an empty last array has written nothing up to there
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
    """The snapshot at `path` in memory. Arguments and errors as of :func:`map_snapshot`."""
    mapped = map_snapshot(path, key)
    return Snapshot(mapped.key, {name: np.array(a) for name, a in mapped.arrays.items()}, {})


def map_snapshot(
    path: Path, key: SnapshotKey | None = None, rows: Mapping[str, str] | None = None
) -> Snapshot:
    """The snapshot at `path`, mapped: its arrays are read-only and shared with all processes that
    map it.

    Every byte is read and checked, in one sequential walk, except of the arrays named in `rows`
    (name → name of the uint32 array of their rows' CRC-32): these are read row by row, and checked
    then.

    Args:
        key: what it must have been derived from; its revision may differ.

    Raises:
        NotFound: there is no such file.
        Damaged: it is truncated, changed, of a future version, or no snapshot; the message says
            which.
        Conflict: it is derived from something else ("stale").
        Unavailable: it cannot be read.
    """
    sums_of = rows or {}
    try:
        with path.open("rb") as file:
            stored, entries = read_head(path, file)
            _require_same(path, stored, key)
            end, size = file.tell(), os.fstat(file.fileno()).st_size
            mapped = mmap.mmap(file.fileno(), size, prot=mmap.PROT_READ)
            content = np.frombuffer(mapped, np.uint8)
            arrays = _checked_arrays(path, content, end, entries, sums_of)
            by_row = {}
            for entry in entries:
                if entry.name in sums_of:
                    first = entry.offset // mmap.PAGESIZE * mmap.PAGESIZE
                    # a row alone is read from the disk, not its neighbourhood
                    mapped.madvise(mmap.MADV_RANDOM, first, entry.offset + entry.nbytes - first)
                    sums = arrays.pop(sums_of[entry.name])
                    by_row[entry.name] = RowFile(path, _array(content, entry), sums)
    except FileNotFoundError as error:
        raise NotFound(f"no snapshot {path}") from error
    except OSError as error:
        raise Unavailable(f"cannot read snapshot {path}: {error.strerror or error}") from error
    return Snapshot(stored, arrays, by_row)


def _checked_arrays(
    path: Path,
    content: npt.NDArray[np.uint8],
    end: int,
    entries: list[Entry],
    left_out: Container[str],
) -> dict[str, npt.NDArray[Any]]:
    """The arrays in the bytes of a file behind the `end` of its head, each after its checksum
    proved right."""
    arrays = {}
    for entry in entries:
        data = content[entry.offset : entry.offset + entry.nbytes]
        if content[end : entry.offset].any():
            raise Damaged(
                f"snapshot {path}: bytes between the arrays were changed, before {entry.name!r}"
            )
        end = entry.offset + entry.nbytes
        if entry.name in left_out:
            continue
        if hashlib.sha256(data.data).hexdigest() != entry.sha256:
            raise Damaged(f"snapshot {path}: array {entry.name!r} does not match its checksum")
        arrays[entry.name] = _array(content, entry)
    return arrays


def _array(content: npt.NDArray[np.uint8], entry: Entry) -> npt.NDArray[Any]:
    data = content[entry.offset : entry.offset + entry.nbytes]
    return data.view(entry.dtype).reshape(entry.shape)


def _require_same(path: Path, stored: SnapshotKey, expected: SnapshotKey | None) -> None:
    """Raises Conflict when the two differ in anything but the revision."""
    if expected is None:
        return
    old, new = asdict(stored), asdict(expected)
    wrong = [
        f"{name} {value!r}, expected {new[name]!r}"
        for name, value in old.items()
        if name != "revision" and value != new[name]
    ]
    if wrong:
        raise Conflict(f"snapshot {path} is stale: {'; '.join(wrong)}")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    """The memory of a C-contiguous array."""
    return array.reshape(-1).view(np.uint8).data


@contextmanager
def unfinished(path: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """(path, file) of a new file beside `path`, which is to replace it. Its writer holds its lock,
    so that :func:`sweep` leaves it; what still has that name when the block ends is deleted.

    Raises:
        OSError: it cannot be made.
    """
    make_folder(path.parent)
    sweep(path)
    while True:
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        with temporary.open("x+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # until closed
            if not os.fstat(file.fileno()).st_nlink:
                continue  # a sweep came between the file and its lock
            try:
                yield temporary, file
            finally:
                with suppress(OSError):  # it was renamed
                    temporary.unlink()
            return


def sweep(path: Path) -> None:
    """Removes temporary files of `path` whose writer died: no process holds their lock."""
    for old in path.parent.glob(f".{path.name}.*.tmp"):
        try:
            with old.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove(old)
        except (FileNotFoundError, BlockingIOError):  # gone, or its writer is alive
            continue
