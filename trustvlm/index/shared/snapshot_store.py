"""Copies of snapshot files in a folder or an object store that the machines of one catalog share.

A copy is the file as it was written, with its checksums, at EPOCH/NAME.DIGEST.REVISION.snapshot:
the digest is one of all that a snapshot was derived from but for its revision. Nothing that lies
there is believed: a file is used after its key and every byte were checked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import uuid
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO

from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, Unavailable
from trustvlm.index.snapshot import map_snapshot, unfinished
from trustvlm.index.snapshot_header import SnapshotKey, read_head
from trustvlm.system.files.durable import sync
from trustvlm.system.masking import masked

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

log = logging.getLogger("trustvlm")

KEPT = 2
"""Copies of each snapshot that are kept, those of the highest revisions."""
TRIED = 3
"""Copies of a snapshot that are looked at before it is made of the catalog."""
USELESS_AFTER = timedelta(days=1)
"""Age of half-written files, and of copies of other epochs, from which on they are deleted."""

_CHUNK = 8 << 20
_SCHEMES = re.compile(r"(file|s3|gs|gcs|abfss?|hdfs|fsspec\+[a-z0-9]+)://.")
_LENGTH = 20  # of a revision's digits


class SnapshotStore:
    """The shared copies of one catalog's snapshots.

    Args:
        url: an absolute path, or a URL that pyarrow.fs opens: s3://, gs://, abfs://, hdfs://,
            file:// and, where fsspec is installed, fsspec+PROTOCOL://.

    Raises:
        InvalidInput: it is neither.
    """

    def __init__(self, url: str) -> None:
        if not (url.startswith("/") or _SCHEMES.match(url)):
            raise InvalidInput(
                f"snapshot_store: expected an absolute path, or a URL such as s3://bucket/folder, "
                f"gs://…, abfs://…, file:///… or fsspec+PROTOCOL://…; got {masked(url)[:200]!r}"
            )
        self._url = url

    def __str__(self) -> str:
        return masked(self._url)

    @property
    def addresses(self) -> tuple[str, ...]:
        """What messages call it: its URL and, of a folder of this machine, the folder, too."""
        folder = self._url.removeprefix("file://").rstrip("/")
        return (str(self), folder) if folder.startswith("/") else (str(self),)

    @cached_property
    def _place(self) -> tuple[FileSystem, PurePosixPath]:
        """The file system and the folder; with an object store this asks it."""
        from pyarrow.fs import FileSystem

        system, folder = FileSystem.from_uri(self._url)
        return system, PurePosixPath(folder)

    def push(self, path: Path) -> bool:
        """Copy the snapshot at `path`, unless one of its revision, or of a later one, is there;
        whether it was copied. What it makes useless is deleted.

        Raises:
            OSError, or what the file system's driver raises: it cannot be copied. Damaged,
                NotFound: there is no snapshot at `path`.
        """
        system, _ = self._place
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise NotFound(f"no snapshot {path}") from error
        with file:
            key, _ = read_head(path, file)
            folder, name = self._folder(key.epoch), _name(path, key)
            earlier = self._copies(path, key)
            if earlier and earlier[0][0] >= key.revision:
                return False
            system.create_dir(str(folder), recursive=True)
            file.seek(0)
            self._write(folder, name, file)
        self._sweep(path, key)
        return True

    def _write(self, folder: PurePosixPath, name: str, file: BinaryIO) -> None:
        """Copy an open file. In a folder it appears when it is complete, under another name until
        then; object stores do that by themselves."""
        system, _ = self._place
        final = str(folder / name)
        first = str(folder / f".{name}.{uuid.uuid4().hex}.tmp")
        target = first if system.type_name == "local" else final
        try:
            with system.open_output_stream(target) as out:
                while chunk := file.read(_CHUNK):
                    out.write(chunk)
            if target != final:
                system.move(target, final)
        except BaseException:
            with suppress(OSError):
                system.delete_file(target)
            raise

    def pull(self, path: Path, key: SnapshotKey, oldest: int) -> bool:
        """Put the newest usable copy to `path`, in place of what is there; whether there was one.

        Copies that are damaged, of something else, incomplete, or gone meanwhile are passed over,
        with a line in the log.

        Args:
            key: what it must have been derived from; its revision is the latest that is of use.
                oldest: the earliest.

        Raises:
            OSError, or what the file system's driver raises: the store cannot be listed.
        """
        of_use = [one for one in self._copies(path, key) if oldest <= one[0] <= key.revision]
        for _, info in of_use[:TRIED]:
            try:
                self._fetch(info, path, key)
                return True
            except (Damaged, Conflict, NotFound, Unavailable, OSError) as error:
                log.warning("the shared snapshot %s is passed over: %s", info.base_name, error)
        return False

    def _fetch(self, info: FileInfo, path: Path, key: SnapshotKey) -> None:
        """Copy a file of the store to `path`, after all of it proved right."""
        system, _ = self._place
        with unfinished(path) as (temporary, file):
            with system.open_input_stream(info.path) as source:
                while chunk := source.read(_CHUNK):
                    file.write(chunk)
            file.flush()
            stored = map_snapshot(temporary, key).key
            if f".{stored.revision:0{_LENGTH}d}." not in info.base_name:
                raise Conflict(f"it shows revision {stored.revision}")
            os.fsync(file.fileno())
            temporary.replace(path)
            sync(path.parent)

    def discard(self, names: list[str]) -> None:
        """Delete all copies of the snapshots of these file names, of every epoch.

        Raises:
            Unavailable: one may be left.
        """
        stems = {Path(name).stem for name in names}
        try:
            system, _ = self._place
            for info in self._files():
                if _stem(info.base_name) in stems:
                    with suppress(FileNotFoundError):
                        system.delete_file(info.path)
        except Exception as error:  # of any driver
            raise Unavailable(
                f"snapshot_store {self} may hold what was purged, and cannot be cleared: {error}; "
                f"purge again when it can be reached"
            ) from error

    def _copies(self, path: Path, key: SnapshotKey) -> list[tuple[int, FileInfo]]:
        """(revision, file) of the copies of a snapshot, latest first."""
        pattern = re.compile(rf"{re.escape(_prefix(path, key))}([0-9]{{{_LENGTH}}})\.snapshot")
        infos = self._files(self._folder(key.epoch))
        matches = [(match, info) for info in infos if (match := pattern.fullmatch(info.base_name))]
        return sorted(((int(m[1]), info) for m, info in matches), key=lambda one: -one[0])

    def _folder(self, epoch: str) -> PurePosixPath:
        return self._place[1] / epoch.replace("/", "-")

    def _files(self, folder: PurePosixPath | None = None) -> Iterator[FileInfo]:
        """The files of an epoch's folder, or of all of them."""
        from pyarrow.fs import FileSelector, FileType

        system, root = self._place
        selector: Any = FileSelector(
            str(folder or root), recursive=folder is None, allow_not_found=True
        )
        return (info for info in system.get_file_info(selector) if info.type == FileType.File)

    def _sweep(self, path: Path, key: SnapshotKey) -> None:
        """Delete what is of no use after a snapshot of this key was copied: earlier copies, those
        of other epochs, and half-written files."""
        folder, old = str(self._folder(key.epoch)), datetime.now(UTC) - USELESS_AFTER
        of_same = []
        for info in self._files():
            ours = str(PurePosixPath(info.path).parent) == folder
            if ours and _stem(info.base_name) == path.stem and not info.base_name.startswith("."):
                of_same.append(info)
                continue
            current = ours and info.base_name.endswith(".snapshot")
            is_old = info.mtime is not None and info.mtime < old
            if is_old and not current and _is_copy(info.base_name):
                self._delete(info)
        for info in sorted(of_same, key=lambda one: one.base_name.split(".")[-2])[:-KEPT]:
            self._delete(info)

    def _delete(self, info: FileInfo) -> None:
        with suppress(FileNotFoundError):  # another machine did
            self._place[0].delete_file(info.path)


def _prefix(path: Path, key: SnapshotKey) -> str:
    of = {name: value for name, value in asdict(key).items() if name != "revision"}
    digest = hashlib.blake2b(json.dumps(of, sort_keys=True).encode(), digest_size=8).hexdigest()
    return f"{path.stem}.{digest}."


def _name(path: Path, key: SnapshotKey) -> str:
    return f"{_prefix(path, key)}{key.revision:0{_LENGTH}d}.snapshot"


def _stem(name: str) -> str:
    """The name of the snapshot that a file of the store is a copy of, without its ending."""
    return ".".join(name.lstrip(".").removesuffix(".snapshot").split(".")[:-2])


def _is_copy(name: str) -> bool:
    """Whether a file has the name of a copy, complete or not: others are left alone."""
    copy = rf"[0-9]+(\.[a-z-]+)?\.[0-9a-f]{{16}}\.[0-9]{{{_LENGTH}}}\.snapshot"
    return re.fullmatch(rf"{copy}|\.{copy}\.[0-9a-f]{{32}}\.tmp", name) is not None
