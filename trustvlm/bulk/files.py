"""Files of the output: each appears whole, with the key of what it was made from."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import Conflict
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import make_folder, sync

if TYPE_CHECKING:
    import pyarrow

SUFFIX = ".parquet"
KEPT = "_embeddings"
"""The sub-folder of the output with the embeddings that are kept; readers of data sets leave out
names that begin with "_"."""
RECORD = "_bulk.json"
"""The file of the output that says what the work is."""
_KEY = b"trustvlm.bulk"
_UNFINISHED = ".unfinished-"
_ABANDONED_S = 86_400.0
"""Age at which an unfinished file of another machine counts as abandoned: a lock on it may not be
visible here."""


def write_table(path: Path, table: pyarrow.Table, key: Mapping[str, Any]) -> None:
    """Write a table, with its key, so that it appears whole or not at all, and stays after a power
    cut. Raises OSError."""
    import pyarrow.parquet as pq

    schema = table.schema.with_metadata({_KEY: json.dumps(key, sort_keys=True)})
    with _appearing(path) as unfinished:
        pq.write_table(table.cast(schema), unfinished, compression="zstd", compression_level=1)
        reached("bulk.written")


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it appears whole or not at all, and stays after a power cut. Raises
    OSError."""
    with _appearing(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


class _appearing:
    """A context in which a file is written under another name; it gets its own at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        host = socket.gethostname().replace("/", "_")[:60]
        name = f"{_UNFINISHED}{host}-{secrets.token_hex(8)}"
        self._unfinished = path.parent / name

    def __enter__(self) -> Path:
        make_folder(self._path.parent)
        while True:  # what sweeps may have taken it for abandoned before it was locked
            self._lock = os.open(self._unfinished, os.O_CREAT | os.O_RDWR, 0o666)
            with suppress(OSError):  # a file system without locks
                fcntl.flock(self._lock, fcntl.LOCK_EX)
            if self._unfinished.exists():
                return self._unfinished
            os.close(self._lock)

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        try:
            if kind is None:
                os.fsync(self._lock)
                reached("bulk.synced")
                self._unfinished.replace(self._path)
                reached("bulk.renamed")
                sync(self._path.parent)
        finally:
            self._unfinished.unlink(missing_ok=True)
            os.close(self._lock)


def stored_key(path: Path) -> dict[str, Any] | None:
    """The key of a finished file; None: there is no file. Raises Conflict: it is none of ours."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(path).metadata or {}
        return dict(json.loads(metadata[_KEY]))
    except FileNotFoundError:
        return None
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise Conflict(
            f"{path}: expected a file that bulk work has written, this is another one, or damaged; "
            f"take it away, or name another folder"
        ) from error


def finished_files(folder: Path) -> Iterator[tuple[str, Path]]:
    """(name of the unit, path) of each finished file of a folder and its sub-folders."""
    if not folder.is_dir():
        return
    for path in sorted(folder.rglob(f"*{SUFFIX}")):
        parts = path.relative_to(folder).parts
        if not any(part.startswith(("_", ".")) for part in parts):
            yield str(path.relative_to(folder)).removesuffix(SUFFIX), path


def running(folder: Path) -> int:
    """Number of files that a process is writing."""
    return sum(not _is_abandoned(path) for path in _unfinished_files(folder))


def sweep(folder: Path) -> None:
    """Delete what processes that are gone have left unfinished."""
    for path in _unfinished_files(folder):
        if _is_abandoned(path):
            path.unlink(missing_ok=True)


def _unfinished_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob(f"{_UNFINISHED}*")) if folder.is_dir() else []


def _is_abandoned(path: Path) -> bool:
    """Whether no process writes a file any more: its writer holds a lock on it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        here = path.name.startswith(f"{_UNFINISHED}{socket.gethostname().replace('/', '_')[:60]}-")
        old = time.time() - os.fstat(descriptor).st_mtime > _ABANDONED_S
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return here or old
    except OSError:
        return False
    finally:
        os.close(descriptor)
