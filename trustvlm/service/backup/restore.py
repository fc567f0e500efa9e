"""Making a home, or a catalog on a server, of a backup.

The target is touched last: a home by one rename, when the new one is complete and on disk; a
catalog on a server in the transaction that makes the new one. What is made has a new epoch, so that
no cache and no snapshot of another history is taken for its own, and no derived file. What is
replaced must be out of use; it stays beside the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.location import FileLocation, ServerLocation
from trustvlm.catalog.upkeep import copy_catalog
from trustvlm.catalog.upkeep.copy_tables import copy_tables, replace_tables
from trustvlm.errors import Conflict, Damaged, InvalidInput
from trustvlm.service.backup.archive import (
    ABOUT,
    CATALOG,
    ORIGINALS,
    SETTINGS,
    Archive,
    Manifest,
    open_archive,
)
from trustvlm.service.backup.carried_settings import without_places
from trustvlm.system.fault_points import reached
from trustvlm.system.files.default_home import expanded
from trustvlm.system.files.durable import make_folder, sync
from trustvlm.system.files.work_folder import exchange, put, unwritable, work_folder
from trustvlm.types.backups import Restored
from trustvlm.types.bounds import path_of

Progress = Callable[[int], None]


def check_backup(archive: str | os.PathLike[str], *, progress: Progress | None = None) -> Manifest:
    """Check every byte of a backup and say what is in it; :func:`trustvlm.restore` lists the
    errors."""
    with open_archive(path_of("archive", archive).absolute(), progress) as opened:
        for name in opened.manifest.members:
            opened.extract(name)
        return opened.manifest


def restore_home(
    archive: str | os.PathLike[str],
    home: str | os.PathLike[str],
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make a home of the backup `archive`; see :func:`trustvlm.restore`.

    The new home is made beside the target and renamed into its place when it is complete and on
    disk: after a crash the target is what it was, or the new home.
    """
    # A link stays; what it leads to is made or replaced.
    target = expanded(path_of("home", home)).resolve()
    with ExitStack() as stack:
        opened = stack.enter_context(open_archive(path_of("archive", archive).absolute(), progress))
        occupied = _check_target(target, replace)
        stack.enter_context(unwritable("restoring to", target))
        made = stack.enter_context(work_folder(target.parent)) / "home"
        _extract(opened, made, opened.manifest.members)
        copy_catalog.renew_epoch_of(made / CATALOG)
        for path in (*made.rglob("*"), made):
            sync(path)
        facts = copy_catalog.facts(made / CATALOG)
        reached("restore.made")
        aside = _put_in_place_of(target, made) if occupied else None
        if not occupied:
            made.rename(target)  # replaces an empty folder, and nothing else
            reached("restore.renamed")
            sync(target.parent)
        originals = sum(name.startswith(ORIGINALS) for name in opened.manifest.members)
        outdated = facts.schema != schema.head()
        made_at = opened.manifest.created_at
        return Restored(target, made_at, facts, aside, outdated, originals=originals)


def restore_catalog(
    archive: str | os.PathLike[str],
    home: Path,
    location: ServerLocation,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make the catalog on a server of the backup `archive`, brought to this program's schema; see
    :func:`trustvlm.restore`. `home`: of this machine; made when it is missing.

    One transaction makes the new catalog, and gives it the schema's name: after a crash the target
    is what it was, or the new catalog.
    """
    with ExitStack() as stack:
        opened = stack.enter_context(open_archive(path_of("archive", archive).absolute(), progress))
        occupied = Catalog.schema_of(location) is not None
        if occupied and not replace:
            raise Conflict(
                f"{location}: a catalog is there already; give another database or schema, or "
                f"--replace it (the old one is kept in a schema beside it)"
            )
        stack.enter_context(unwritable("restoring by way of", home))
        make_folder(home)
        made = stack.enter_context(work_folder(home)) / "home"
        _extract(opened, made, {CATALOG, SETTINGS} & opened.manifest.members.keys())
        Catalog.upgrade(made / CATALOG)
        reached("restore.made")
        copy = FileLocation(made / CATALOG)
        aside = replace_tables(copy, location) if occupied else None
        if not occupied:
            copy_tables(copy, location)
        reached("restore.exchanged")
        if (made / SETTINGS).is_file() and not (home / SETTINGS).exists():
            put(made / SETTINGS, home / SETTINGS, force=False)
        with closing(Catalog(location)) as catalog, catalog.read() as connection:
            facts = copy_catalog.facts_of(connection, location)
        manifest = opened.manifest
        left_out = sum(name.startswith(ORIGINALS) for name in manifest.members)
        return Restored(
            home, manifest.created_at, facts, None, outdated=False,
            database=str(location), replaced_schema=aside, originals_left_out=left_out,
        )  # fmt: skip


def _check_target(target: Path, replace: bool) -> bool:
    """Whether there is a home to replace.

    Raises:
        Conflict, InvalidInput: what is there may not be touched.
    """
    if not os.path.lexists(target):
        return False
    if not target.is_dir():
        raise InvalidInput(f"{target} is a file; expected a folder, or the name of a new one")
    occupied = (target / CATALOG).is_file()
    if occupied and not replace:
        raise Conflict(
            f"{target} is a home already; choose another folder, or --replace it (the old one is "
            f"kept beside it)"
        )
    if not occupied and any(target.iterdir()):
        raise InvalidInput(
            f"{target} holds files but no {CATALOG}; expected a home, an empty folder, or the "
            f"name of a new one"
        )
    return occupied


def _extract(archive: Archive, made: Path, names: Collection[str]) -> None:
    """Extract members of an archive into the new folder `made`; the catalog is among them."""
    made.mkdir()
    for name in archive.manifest.members:
        if name in names and name != ABOUT:
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                archive.extract(name, file)
    if (settings := made / SETTINGS).is_file():
        settings.write_bytes(without_places(settings.read_bytes()))
    if copy_catalog.facts(made / CATALOG) != archive.manifest.catalog:
        raise Damaged(
            f"{archive.path}: its catalog is not the one that its manifest describes; use "
            f"another backup"
        )


def _put_in_place_of(target: Path, made: Path) -> Path:
    """Let the home `made` be at `target`, and what was there beside it; where that is."""
    name = f"{target.name}.aside-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    names = (name, *(f"{name}-{number}" for number in range(2, 1_000)))
    aside = next(p for p in map(target.with_name, names) if not os.path.lexists(p))
    with copy_catalog.unused(target / CATALOG):
        # Complete: from here on a crash leaves two complete homes, one of them in place.
        made.rename(aside)
        try:
            reached("restore.aside")
            exchange(aside, target)
        except BaseException:
            aside.rename(made)
            raise
    reached("restore.exchanged")
    sync(target.parent)
    return aside
