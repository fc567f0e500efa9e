"""Backing up a home: the catalog as it is at one moment, the settings, the originals; nothing that
is derived.

The catalog is copied while others write (:mod:`trustvlm.catalog.upkeep.copy_catalog`), then wrapped
into the archive: both in a work folder beside the target, which needs room for the catalog twice.
The archive gets its name when it is whole and on disk.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from trustvlm.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.upkeep import copy_catalog
from trustvlm.catalog.upkeep.copy_catalog import CatalogFacts
from trustvlm.errors import Conflict, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.service.backup.archive import CATALOG, ORIGINALS, SETTINGS, ArchiveWriter
from trustvlm.service.home.work_folder import put, unwritable, work_folder
from trustvlm.system.durable import make_folder
from trustvlm.system.fault_points import reached

__all__ = ["BACKUPS", "Backup", "Upgrade", "back_up", "upgrade_home"]

BACKUPS = "backups"
"""The folder of a home that holds the backups which upgrades make."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Backup:
    """A backup that was written.

    Attributes:
        path: the archive. size: its bytes. created_at: when it was finished.
        catalog: schema, epoch and live spaces (with revision and counts) of the catalog in it.
        originals: how many original images it holds.
    """

    path: Path
    size: int
    created_at: datetime
    catalog: CatalogFacts
    originals: int


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: the schema before (None: no catalog), the schema now, and the backup
    made in between, if any."""

    before: str | None
    now: str
    backup: Path | None


def back_up(
    home: Path,
    catalog: Path,
    target: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Backup:
    """Write the backup `target` of a home and its catalog file, of any schema; see
    :meth:`TrustService.backup`."""
    target = target.absolute()
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder; expected the name of a file to write")
    if os.path.lexists(target) and not force:
        raise Conflict(f"{target} exists already; choose another name, or --force to replace it")
    if not catalog.is_file():
        raise NotFound(f"no catalog at {catalog}: nothing to back up")
    with unwritable("writing the backup", target), work_folder(target.parent) as work:
        copy, made = work / CATALOG, work / "archive.zip"
        count = _Count(progress, 2 * catalog.stat().st_size)
        copy_catalog.copy_catalog(catalog, copy, count.set)
        reached("backup.copied")
        facts = copy_catalog.facts(copy)
        files = list(
            _originals(home)
        )  # after the catalog: an original is there before what refers to it
        count.total = 2 * copy.stat().st_size + sum(size for *_, size in files)
        with ArchiveWriter.writing(made) as archive:
            archive.add(CATALOG, copy, count.add)
            copy.unlink()
            if (home / SETTINGS).is_file():
                archive.add(SETTINGS, home / SETTINGS)
            for name, path, _ in files:
                with suppress(
                    FileNotFoundError
                ):  # purged meanwhile, with the support image that it belongs to
                    archive.add(name, path, count.add)
            manifest = archive.finish(facts, version("trustvlm"))
        reached("backup.synced")
        size = made.stat().st_size
        put(made, target, force=force)
    return Backup(
        target,
        size,
        manifest.created_at,
        facts,
        sum(name.startswith(ORIGINALS) for name in manifest.members),
    )


def upgrade_home(home: Path, catalog: Path, *, backup: bool = True) -> Upgrade:
    """Bring a home's catalog to the newest schema, after a backup into the home's folder of
    backups; make it when missing.

    The upgrade is one transaction: when it fails, the catalog is what it was.

    Raises:
        ReadOnly, Unavailable: the backup or the catalog cannot be written; nothing was changed.
        SchemaMismatch: newer than this program. Busy: somebody wrote between the backup and the
            upgrade.
    """
    head = schema.head()
    writable = os.access(
        catalog.parent, os.W_OK
    )  # then also a file whose making was cut short is read
    before = Catalog.schema_of(catalog, read_only=not writable) if catalog.is_file() else None
    schema.refuse_newer(before)
    if before == head:
        return Upgrade(before, head, None)
    if before is None or not backup:
        try:
            make_folder(catalog.parent)
        except OSError as error:
            raise ReadOnly(f"{catalog.parent} cannot be made: {error.strerror}") from error
        Catalog.upgrade(catalog)
        return Upgrade(before, head, None)
    target = home / BACKUPS / f"before-{head}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
    try:
        with unwritable("making the folder", target.parent):
            make_folder(target.parent)
        made = back_up(home, catalog, target)
    except (Unavailable, Conflict, InvalidInput) as error:
        raise type(error)(
            f"no backup, so no upgrade: {error} ('trustvlm db upgrade --no-backup' does without "
            f"one)"
        ) from error
    Catalog.upgrade(catalog, expected=made.catalog)
    return Upgrade(before, head, made.path)


def _originals(home: Path) -> Iterator[tuple[str, Path, int]]:
    """(member name, path, size) of each file of the originals, hidden ones (unfinished) left out.

    Raises:
        InvalidInput: a link or a device among them.
    """
    root = home / ORIGINALS
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(folder, name)
            try:
                found = path.lstat()
            except FileNotFoundError:
                continue
            if name.startswith("."):
                continue
            if not stat.S_ISREG(found.st_mode):
                raise InvalidInput(
                    f"{path} is a link or a device; a backup holds plain files only, so take it "
                    f"away"
                )
            yield f"{ORIGINALS}/{path.relative_to(root).as_posix()}", path, found.st_size


class _Count:
    """Bytes done out of a total."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._done, self.total = progress, 0, total

    def add(self, number: int) -> None:
        self.set(self._done + number)

    def set(self, done: int, _: int = 0) -> None:
        self._done = done
        if self._progress is not None:
            self._progress(min(done, self.total), self.total)
