"""The file that `trustvlm backup` writes: one ZIP archive with a manifest, and a seal at its very
end.

ZIP rather than tar: its list of members stands at the end, so that a file that was cut off has
none; sizes and names are known before anything is read; and there are neither links nor devices nor
five dialects to be careful about. Members are stored, not compressed (embeddings do not shrink, and
a stored member cannot be a bomb), with ZIP64 fields, so that size is no limit; any unzip program
can take them out. The member :data:`ABOUT` comes first and tells what the file is.

The seal is the archive's comment: the version of the format and the SHA-256 of every byte before
that digest. It detects any byte changed, missing or added, also in ZIP's own fields; the manifest's
digests, one a member, say so again while a member is copied. Neither is a signature: whoever can
write the file can seal it anew.

Members, each a plain file: :data:`ABOUT`, ``catalog.sqlite3``, ``trustvlm.toml`` (if there is one),
``originals/…`` (if there are any), and at last :data:`MANIFEST`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, BinaryIO

from trustvlm.catalog.upkeep.copy_catalog import CatalogFacts, SpaceFacts
from trustvlm.errors import (
    Damaged,
    InvalidInput,
    NotFound,
    SchemaMismatch,
    TrustVLMError,
    Unavailable,
)

__all__ = [
    "ABOUT",
    "CATALOG",
    "MANIFEST",
    "ORIGINALS",
    "SETTINGS",
    "Archive",
    "ArchiveWriter",
    "Manifest",
    "Member",
    "opened",
]

VERSION = 1
ABOUT, MANIFEST, CATALOG, SETTINGS, ORIGINALS = (
    "TRUSTVLM-BACKUP.txt", "manifest.json", "catalog.sqlite3", "trustvlm.toml", "originals",
)  # fmt: skip
_ABOUT = b"A backup of a trustvlm home. 'trustvlm restore' checks it and makes a home of it.\n"
_SEAL = b"trustvlm-backup/%d sha256:"
_SEAL_PATTERN = re.compile(rb"trustvlm-backup/(\d{1,4}) sha256:([0-9a-f]{64})\Z")
_DIGEST = 64  # hexadecimal characters
_ORIGINAL = re.compile(r"originals(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}){1,6}\Z")
_MAX_MANIFEST = 512 * 2**20  # two million originals
_CHUNK = 4 << 20
# What zipfile raises over an archive that was made to mislead it.
_UNSOUND = (
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
    ValueError,
    OverflowError,
    struct.error,
)

_ZIP_DATES = (1980, 1, 1, 0, 0, 0), (2107, 12, 31, 23, 59, 58)
"""The dates that the format can hold; the manifest has the true one."""
Progress = Callable[[int], None]


@dataclass(frozen=True)
class Member:
    """One file of an archive: its size in bytes and its SHA-256, in hexadecimal."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an archive holds.

    Attributes:
        trustvlm: the version of the program that wrote it. created_at: when.
        catalog: schema, epoch and spaces of the catalog. members: name → file, the manifest itself
            left out.
    """

    trustvlm: str
    created_at: datetime
    catalog: CatalogFacts
    members: dict[str, Member]

    def to_json(self) -> bytes:
        """The manifest as it stands in the archive."""
        content = {
            "format": "trustvlm-backup", "version": VERSION, "trustvlm": self.trustvlm,
            "created_at": self.created_at.isoformat(), "schema": self.catalog.schema,
            "epoch": self.catalog.epoch,
            "spaces": [asdict(space) for space in self.catalog.spaces],
            "members": {name: asdict(member) for name, member in self.members.items()},
        }  # fmt: skip
        return json.dumps(content, indent=1, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Manifest:
        """The manifest that :meth:`to_json` wrote. Raises ValueError for anything else."""
        try:
            found = json.loads(content)
            if found["format"] != "trustvlm-backup" or found["version"] != VERSION:
                raise ValueError(f"format {found['format']!r}, version {found['version']!r}")
            spaces = [SpaceFacts(**_typed(space, SpaceFacts)) for space in found["spaces"]]
            members = {
                name: Member(**_typed(member, Member)) for name, member in found["members"].items()
            }
            texts = [found[name] for name in ("schema", "epoch", "trustvlm", "created_at")]
            if not all(isinstance(value, str) for value in texts):
                raise ValueError("a number where a text belongs")
            facts = CatalogFacts(texts[0], texts[1], tuple(spaces))
            return cls(texts[2], datetime.fromisoformat(texts[3]), facts, members)
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error


def _typed(row: Any, kind: Any) -> dict[str, Any]:
    """The fields of the dataclass `kind`, each of its own type. Raises ValueError."""
    wanted = {field.name: {"int": int, "str": str}[str(field.type)] for field in fields(kind)}
    if not isinstance(row, dict) or {name: type(value) for name, value in row.items()} != wanted:
        raise ValueError(f"expected {kind.__name__} with {', '.join(wanted)}")
    if any(isinstance(value, int) and value < 0 for value in row.values()):
        raise ValueError(f"{kind.__name__} with a number below 0")
    return row


class ArchiveWriter:
    """Writes an archive's members in order; made by :meth:`writing`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self.members: dict[str, Member] = {}
        self._add(ABOUT, io.BytesIO(_ABOUT), None)

    @classmethod
    @contextmanager
    def writing(cls, path: Path) -> Iterator[ArchiveWriter]:
        """A writer of the new file `path`, which is sealed and on disk when the block ends."""
        with path.open("x+b") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
                yield cls(archive)
                archive.comment = _SEAL % VERSION + b"0" * _DIGEST
            file.seek(-_DIGEST, os.SEEK_END)
            end = file.tell()
            file.seek(0)
            digest = _digest(file, end, None)
            file.seek(end)
            file.write(digest.encode())
            file.flush()
            os.fsync(file.fileno())

    def add(self, name: str, source: Path, progress: Progress | None = None) -> None:
        """Add the file `source` as member `name`.

        Raises:
            InvalidInput: the name is none that a member may have.
        """
        if not _allowed(name):
            raise InvalidInput(
                f"{source}: a file of this name has no place in a backup; move it out of the "
                f"home's folder"
            )
        with source.open("rb") as file:
            self._add(name, file, progress)

    def finish(self, catalog: CatalogFacts, version: str) -> Manifest:
        """Write the manifest, as the last member."""
        manifest = Manifest(
            version, datetime.now(UTC).replace(microsecond=0), catalog, dict(self.members)
        )
        self._add(MANIFEST, io.BytesIO(manifest.to_json()), None)
        return manifest

    def _add(self, name: str, source: BinaryIO, progress: Progress | None) -> None:
        digest, size = hashlib.sha256(), 0
        info = zipfile.ZipInfo(
            name, min(max(datetime.now(UTC).timetuple()[:6], _ZIP_DATES[0]), _ZIP_DATES[1])
        )
        info.external_attr = (stat.S_IFREG | 0o600) << 16
        with self._archive.open(info, "w", force_zip64=True) as member:
            while chunk := source.read(_CHUNK):
                member.write(chunk)
                digest.update(chunk)
                size += len(chunk)
                if progress is not None:
                    progress(len(chunk))
        self.members[name] = Member(size, digest.hexdigest())


