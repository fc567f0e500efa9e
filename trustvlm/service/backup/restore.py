"""Making a home of a backup. The target is touched last: by one rename, when the new home is whole
and on disk.

A home made of a backup has a new epoch, so that no cache and no snapshot of another history is
taken for its own, and no derived file. Replacing a home needs it to be out of use; the old one
stays beside it under a name of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from trustvlm.catalog.store import schema
from trustvlm.catalog.upkeep import copy_catalog
from trustvlm.catalog.upkeep.copy_catalog import CatalogFacts
from trustvlm.errors import Conflict, Damaged, InvalidInput, SchemaMismatch
from trustvlm.service.backup.archive import ABOUT, CATALOG, Archive, Manifest, opened
from trustvlm.service.home.work_folder import exchange, unwritable, work_folder
from trustvlm.system.durable import sync
from trustvlm.system.fault_points import reached

__all__ = ["Restored", "check_backup", "restore"]

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Restored:
    """A home that was made of a backup.

    Attributes:
        home: where it is. created_at: when the backup was made.
        catalog: its schema, its new epoch, and its live spaces with revision and counts.
        replaced: where the home that was there before is now; None where there was none.
        outdated: the schema is older than this program's: 'trustvlm db upgrade' comes next.
    """

    home: Path
    created_at: datetime
    catalog: CatalogFacts
    replaced: Path | None
    outdated: bool


def check_backup(archive: str | os.PathLike[str], *, progress: Progress | None = None) -> Manifest:
    """Check every byte of a backup and say what is in it; see :func:`restore` for what is
    raised."""
    with opened(Path(archive).absolute(), progress) as found:
        _check_schema(found)
        return found.manifest


def restore(
    archive: str | os.PathLike[str],
    home: str | os.PathLike[str],
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make a home of the backup `archive`; this is :func:`trustvlm.restore`.

    Every byte of the archive is checked before anything is written. The new home is made beside the
    target and renamed into its place when it is complete and on disk: after a crash the target is
    what it was, or the new home.

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
        found = stack.enter_context(opened(Path(archive).absolute(), progress))
        _check_schema(found)
        old = _existing(target, replace)
        stack.enter_context(unwritable("restoring to", target))
        work = stack.enter_context(work_folder(target.parent))
        made = work / "home"
        facts = _make(found, made)
        reached("restore.made")
        aside = None if old is None else _put_in_place_of(target, made)
        if old is None:
            made.rename(target)  # replaces an empty folder, and nothing else
            reached("restore.renamed")
            sync(target.parent)
        return Restored(
            target, found.manifest.created_at, facts, aside, facts.schema != schema.head()
        )


def _check_schema(found: Archive) -> None:
    try:
        schema.refuse_newer(found.manifest.catalog.schema)
    except SchemaMismatch as error:
        raise SchemaMismatch(f"{found.path}: {error}") from error


def _existing(target: Path, replace: bool) -> Path | None:
    """The home that is to be replaced, if there is one.

    Raises:
        Conflict, InvalidInput: what is there may not be touched.
    """
    if not os.path.lexists(target):
        return None
    if not target.is_dir():
        raise InvalidInput(f"{target} is a file; expected a folder, or the name of a new one")
    if (target / CATALOG).is_file():
        if not replace:
            raise Conflict(
                f"{target} is a home already; choose another folder, or --replace it (the old "
                f"one is kept beside it)"
            )
        return target
    if any(target.iterdir()):
        raise InvalidInput(
            f"{target} holds files but no {CATALOG}; expected a home, an empty folder, or the "
            f"name of a new one"
        )
    return None


def _make(archive: Archive, made: Path) -> CatalogFacts:
    """Extract the archive into the new folder `made` and make a home of it; all on disk when this
    returns."""
    made.mkdir()
    folders = {made}
    for name in archive.manifest.members:
        if name == ABOUT:
            continue
        path = made / name
        path.parent.mkdir(parents=True, exist_ok=True)
        folders |= {parent for parent in path.parents if parent.is_relative_to(made)}
        archive.extract(name, path)
    catalog = made / CATALOG
    if copy_catalog.facts(catalog) != archive.manifest.catalog:
        raise Damaged(
            f"{archive.path}: its catalog is not the one that its manifest describes; use "
            f"another backup"
        )
    copy_catalog.renew_epoch_of(catalog)
    facts = copy_catalog.facts(catalog)
    sync(catalog)
    for folder in folders:
        sync(folder)
    return facts


def _put_in_place_of(target: Path, made: Path) -> Path:
    """Let the home `made` be at `target`, and what was there beside it; where that is."""
    name = f"{target.name}.aside-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    free = (
        target.with_name(name + suffix)
        for suffix in ("", *(f"-{number}" for number in range(2, 1_000)))
    )
    aside = next(path for path in free if not os.path.lexists(path))
    with copy_catalog.unused(target / CATALOG):
        made.rename(
            aside
        )  # complete: from here on a crash leaves two whole homes, of which one is in place
        try:
            reached("restore.aside")
            exchange(aside, target)
        except BaseException:
            aside.rename(made)
            raise
    reached("restore.exchanged")
    sync(target.parent)
    return aside
