"""The backup file: one ZIP archive with a manifest, sealed at its very end (docs/backup.md).

Members are plain files, stored without compression (embeddings do not shrink, and a stored member
cannot be a bomb): :data:`ABOUT` first, ``catalog.sqlite3``, ``trustvlm.toml`` and ``originals/…``
where the home has them, and :data:`MANIFEST` last.

The seal is the archive's comment: the version of the format and the SHA-256 of every byte before
that digest. It detects any byte changed, missing or added, also in ZIP's own fields. It is not a
signature: whoever can write the file can seal it again.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
import struct
import sys
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from trustvlm.catalog.store import schema
from trustvlm.errors import Damaged, InvalidInput, NotFound, SchemaMismatch, Unavailable
from trustvlm.types.backups import CatalogFacts, SpaceFacts

VERSION = 1
ABOUT, MANIFEST = "TRUSTVLM-BACKUP.txt", "manifest.json"
CATALOG, SETTINGS, ORIGINALS = "catalog.sqlite3", "trustvlm.toml", "originals"
_ABOUT = b"A backup of a trustvlm home. 'trustvlm restore' checks it and makes a home of it.\n"
_SEAL = b"trustvlm-backup/%d sha256:"
_SEAL_PATTERN = re.compile(rb"trustvlm-backup/(\d{1,4}) sha256:([0-9a-f]{64})\Z")
_DIGEST = 64  # hexadecimal characters
_ORIGINAL = re.compile(r"originals(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,6}\Z")
_CHUNK = 4 << 20
# What zipfile raises over an archive that was made to mislead it.
_UNSOUND = (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, OverflowError)
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Member:
    """A file of an archive: its size in bytes and its SHA-256, in hexadecimal."""

    size: Annotated[int, Field(ge=0)]
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        trustvlm: the version of the program that wrote it. created_at: when.
        schema, epoch, spaces: of the catalog. members: name → file, without the manifest itself.
    """

    format: Literal["trustvlm-backup"]
    version: Literal[1]
    trustvlm: str
    created_at: datetime
    schema: str
    epoch: str
    spaces: tuple[SpaceFacts, ...]
    members: dict[str, Member]

    @property
    def catalog(self) -> CatalogFacts:
        """Schema, epoch and spaces of the catalog."""
        return CatalogFacts(self.schema, self.epoch, self.spaces)


_MANIFEST = TypeAdapter(Manifest)


