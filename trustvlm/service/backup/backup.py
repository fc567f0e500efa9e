"""Backing up a home: the catalog as it is at one moment, the settings, and the originals.

The catalog is copied while others write: a file page by page
(:mod:`trustvlm.catalog.upkeep.copy_catalog`), one on a server table by table, into a file
(:mod:`trustvlm.catalog.upkeep.copy_tables`). The copy is then put into the archive: both in a work
folder beside the target. The archive gets its name when it is complete and on disk.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.location import FileLocation, Location, location_of
from trustvlm.catalog.upkeep import copy_catalog
from trustvlm.catalog.upkeep.copy_tables import copy_as_it_is
from trustvlm.errors import Conflict, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.service.backup.archive import CATALOG, ORIGINALS, SETTINGS, write_archive
from trustvlm.service.backup.carried_settings import carried
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import make_folder
from trustvlm.system.files.work_folder import put, unwritable, work_folder
from trustvlm.types.backups import Backup, Upgrade
from trustvlm.types.messages.commands import suggested

Progress = Callable[[int, int], None]


def back_up(
    home: Path,
    location: Location,
    target: Path,
    *,
    originals: Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    pages: int = 1_024,
) -> Backup:
    """Write the backup `target` of a home and its catalog, a file of any schema or one on a server;
    see :meth:`TrustService.backup`.

    Args:
        originals: the folder that holds them, if any. progress: called after each `pages` pages of
            a file.
    """
    target = target.absolute()
    if target.is_dir():
        raise InvalidInput(f"{target} is a folder; expected the name of a file to write")
    if os.path.lexists(target) and not force:
        raise Conflict(f"{target} exists already; choose another name, or --force to replace it")
    catalog = location.file
    if catalog is not None and not catalog.is_file():
        raise NotFound(f"no catalog at {catalog}: nothing to back up")
    done, total = 0, 0 if catalog is None else 2 * catalog.stat().st_size

    def report(number: int, _: int = 0) -> None:
        if progress is not None:
            progress(min(number, total), total)

    def archived(number: int) -> None:
        nonlocal done
        done += number
        report(done)

    with unwritable("writing the backup", target), work_folder(target.parent) as work:
        copy, made = work / CATALOG, work / "archive.zip"
        if catalog is None:
            copy_as_it_is(location, FileLocation(copy))
        else:
            copy_catalog.copy_catalog(catalog, copy, pages, report)
        reached("backup.copied")
        facts = copy_catalog.facts(copy)
        # Listed after the copy: an original is on disk before the row that refers to it.
        settings = carried(home / SETTINGS, work)
        files = [(CATALOG, copy), (SETTINGS, settings), *_originals(originals)]
        done = copy.stat().st_size
        total = done + sum(path.stat().st_size for _, path in files if path.is_file())
        manifest = write_archive(made, files, facts, archived)
        reached("backup.synced")
        size = made.stat().st_size
        put(made, target, force=force)
    number = sum(name.startswith(ORIGINALS) for name in manifest.members)
    return Backup(target, size, manifest.created_at, facts, number)


def upgrade_home(home: Path, place: Location | Path, *, backup: bool = True) -> Upgrade:
    """Bring a home's catalog to the newest schema, after a backup into HOME/backups; make it when
    missing.

    The upgrade is one transaction: when it fails, the catalog is what it was.

    Raises:
        ReadOnly, Unavailable: the backup or the catalog cannot be written; nothing was changed.
        SchemaMismatch: newer than this program. Busy: the catalog was written between the backup
            and the upgrade.
    """
    location, head = location_of(place), schema.head()
    before = _schema_of(location)
    schema.refuse_newer(before)
    if before == head:
        return Upgrade(before, head, None)
    if before is None or not backup:
        if location.file is not None:
            _make_folder(location.file.parent)
        Catalog.upgrade(location)
        return Upgrade(before, head, None)
    target = home / "backups" / f"before-{head}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip"
    try:
        with unwritable("making the folder", target.parent):
            make_folder(target.parent)
        made = back_up(home, location, target, originals=home / ORIGINALS)
    except (Unavailable, Conflict, InvalidInput) as error:
        without = suggested("db upgrade", options="--no-backup")
        raise type(error)(
            f"no backup, so no upgrade: {error} ({without} does without one)"
        ) from error
    Catalog.upgrade(location, expected=made.catalog)
    return Upgrade(before, head, made.path)


def _schema_of(location: Location) -> str | None:
    """The schema of the catalog at a location; None where there is none."""
    file = location.file
    if file is None:
        return Catalog.schema_of(location)
    # A writable file is not opened read-only: SQLite first undoes a making that was cut short.
    writable = os.access(file.parent, os.W_OK)
    return Catalog.schema_of(file, read_only=not writable) if file.is_file() else None


def _make_folder(folder: Path) -> None:
    try:
        make_folder(folder)
    except OSError as error:
        raise ReadOnly(f"{folder} cannot be made: {error.strerror}") from error


def _originals(root: Path | None) -> Iterator[tuple[str, Path]]:
    """(member name, path) of each file of the originals, without hidden (unfinished) ones.

    Raises:
        InvalidInput: a link or a device among them.
    """
    if root is None:
        return
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in names if not name.startswith(".")):
            path = Path(folder, name)
            if path.is_symlink() or (path.exists() and not path.is_file()):
                raise InvalidInput(
                    f"{path} is a link or a device; a backup holds plain files only, so take it "
                    f"away"
                )
            yield f"{ORIGINALS}/{path.relative_to(root).as_posix()}", path