def _allowed(name: str) -> bool:
    return name in (ABOUT, CATALOG, SETTINGS) or _ORIGINAL.match(name) is not None


class Archive:
    """An archive that proved right from the first byte to the last; made by :func:`opened`."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self.path, self._archive, self.manifest = path, archive, manifest

    def extract(self, name: str, target: Path, progress: Progress | None = None) -> None:
        """Write a member to the new file `target`, on disk when this returns.

        Raises:
            Damaged: it is not what the manifest says (any more).
        """
        expected = self.manifest.members[name]
        digest, size = hashlib.sha256(), 0
        with target.open("xb") as file, _read_member(self._archive, name, self.path) as member:
            while chunk := member.read(_CHUNK):
                size += len(chunk)
                digest.update(chunk)
                file.write(chunk)
                if progress is not None:
                    progress(len(chunk))
            file.flush()
            os.fsync(file.fileno())
        if (size, digest.hexdigest()) != (expected.size, expected.sha256):
            raise Damaged(
                f"{self.path}: the member {name} changed while it was being read; nothing was "
                f"restored"
            )


@contextmanager
def opened(path: Path, progress: Progress | None = None) -> Iterator[Archive]:
    """The archive `path`, after every byte of it was checked.

    Args:
        progress: called with a number of bytes after these were checked; they are the file's size
            in the end.

    Raises:
        NotFound: no such file. InvalidInput: something else than a backup, or one with members that
            a backup cannot have.
        Damaged: cut off, extended or altered. SchemaMismatch: of a later format, or with a newer
            schema.
    """
    if not path.is_file():
        raise (InvalidInput if os.path.lexists(path) else NotFound)(
            f"{path} is no file; expected a backup"
        )
    with ExitStack() as stack:
        try:
            file = stack.enter_context(path.open("rb"))
            _check_seal(path, file, progress)
            archive = stack.enter_context(zipfile.ZipFile(file))
            manifest = _checked(path, archive)
        except TrustVLMError:
            raise
        except _UNSOUND as error:
            raise Damaged(f"{path} is no sound archive ({error}); use another backup") from error
        except OSError as error:
            raise Unavailable(f"{path} cannot be read: {error.strerror or error}") from error
        yield Archive(path, archive, manifest)


def _check_seal(path: Path, file: BinaryIO, progress: Progress | None) -> None:
    """Compare the archive with its seal."""
    size = os.fstat(file.fileno()).st_size
    head = file.read(30 + len(ABOUT))
    if head[:4] != b"PK\x03\x04" or head[30:] != ABOUT.encode():
        raise InvalidInput(f"{path} is no backup of trustvlm, or its beginning was altered")
    file.seek(max(0, size - 128))
    seal = _SEAL_PATTERN.search(file.read())
    if seal is None:
        raise Damaged(
            f"{path} does not end like a backup: it was cut off, extended or altered; use "
            f"another one"
        )
    if (version := int(seal[1])) > VERSION:
        raise SchemaMismatch(
            f"{path} has the backup format {version}, this program knows {VERSION}; upgrade "
            f"trustvlm"
        )
    file.seek(0)
    if _digest(file, size - _DIGEST, progress) != seal[2].decode():
        raise Damaged(f"{path} does not match its checksum: it was altered; use another one")


def _checked(path: Path, archive: zipfile.ZipFile) -> Manifest:
    """The manifest, once everything in the archive is what it says, and nothing else is there."""
    infos = archive.infolist()
    names = [info.filename for info in infos]
    if len(set(names)) < len(names):
        raise InvalidInput(f"{path}: a member comes twice; this is no backup of trustvlm")
    for info in infos:
        mode = info.external_attr >> 16
        if not (_allowed(info.filename) or info.filename == MANIFEST) or stat.S_IFMT(mode) not in (
            0,
            stat.S_IFREG,
        ):
            raise InvalidInput(
                f"{path}: the member {info.filename!r:.120} has no place in a backup"
            )
        if (
            info.compress_type != zipfile.ZIP_STORED
            or info.flag_bits & 1
            or info.file_size != info.compress_size
        ):
            raise InvalidInput(
                f"{path}: the member {info.filename} is compressed or encrypted; this is no "
                f"backup of trustvlm"
            )
    assert archive.fp is not None
    if sum(info.file_size for info in infos) > archive.fp.seek(0, os.SEEK_END):
        raise InvalidInput(f"{path}: its members overlap; this is no backup of trustvlm")
    if not {ABOUT, CATALOG, MANIFEST} <= set(names):
        raise InvalidInput(
            f"{path}: {CATALOG} or {MANIFEST} is missing; this is no backup of trustvlm"
        )
    manifest = _manifest_of(path, archive)
    if manifest.members.keys() != set(names) - {MANIFEST}:
        raise Damaged(
            f"{path}: its members are not those that its manifest lists; use another backup"
        )
    for name, expected in manifest.members.items():
        with _read_member(archive, name, path) as member:
            size = archive.getinfo(name).file_size
            if size != expected.size or _digest(member, size, None) != expected.sha256:
                raise Damaged(
                    f"{path}: the member {name} does not match the manifest; use another backup"
                )
    return manifest


def _manifest_of(path: Path, archive: zipfile.ZipFile) -> Manifest:
    if archive.getinfo(MANIFEST).file_size > _MAX_MANIFEST:
        raise InvalidInput(f"{path}: expected a manifest of at most {_MAX_MANIFEST >> 20} MiB")
    with _read_member(archive, MANIFEST, path) as member:
        content = member.read()
    try:
        return Manifest.from_json(content)
    except ValueError as error:
        raise InvalidInput(
            f"{path}: its manifest cannot be read ({error!s:.120}); this is no backup of trustvlm"
        ) from error


@contextmanager
def _read_member(archive: zipfile.ZipFile, name: str, path: Path) -> Iterator[IO[bytes]]:
    try:
        with archive.open(name) as member:
            yield member
    except TrustVLMError:
        raise
    except _UNSOUND as error:
        raise Damaged(
            f"{path}: the member {name} cannot be read ({error}); use another backup"
        ) from error


def _digest(file: IO[bytes], size: int, progress: Progress | None) -> str:
    """SHA-256 of the next `size` bytes, or of as many as there are."""
    digest = hashlib.sha256()
    while size > 0 and (chunk := file.read(min(_CHUNK, size))):
        digest.update(chunk)
        size -= len(chunk)
        if progress is not None:
            progress(len(chunk))
    return digest.hexdigest()
