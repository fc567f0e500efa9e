"""Restoring a backup to where the settings of a home say that its catalog is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from trustvlm.catalog.store.location import FileLocation, Location
from trustvlm.errors import InvalidInput
from trustvlm.service.backup.restore import restore_catalog, restore_home
from trustvlm.settings import CATALOG_NAME, Settings
from trustvlm.system.files.default_home import expanded
from trustvlm.types.backups import Restored
from trustvlm.types.bounds import callbacks, flags, path_of

__all__ = ["restore", "restore_to"]

Progress = Callable[[int], None]


def restore(
    archive: str | os.PathLike[str],
    home: str | os.PathLike[str],
    *,
    replace: bool = False,
    database_url: str | None = None,
    progress: Progress | None = None,
) -> Restored:
    """Make a home of the backup `archive`, or a catalog in PostgreSQL; this is
    :func:`trustvlm.restore`.

    The archive's seal and list of members are checked before anything is written, its digests and
    its catalog before the target is touched. After a crash the target is what it was, or what was
    restored. The labels, support images and vectors are those of the backup to the bit, with their
    ids and revisions; the epoch is new.

    Args:
        home: the directory to make. One that exists must be empty, or a home, and then `replace`
            must be true: the old home is kept beside it (`Restored.replaced`), to be deleted by
            hand. With a database it is this machine's home, which is made when missing, and gets
            the settings of the backup where it has none.
        replace: replace the home, or the catalog of the database, which is then kept in another
            schema (`Restored.replaced_schema`).
        database_url: where the catalog goes, if not into the home and not as the settings say:
            "postgresql://user@host/database". Original images are not restored there.
        progress: called with numbers of bytes that were checked; their sum in the end is the
            archive's size.

    Raises:
        NotFound: no such archive, no folder to make the home in, or no such database.
        InvalidInput: something else than a backup, or a target that is no home. Damaged: the
            archive was cut off, extended or altered. Conflict: there is a home or a catalog, and
            not `replace`. SchemaMismatch: the archive is newer than this program. Busy: what is to
            be replaced is in use. ReadOnly, Unavailable: the target cannot be written.
    """
    flags(replace=replace)
    callbacks(progress=progress)
    folder = expanded(path_of("home", home))
    location = Settings.of(folder, database_url=database_url).location(folder)
    return restore_to(archive, folder, location, replace=replace, progress=progress)


def restore_to(
    archive: str | os.PathLike[str],
    home: Path,
    location: Location,
    *,
    replace: bool = False,
    progress: Progress | None = None,
) -> Restored:
    """Make a home, or a catalog in PostgreSQL, of the backup `archive`; see :func:`restore`.

    Args:
        home: the directory to make. location: where the catalog goes: into `home`, or a database.

    Raises:
        InvalidInput: the location is a file outside of the home. Others as :func:`restore`.
    """
    if not isinstance(location, FileLocation):
        return restore_catalog(archive, home, location, replace=replace, progress=progress)
    if location.path.absolute() != home.absolute() / CATALOG_NAME:
        raise InvalidInput(
            f"database_url: a backup is restored to a home, with its catalog in it, or to a "
            f"PostgreSQL database; got {location}"
        )
    return restore_home(archive, home, replace=replace, progress=progress)
