"""Making a home of a backup.

The target is touched last: by one rename, when the new home is complete and on disk. The new home
has a new epoch, so that no cache and no snapshot of another history is taken for its own, and no
derived file. A home that is replaced must be out of use; it stays beside the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from trustvlm.catalog.store import schema
from trustvlm.catalog.upkeep import copy_catalog
from trustvlm.errors import Conflict, Damaged, InvalidInput
from trustvlm.service.backup.archive import ABOUT, CATALOG, Archive, Manifest, open_archive
from trustvlm.service.home.work_folder import exchange, unwritable, work_folder
from trustvlm.system.durable import sync
from trustvlm.system.fault_points import reached
from trustvlm.types.backups import CatalogFacts, Restored

__all__ = ["check_backup", "restore"]

Progress = Callable[[int], None]


def check_backup(archive: str | os.PathLike[str], *, progress: Progress | None = None) -> Manifest:
    """Check every byte of a backup and say what is in it; :func:`restore` lists the errors."""
    with open_archive(Path(archive).absolute(), progress) as opened:
        for name in opened.manifest.members:
            opened.extract(name)
        return opened.manifest


def restore(
    archive: str | os.PathLike[str],
    home: str | os.PathLike[str],
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make a home of the backup `archive`; this is :func:`trustvlm.restore`.

    The archive's seal and list of members are checked before anything is written, its digests and
    its catalog before the target is touched. The new home is made beside the target and renamed
    into its place when it is complete and on disk: after a crash the target is what it was, or the
    new home.

    Args:
        home: the directory to make. One that exists must be empty, or a home, and then `replace`
            must be true: the old home is kept beside it (`Restored.replaced`), to be deleted by
            hand.
        progress: called with numbers of bytes that were checked; their sum in the end is the
            archive's size.

    Raises:
        NotFound: no such archive, or no folder to make the home in. InvalidInput: something else
        than a backup, or a target that is no home. Damaged: the archive was cut off, extended or
        altered. Conflict: there is a home and not `replace`. SchemaMismatch: the archive is newer
        than this program. Busy: the home to replace is in use. ReadOnly, Unavailable: the target
        cannot be written.
    """
    target = Path(home).expanduser().resolve()  # a link stays; what it leads to is made or replaced
    with ExitStack() as stack:
        opened = stack.enter_context(open_archive(Path(archive).absolute(), progress))
        occupied = _check_target(target, replace)
        stack.enter_context(unwritable("restoring to", target))
        made = stack.enter_context(work_folder(target.parent)) / "home"
        facts = _make(opened, made)
        reached("restore.made")
        aside = _put_in_place_of(target, made) if occupied else None
        if not occupied:
            made.rename(target)  # replaces an empty folder, and nothing else
            reached("restore.renamed")
            sync(target.parent)
        outdated = facts.schema != schema.head()
        return Restored(target, opened.manifest.created_at, facts, aside, outdated)


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


def _make(archive: Archive, made: Path) -> CatalogFacts:
    """Extract the archive into the new folder `made` and make a home of it; all on disk when this
    returns."""
    made.mkdir()
    for name in archive.manifest.members:
        if name != ABOUT:
            path = made / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as file:
                archive.extract(name, file)
    catalog = made / CATALOG
    if copy_catalog.facts(catalog) != archive.manifest.catalog:
        raise Damaged(
            f"{archive.path}: its catalog is not the one that its manifest describes; use "
            f"another backup"
        )
    copy_catalog.renew_epoch_of(catalog)
    for path in (*made.rglob("*"), made):
        sync(path)
    return copy_catalog.facts(catalog)


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
