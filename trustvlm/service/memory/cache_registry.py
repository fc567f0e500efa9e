"""The caches of every space that a process has touched, and the snapshots that they are started
from."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections import defaultdict
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import label_changes, spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.live import IndexView
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import sweep
from trustvlm.service.memory.kernel_choice import stored_kernels
from trustvlm.service.memory.snapshots import (
    Content,
    Loaded,
    from_catalog,
    from_view,
    load,
    snapshot_key,
    write,
)
from trustvlm.service.memory.space_cache import SpaceCache, SpaceView
from trustvlm.service.memory.support_index import SupportCaches
from trustvlm.system.fault_points import reached

__all__ = ["Caches"]

log = logging.getLogger("trustvlm")

SNAPSHOT_ROWS = 5_000
"""When so many labels, and a tenth of the space, were read from the catalog since the last
snapshot, a new one is written."""


class Caches:
    """The caches of every space that this process has touched.

    Args:
        catalog: the truth. folder: where snapshots lie. device: where FAISS indexes live.
        half_from: from so many labels on, passes read 16-bit rows of a mapped snapshot.
    """

    def __init__(self, catalog: Catalog, folder: Path, device: str, *, half_from: int) -> None:
        self.folder = folder
        self.device = device
        self._catalog = catalog
        self._half_from = half_from
        self._by_name: dict[str, SpaceCache] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        self._writer: threading.Thread | None = None
        self._supports = SupportCaches(catalog, folder, device)

    def lock(self, name: str) -> threading.Lock:
        """The lock under which transactions on the space `name` begin and its cache moves."""
        with self._guard:
            return self._locks[normal(name)]

    def path(self, space_id: int) -> Path:
        """Where the snapshot of a space lies."""
        return self.folder / f"{space_id}.snapshot"

    def discard(self, space_id: int) -> None:
        """Delete the snapshots of a space: they may hold what must be gone.

        Raises:
            Unavailable: one cannot be deleted.
        """
        for path in (self.path(space_id), *self._supports.paths(space_id)):
            try:
                path.unlink(missing_ok=True)
                sweep(path)
            except OSError as error:
                raise Unavailable(
                    f"{path} may hold what was purged, and cannot be deleted: {error.strerror}"
                ) from error

    def view(self, connection: Connection, epoch: str, name: str) -> SpaceView:
        """The space `name` at the transaction's revision. The caller holds :meth:`lock`."""
        space = spaces.find(connection, name)
        key = normal(name)  # one cache, however the name is spelt
        cache = self._by_name.pop(key, None)
        if (
            cache is None
            or not _continues(cache, space, epoch)
            or self._lags(connection, space, cache.revision)
        ):
            cache = self._started(connection, space, epoch)
        # Out of the table while it moves: if that fails half-way, the next call starts from
        # nothing.
        cache.follow(connection, space)
        self._by_name[key] = cache
        view = cache.view(space)
        if not self._catalog.read_only and self._due(cache, view):
            self._write_soon(view)
        return view

    def peek(self, name: str) -> SpaceCache | None:
        """The cache of the space `name` as it is, if there is one."""
        return self._by_name.get(normal(name))

    def forget(self, name: str) -> None:
        """Drop what is kept of the space `name`."""
        with self.lock(name):
            self._by_name.pop(normal(name), None)

    def close(self) -> None:
        """Wait for a snapshot that is being written."""
        writer = self._writer
        if writer is not None and writer.is_alive():  # it is not in the child of a fork
            writer.join()
        self._supports.close()

    def support_view(
        self, connection: Connection, view: SpaceView, *, classifier: bool
    ) -> IndexView:
        """The index over support images at the view's revision."""
        return self._supports.view(connection, view, classifier=classifier)

    def rebuild(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Make the snapshots of a space anew from the catalog, with the recipe that `space` says.

        Processes that have it open go on as they are; those that start use the new ones once the
        recipe is the space's.

        Raises:
            ReadOnly, Unavailable: they cannot be written.
        """
        content = from_catalog(connection, space)
        key, dims = (
            snapshot_key(space, epoch, space.revision),
            (space.classifier_dim, space.verifier_dim),
        )
        half = content.labels >= self._half_from
        write(self.path(space.id), key, dims, load_recipe(space.recipe), content, half=half)
        reached("rebuild.supports")
        self._supports.rebuild(connection, space, epoch)
        self._keep_nothing_purged(space.id, space.revision)

    def write(self, view: SpaceView) -> None:
        """Write a snapshot of a view, and start over from it where it is to be mapped.

        Raises:
            ReadOnly, Unavailable: it cannot be written.
        """
        path, space = self.path(view.space.id), view.space
        key, dims = (
            snapshot_key(space, view.epoch, view.revision),
            (space.classifier_dim, space.verifier_dim),
        )
        half, renewed = (
            view.text.live >= self._half_from,
            view.index is not None and view.index.outgrown,
        )
        content = from_view(view.text, view.prototypes, view.names, view.aliases, view.index)
        write(path, key, dims, view.cache.recipe, content, half=half)
        if self._keep_nothing_purged(space.id, view.revision):
            return
        view.cache.replayed = 0
        if half or renewed:
            self._adopt(view, self._load(path, space, view.epoch))

    def _started(self, connection: Connection, space: SpaceRecord, epoch: str) -> SpaceCache:
        """A new cache: from the snapshot that there is; of a large space, from one made here and
        now; or an empty one."""
        path = self.path(space.id)
        try:
            loaded = self._load(path, space, epoch)
            if space.log_start <= loaded.revision <= space.revision and not self._lags(
                connection, space, loaded.revision
            ):
                return self._cache(space, epoch, loaded)
        except NotFound:
            pass
        except (Conflict, Unavailable) as error:
            log.warning("rebuilding from the catalog instead of %s: %s", path, error)
        content = from_catalog(connection, space)
        if content.labels >= self._half_from:
            try:
                return self._cache(space, epoch, self._built(space, epoch, content))
            except Unavailable as error:
                log.warning(
                    "no snapshot of space %s was written, all of it goes into memory: %s",
                    space.name,
                    error,
                )
        return self._cache(space, epoch, None)

    def _cache(self, space: SpaceRecord, epoch: str, loaded: Loaded | None) -> SpaceCache:
        kernels = stored_kernels(self.folder, loaded is not None and loaded.mapped, self.device)
        return SpaceCache(space, epoch, self.device, kernels, loaded)

    def _load(self, path: Path, space: SpaceRecord, epoch: str) -> Loaded:
        dims = (space.classifier_dim, space.verifier_dim)
        key = snapshot_key(space, epoch, space.revision)
        return load(path, key, dims, load_recipe(space.recipe), self.device, self._half_from)

    def _built(self, space: SpaceRecord, epoch: str, content: Content) -> Loaded:
        """A large space through a new snapshot; of a home that cannot be written, through one that
        nobody else sees."""
        key, dims = (
            snapshot_key(space, epoch, space.revision),
            (space.classifier_dim, space.verifier_dim),
        )
        if not self._catalog.read_only:
            write(self.path(space.id), key, dims, load_recipe(space.recipe), content, half=True)
            loaded = self._load(
                self.path(space.id), space, epoch
            )  # what is mapped and open outlives the name
            self._keep_nothing_purged(space.id, space.revision)
            return loaded
        with tempfile.TemporaryDirectory(prefix="trustvlm-") as folder:
            path = Path(folder) / self.path(space.id).name
            write(path, key, dims, load_recipe(space.recipe), content, half=True)
            return self._load(path, space, epoch)  # what is mapped and open outlives the name

    def _due(self, cache: SpaceCache, view: SpaceView) -> bool:
        """Whether enough has changed for a new snapshot."""
        if cache.mapped and not self.path(view.space.id).exists():  # a purge took it
            return True
        if view.index is not None and view.index.outgrown:
            return True
        dead = (
            max(rows.n - rows.live for rows in (view.text, view.prototypes)) if cache.mapped else 0
        )
        return max(cache.replayed, dead) >= max(SNAPSHOT_ROWS, view.text.live // 10)

    def _lags(self, connection: Connection, space: SpaceRecord, revision: int) -> bool:
        """Whether a new snapshot is a better way to a large space than to read all that changed
        since into memory."""
        most = max(self._half_from, SNAPSHOT_ROWS)
        if space.revision == revision or not label_changes.changed_more_than(
            connection, space.id, revision, most // 2
        ):
            return False
        live, _ = label_changes.totals(connection, space.id)
        return live >= self._half_from and label_changes.changed_more_than(
            connection, space.id, revision, live // 4
        )

    def _write_soon(self, view: SpaceView) -> None:
        """Write a snapshot in the background, unless one is being written."""
        with self._guard:
            if self._writer is not None and self._writer.is_alive():
                return
            self._writer = threading.Thread(
                target=self._write_quietly, args=(view,), name="trustvlm-snapshot", daemon=True
            )
            self._writer.start()

    def _write_quietly(self, view: SpaceView) -> None:
        try:
            self.write(view)
        except (
            OSError,
            TrustVLMError,
        ) as error:  # a full disk costs the next start time, and nobody an answer
            view.cache.replayed = 0
            log.warning("no snapshot of space %s was written: %s", view.space.name, error)

    def _keep_nothing_purged(self, space_id: int, revision: int) -> bool:
        """Delete the snapshots of a space of which something has been purged since they showed
        `revision`; whether it has.

        A purge deletes the files that it finds: this is for the ones that were being written
        meanwhile.
        """
        with self._catalog.read() as connection:
            lost = purge.lost_since(connection, space_id, revision)
        if lost:
            self.discard(space_id)
        return lost

    def _adopt(self, view: SpaceView, loaded: Loaded) -> None:
        """Let the next query start from the snapshot of `view`, unless the cache is another one by
        now."""
        key = normal(view.space.name)
        with self.lock(key):
            if self._by_name.get(key) is view.cache:
                cache = self._cache(view.space, view.epoch, loaded)
                cache.inherit(view.cache)
                self._by_name[key] = cache


def _continues(cache: SpaceCache, space: SpaceRecord, epoch: str) -> bool:
    """Whether the cache can follow on to the space as it is now."""
    same = cache.space_id == space.id and cache.epoch == epoch and cache.recipe.name == space.recipe
    return same and space.log_start <= cache.revision <= space.revision