def write_archive(
    path: Path, files: Iterable[tuple[str, Path]], catalog: CatalogFacts, progress: Progress
) -> Manifest:
    """Write the new archive `path` of (member name, file) pairs; sealed and on disk on return.

    A file that is purged meanwhile is left out.

    Raises:
        InvalidInput: a name that no member may have.
    """
    with path.open("x+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            members = {ABOUT: _add(archive, ABOUT, io.BytesIO(_ABOUT))}
            for name, source in files:
                if not _allowed(name):
                    raise InvalidInput(
                        f"{source}: a file of this name has no place in a backup; move it out of "
                        f"the home's folder"
                    )
                with suppress(FileNotFoundError), source.open("rb") as content:
                    members[name] = _add(archive, name, content, progress)
            manifest = Manifest(
                "trustvlm-backup", 1, version("trustvlm"),
                datetime.now(UTC).replace(microsecond=0), **vars(catalog), members=members,
            )  # fmt: skip
            _add(archive, MANIFEST, io.BytesIO(_MANIFEST.dump_json(manifest, indent=1)))
            archive.comment = _SEAL % VERSION + b"0" * _DIGEST
        end = file.seek(-_DIGEST, os.SEEK_END)
        file.seek(0)
        digest = _copy(file, limit=end).sha256
        file.seek(end)
        file.write(digest.encode())
        file.flush()
        os.fsync(file.fileno())
    return manifest


def _add(
    archive: zipfile.ZipFile, name: str, source: IO[bytes], progress: Progress | None = None
) -> Member:
    info = zipfile.ZipInfo(name)  # of 1980; the manifest has the date
    info.external_attr = (stat.S_IFREG | 0o600) << 16
    with archive.open(info, "w", force_zip64=True) as target:
        return _copy(source, target, progress)


def _allowed(name: str) -> bool:
    return name in (ABOUT, CATALOG, SETTINGS) or _ORIGINAL.match(name) is not None


class Archive:
    """An archive that matches its seal and its list of members; opened by :func:`open_archive`."""

    def __init__(self, path: Path, content: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path, self._content, self.manifest = path, content, manifest

    def extract(self, name: str, target: IO[bytes] | None = None) -> None:
        """Compare a member with the manifest, and write it to `target` on the way.

        Raises:
            Damaged: they differ.
        """
        try:
            with self._content.open(name) as member:
                copied = _copy(member, target)
        except _UNSOUND as error:
            raise Damaged(
                f"{self.path}: the member {name} cannot be read ({error}); use another backup"
            ) from error
        if copied != self.manifest.members[name]:
            raise Damaged(
                f"{self.path}: the member {name} does not match the manifest; use another backup"
            )


@contextmanager
def open_archive(path: Path, progress: Progress | None = None) -> Iterator[Archive]:
    """Open the archive `path`, once all its bytes match the seal and its members are those listed.

    Args:
        progress: called with numbers of bytes that were checked; their sum is the file's size.

    Raises:
        NotFound: no such file. InvalidInput: something else than a backup, or one with members that
            a backup cannot have.
        Damaged: cut off, extended or altered. SchemaMismatch: of a later format, or with a newer
            schema. Unavailable: the file cannot be read.
    """
    if not path.is_file():
        kind = InvalidInput if os.path.lexists(path) else NotFound
        raise kind(f"{path} is no file; expected a backup")
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            _check_seal(path, file, progress)
            content = stack.enter_context(zipfile.ZipFile(file))
            _check_members(path, content, file.seek(0, os.SEEK_END))
            manifest = _read_manifest(path, content)
        except (*_UNSOUND, struct.error) as error:
            raise Damaged(f"{path} is no sound archive ({error}); use another backup") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error
        yield Archive(path, content, manifest)


def _check_seal(path: Path, file: IO[bytes], progress: Progress | None) -> None:
    head = file.read(30 + len(ABOUT))
    if head[:4] != b"PK\x03\x04" or head[30:] != ABOUT.encode():
        raise InvalidInput(f"{path} is no backup of trustvlm, or its beginning was altered")
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 128))
    seal = _SEAL_PATTERN.search(file.read())
    if seal is None:
        raise Damaged(
            f"{path} does not end like a backup: it was cut off, extended or altered; use "
            f"another one"
        )
    if (of_file := int(seal[1])) > VERSION:
        raise SchemaMismatch(
            f"{path} has the backup format {of_file}, this program reads {VERSION}; upgrade "
            f"trustvlm"
        )
    file.seek(0)
    if _copy(file, None, progress, size - _DIGEST).sha256 != seal[2].decode():
        raise Damaged(f"{path} does not match its checksum: it was altered; use another one")


def _check_members(path: Path, archive: zipfile.ZipFile, size: int) -> None:
    """Make sure that the archive holds plain, stored files of the names that a backup has."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    for info in infos:
        plain = stat.S_IFMT(info.external_attr >> 16) in (0, stat.S_IFREG)
        stored = info.compress_type == zipfile.ZIP_STORED and info.file_size == info.compress_size
        allowed = _allowed(info.filename) or info.filename == MANIFEST
        if not (plain and stored and allowed) or info.flag_bits & 1:
            raise InvalidInput(
                f"{path}: the member {info.filename!r:.120} has no place in a backup, or is "
                f"compressed, encrypted or no plain file"
            )
    if len(set(names)) < len(names):
        raise InvalidInput(f"{path}: a member comes twice; this is no backup of trustvlm")
    if not {ABOUT, CATALOG, MANIFEST} <= set(names):
        raise InvalidInput(
            f"{path}: {CATALOG} or {MANIFEST} is missing; this is no backup of trustvlm"
        )
    if sum(info.file_size for info in infos) > size:
        raise InvalidInput(f"{path}: its members overlap; this is no backup of trustvlm")


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    try:
        manifest = _MANIFEST.validate_json(archive.read(MANIFEST), strict=True)
    except ValidationError as error:
        problem = "{loc}: {msg}".format(**error.errors()[0])
        raise InvalidInput(
            f"{path}: its manifest cannot be read ({problem!r:.120}); this is no backup of trustvlm"
        ) from error
    if manifest.members.keys() != set(archive.namelist()) - {MANIFEST}:
        raise Damaged(
            f"{path}: its members are not those that its manifest lists; use another backup"
        )
    try:
        schema.refuse_newer(manifest.schema)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{path}: {error}") from error
    return manifest


def _copy(
    source: IO[bytes],
    target: IO[bytes] | None = None,
    progress: Progress | None = None,
    limit: int = sys.maxsize,
) -> Member:
    """Copy up to `limit` bytes, if there is a target; their number and digest."""
    digest, size = hashlib.sha256(), 0
    while chunk := source.read(min(_CHUNK, limit - size)):
        digest.update(chunk)
        size += len(chunk)
        if target is not None:
            target.write(chunk)
        if progress is not None:
            progress(len(chunk))
    return Member(size, digest.hexdigest())
