"""The snapshots that machines share, as one process uses them: taken when it has none of its own,
given in the background when it has written one. No call fails for them."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import TrustVLMError
from trustvlm.index.shared.snapshot_store import SnapshotStore
from trustvlm.index.snapshot_header import SnapshotKey
from trustvlm.system.background import Failures

log = logging.getLogger("trustvlm")


class SharedSnapshots:
    """Safe to use from several threads.

    Args:
        store: where they lie; None: machines share none, and every method does nothing.
    """

    def __init__(self, catalog: Catalog, store: SnapshotStore | None) -> None:
        self._catalog, self._store = catalog, store
        usual = (OSError, TrustVLMError)
        self._failures = Failures(log, f"snapshot_store {store}", usual)
        self._waiting: dict[Path, tuple[int, int]] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def take(self, path: Path, key: SnapshotKey, space: SpaceRecord) -> bool:
        """Put the latest shared copy of a snapshot to `path`; whether there was one of use. A store
        that failed just now is not asked."""
        if self._store is None or self._catalog.read_only or self._failures.pause_s:
            return False
        with self._failures.logged():
            return self._store.pull(path, key, space.log_start)
        return False

    def give(self, path: Path, space_id: int, revision: int) -> None:
        """Copy the snapshot at `path`, which shows `revision`, into the store soon."""
        if self._store is None:
            return
        with self._changed:
            self._waiting[path] = (space_id, revision)
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._give_all, name="trustvlm-snapshot-store", daemon=True
                )
                self._thread.start()

    def discard(self, paths: list[Path]) -> None:
        """Delete the shared copies of a space's snapshots: they may hold what was purged.

        Raises:
            Unavailable: one may be left.
        """
        if self._store is not None:
            self._store.discard([path.name for path in paths])

    def close(self) -> None:
        """Wait for what is being copied."""
        thread = self._thread
        if thread is not None and thread.is_alive():  # not so in the child of a fork
            thread.join()

    def _give_all(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
                path, (space_id, revision) = self._waiting.popitem()
            with self._failures.logged():
                self._give(path, space_id, revision)

    def _give(self, path: Path, space_id: int, revision: int) -> None:
        assert self._store is not None
        if not self._store.push(path):
            return
        # A purge deletes the copies that it finds: this is for one that was just being made.
        with self._catalog.read() as connection:
            lost = purge.lost_since(connection, space_id, revision)
        if lost:
            self._store.discard([path.name])
