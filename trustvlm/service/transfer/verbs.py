"""The verbs that back up a home, and export and import a space."""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike

from trustvlm.service.backup.backup import back_up
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.transfer.export import export_space
from trustvlm.types import SpaceRow
from trustvlm.types.backups import Backup, Exported
from trustvlm.types.bounds import callbacks, flags, path_of


class TransferVerbs(OpenHome):
    """Backups of an open home, and spaces as Parquet files."""

    def backup(
        self,
        path: str | PathLike[str],
        *,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> Backup:
        """Write one file from which :func:`trustvlm.restore` makes this home again, as it is at one
        moment.

        Others may read and write meanwhile. It holds the catalog, trustvlm.toml and the originals,
        and nothing that is derived. The file appears when it is complete and on disk; its folder
        needs room for the catalog twice. What is purged later stays in backups made before.

        Args:
            force: replace a file of that name. progress: called with (bytes done, bytes in all).

        Raises:
            Conflict: the file exists. NotFound: its folder does not. ReadOnly, Unavailable: it
                cannot be written.
            Damaged: the catalog is not sound. Unavailable: the folder of originals is not here.
        """
        flags(force=force)
        callbacks(progress=progress)
        home = self._ready()
        pages = home.thresholds.backup_pages
        kept = home.originals.check(home.catalog)
        return back_up(
            home.folder,
            home.catalog.location,
            path_of("path", path),
            originals=home.originals.folder(home.catalog) if kept else None,
            force=force,
            progress=progress,
            pages=pages,
        )

    def export_space(
        self,
        space: str,
        folder: str | PathLike[str],
        *,
        progress: Callable[[int], None] | None = None,
    ) -> Exported:
        """Write a space, as it is at one revision, as Parquet files into the new folder `folder`.

        labels.parquet holds names, prompts, aliases, text prototypes and prototypes;
        supports.parquet the support images with their float32 embeddings and thumbnails;
        manifest.json the space (templates, encoders and their identities) and the files' checksums.
        What was removed, calibrations and feedback are not exported.

        Args:
            progress: called with a number of labels after these were written.

        Raises:
            NotFound: no such space, or no folder to make it in. Conflict: the folder is there.
            ReadOnly, Unavailable: it cannot be written.
        """
        callbacks(progress=progress)
        return export_space(self._ready(), space, path_of("folder", folder), progress)

    def import_space(
        self,
        folder: str | PathLike[str],
        *,
        name: str | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> SpaceRow:
        """Make a space of what :meth:`export_space` wrote, with the same prototypes, bit by bit,
        pinned to the same encoders.

        It is written in durable chunks, and is invisible before the last one.

        Args:
            name: of the space; None: that of the one that was exported.
            progress: called with a number of labels after these were committed.

        Raises:
            NotFound: no such folder. Conflict: the name is taken. InvalidInput: the files
                are not, or no longer, what an export writes.
        """
        from trustvlm.service.transfer.import_space import import_space

        callbacks(progress=progress)
        return import_space(self._writable(), path_of("folder", folder), name, progress)
