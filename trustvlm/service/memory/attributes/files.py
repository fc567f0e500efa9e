"""The files of indexed keys: the columns of labels' attributes, so that a process starts without
reading every row. Derived: they can be deleted, and follow the catalog by revision."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Conflict, NotFound, TrustVLMError
from trustvlm.index.snapshot import read_snapshot, write_snapshot
from trustvlm.service.memory.attributes.columns import AttributeColumns
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.system.background import Failures, OneAtATime

log = logging.getLogger("trustvlm")

RENEWED_ROWS = 5_000
"""A file is written again when this many objects, and a tenth of all, have changed since."""


class AttributeFiles:
    """The files of all spaces.

    Args:
        catalog: the truth. folder: where they lie. keep_nothing_purged: called with (space id,
            revision) after a file was written: deletes it if it holds what was purged meanwhile.
    """

    def __init__(
        self, catalog: Catalog, folder: Path, keep_nothing_purged: Callable[[int, int], object]
    ) -> None:
        self._catalog, self._folder, self.check = catalog, folder, keep_nothing_purged
        failures = Failures(log, "writing attributes to a file in the background")
        self._renewal = OneAtATime(failures, "trustvlm-attributes")
        self._void: set[int] = set()
        """Spaces whose file is of no use: of an earlier epoch or recipe, or damaged."""

    def path(self, space_id: int) -> Path:
        """Where the file of a space lies."""
        return self._folder / f"{space_id}.attributes"

    def load(self, view: SpaceView) -> AttributeColumns | None:
        """The columns of the file of a space, at the file's revision; None without one that can be
        followed."""
        key = snapshot_key(view.space, view.epoch, view.revision)
        try:
            stored = read_snapshot(self.path(view.space.id), key)
            if not view.space.log_start <= stored.key.revision <= view.revision:
                self._void.add(view.space.id)
                return None
            return AttributeColumns.from_arrays(stored.arrays, stored.key.revision)
        except NotFound:
            return None
        except Conflict as error:  # after a restore, a repair or 'trustvlm db new-epoch'
            log.info("reading attributes from the catalog: %s", error)
        except TrustVLMError as error:
            log.warning("reading attributes from the catalog: %s", error)
        self._void.add(view.space.id)
        return None

    def due(self, connection: Connection, view: SpaceView, columns: AttributeColumns) -> bool:
        """Whether a file is to be written: keys are indexed, and it is missing, void or
        outgrown."""
        if self._catalog.read_only or not rows.indexed_keys(connection, view.space.id):
            return False
        enough, space_id = max(RENEWED_ROWS, columns.rows().live // 10), view.space.id
        missing = space_id in self._void or not self.path(space_id).exists()
        return missing or columns.followed >= enough

    def renew_soon(self, space_name: str) -> None:
        """Write the file of a space in the background, unless one is being written."""
        self._renewal.begin(lambda: self._renew(space_name))

    def _renew(self, space_name: str) -> None:
        try:
            with self._catalog.read() as connection:
                space, epoch = spaces.find(connection, space_name), self._catalog.epoch(connection)
                self.write(connection, space, epoch)
            self.check(space.id, space.revision)
        except (OSError, TrustVLMError) as error:
            log.warning("the attributes of space %s were not indexed: %s", space_name, error)

    def write(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Write the file of a space from the catalog, with the columns of its indexed keys; delete
        it where there are none.

        Raises:
            ReadOnly, Unavailable: it cannot be written.
        """
        keys = rows.indexed_keys(connection, space.id)
        self._void.discard(space.id)
        if not keys:
            self.path(space.id).unlink(missing_ok=True)
            return
        columns = AttributeColumns(rows.LABELS)
        paths = [tuple(key.split(".")) for key in keys]
        columns.follow(connection, space, paths)
        key = snapshot_key(space, epoch, space.revision)
        write_snapshot(self.path(space.id), key, columns.to_arrays())

    def close(self) -> None:
        """Wait for what is being written."""
        self._renewal.wait()
