"""The indexes over support images of every space that a process has touched: made, kept, renewed in
the background."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.live import IndexView
from trustvlm.index.recipe import load_recipe
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_cache import SupportCache, write_supports

__all__ = ["SupportCaches"]

log = logging.getLogger("trustvlm")

SNAPSHOT_ROWS = 5_000
"""When so many support images, and a tenth of all, were read since the last snapshot, a new one is
written."""

KINDS = {"verifier": False, "classifier": True}


class SupportCaches:
    """Indexes over support images.

    Args:
        catalog: the truth. folder: where snapshots lie. device: where FAISS indexes live.
    """

    def __init__(self, catalog: Catalog, folder: Path, device: str) -> None:
        self.folder = folder
        self._catalog = catalog
        self._device = device
        self._guard = threading.Lock()
        self._renewal: threading.Thread | None = None

    def paths(self, space_id: int) -> list[Path]:
        """Where the snapshots of a space lie."""
        return [self._path(space_id, kind) for kind in KINDS]

    def _path(self, space_id: int, kind: str) -> Path:
        return self.folder / f"{space_id}.{kind}-supports.snapshot"

    def view(self, connection: Connection, view: SpaceView, *, classifier: bool) -> IndexView:
        """The index over support images at the view's revision."""
        kind = "classifier" if classifier else "verifier"
        with view.cache.support_lock:
            found = view.cache.support_caches.get(kind)
            if found is not None and found.revision > view.revision:
                # Another thread took it further than this transaction sees: a private one, for this
                # call only.
                return self._started(connection, view, kind).view(connection, view.space)
            if found is None or found.revision < view.space.log_start:
                found = self._started(connection, view, kind)
            index = found.view(connection, view.space)
            view.cache.support_caches[kind] = found
        if not self._catalog.read_only and self._due(found, index):
            self._renew_soon(view, kind, index)
        return index

    def rebuild(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Make the snapshots of a space anew, where its recipe has any: what a process then starts
        from.

        Raises:
            ReadOnly, Unavailable: one cannot be written.
        """
        for kind, classifier in KINDS.items():
            self._path(space.id, kind).unlink(missing_ok=True)
            if load_recipe(space.recipe).lists(
                supports.count(connection, space.id, classifier=classifier)
            ):
                built = SupportCache.built(connection, space, self._device, classifier=classifier)
                key = snapshot_key(space, epoch, built.revision)
                write_supports(self._path(space.id, kind), key, built.view(connection, space))

    def close(self) -> None:
        """Wait for what is being written."""
        renewal = self._renewal
        if renewal is not None and renewal.is_alive():
            renewal.join()

    def _started(self, connection: Connection, view: SpaceView, kind: str) -> SupportCache:
        """From the snapshot that there is, or from the catalog."""
        space, classifier = view.space, KINDS[kind]
        if load_recipe(space.recipe).training:
            key = snapshot_key(space, view.epoch, view.revision)
            try:
                found = SupportCache.read(
                    self._path(space.id, kind), key, space, self._device, classifier=classifier
                )
                if space.log_start <= found.revision <= view.revision:
                    return found
            except NotFound:
                pass
            except (Conflict, Unavailable) as error:
                log.warning("rebuilding an index over support images from the catalog: %s", error)
        found = SupportCache.built(connection, space, self._device, classifier=classifier)
        found.replayed = SNAPSHOT_ROWS + len(
            found.view(connection, space)
        )  # it is not in a snapshot
        return found

    def _due(self, cache: SupportCache, index: IndexView) -> bool:
        """Whether a new snapshot, or an index trained on more rows, is worth its time."""
        return index.outgrown or (
            index.lists > 0 and cache.replayed >= max(SNAPSHOT_ROWS, len(index) // 10)
        )

    def _renew_soon(self, view: SpaceView, kind: str, index: IndexView) -> None:
        with self._guard:
            if self._renewal is not None and self._renewal.is_alive():
                return
            self._renewal = threading.Thread(
                target=self._renew, args=(view, kind, index), name="trustvlm-supports", daemon=True
            )
            self._renewal.start()

    def _renew(self, view: SpaceView, kind: str, index: IndexView) -> None:
        """Write the index to a snapshot; one that it has outgrown is trained anew first, and takes
        over."""
        classifier, revision = KINDS[kind], view.revision
        try:
            if index.outgrown:
                with self._catalog.read() as connection:
                    space = spaces.find(connection, view.space.name)
                    if space.id != view.space.id or space.recipe != view.space.recipe:
                        return
                    fresh = SupportCache.built(
                        connection, space, self._device, classifier=classifier
                    )
                    index, revision = fresh.view(connection, space), space.revision
                with view.cache.support_lock:
                    known = view.cache.support_caches.get(kind)
                    if known is not None and known.revision >= view.revision:
                        view.cache.support_caches[kind] = fresh
            self._path(view.space.id, kind).parent.mkdir(parents=True, exist_ok=True)
            write_supports(
                self._path(view.space.id, kind),
                snapshot_key(view.space, view.epoch, revision),
                index,
            )
            with self._catalog.read() as connection:
                if purge.lost_since(
                    connection, view.space.id, revision
                ):  # it must not lie on in a file
                    self._path(view.space.id, kind).unlink(missing_ok=True)
        except (OSError, TrustVLMError) as error:
            log.warning(
                "the index over support images of space %s was not renewed: %s",
                view.space.name,
                error,
            )
        finally:
            with view.cache.support_lock:
                known = view.cache.support_caches.get(kind)
                if known is not None:
                    known.replayed = 0
