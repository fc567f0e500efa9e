"""The caches of every space that a process has touched, and the snapshots that they are started
from."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections import defaultdict
from collections.abc import Hashable
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import label_changes, spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.recipe import load_recipe
from trustvlm.index.shared.snapshot_store import SnapshotStore
from trustvlm.index.snapshot import sweep
from trustvlm.service.memory.attribute_columns import AttributeFiles, AttributeMemo
from trustvlm.service.memory.discriminant.space_discriminant import Discriminants
from trustvlm.service.memory.shared_snapshots import SharedSnapshots
from trustvlm.service.memory.snapshots import (
    Content,
    Loaded,
    from_catalog,
    from_view,
    load,
    snapshot_key,
    write,
)
from trustvlm.service.memory.space_cache import KeptState, SpaceCache, SpaceMemo, SpaceView
from trustvlm.service.memory.support_index import SupportIndexes
from trustvlm.system.background import Failures, OneAtATime
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import remove
from trustvlm.types.thresholds import Thresholds

log = logging.getLogger("trustvlm")


class CacheRegistry:
    """The caches of every space that this process has touched.

    Args:
        catalog: the truth. folder: where snapshots lie. device: where FAISS indexes live.
        half_from: number of labels from which passes read 16-bit rows of a mapped snapshot.
        thresholds: when a snapshot is written, and which spaces may lie in memory until then.
        store: where machines share snapshots, if they do.

    Attributes:
        supports: the indexes over support images. discriminants: the fits of rules that whiten.
        attributes: the files of indexed keys.
    """

    def __init__(
        self,
        catalog: Catalog,
        folder: Path,
        device: str,
        *,
        half_from: int,
        thresholds: Thresholds,
        store: SnapshotStore | None = None,
    ) -> None:
        self.folder, self.device = folder, device
        self._catalog, self._half_from, self._thresholds = catalog, half_from, thresholds
        self._by_name: dict[str, SpaceCache] = {}
        self._memos: dict[int, SpaceMemo] = {}
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)
        self._guard = threading.Lock()
        failures = Failures(log, "writing a snapshot in the background")
        self._writer = OneAtATime(failures, "trustvlm-snapshot")
        self.store = store
        self._shared = SharedSnapshots(catalog, store)
        self.supports = SupportIndexes(catalog, folder, device, self._shared)
        self.discriminants = Discriminants(catalog, folder, thresholds, self._shared)
        self.attributes = AttributeFiles(catalog, folder, self._keep_nothing_purged)

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
        derived = (*self.supports.paths(space_id), self.discriminants.path(space_id))
        derived = (*derived, self.attributes.path(space_id))
        paths = [self.path(space_id), *derived]
        self._shared.discard(paths)
        for path in paths:
            try:
                remove(path)
                sweep(path)
            except OSError as error:
                raise Unavailable(
                    f"{path} may hold what was purged, and cannot be deleted: {error.strerror}"
                ) from error

    def kept(self, name: str) -> KeptState | None:
        """The space `name` as a call left it in memory, if nothing was committed since."""
        version, cache = self._catalog.version(), self._by_name.get(normal(name))
        state = None if version is None or cache is None else cache.state
        if state is None or (state.version, state.name) != (version, name):
            return None
        return state

    def state(self, connection: Connection, epoch: str, name: str, version: Hashable) -> KeptState:
        """The space `name` at the transaction's revision. The caller holds :meth:`lock`, and took
        the catalog's version before the transaction began."""
        space = spaces.find(connection, name)
        key = normal(name)  # one cache, however the name is spelt
        # Out of the table while it moves: if that fails half-way, the next call starts from
        # nothing.
        cache = self._by_name.pop(key, None)
        if cache is None or not self._continues(connection, cache, space, epoch):
            cache = self._started(connection, space, epoch)
        cache.follow(connection, space)
        self._by_name[key] = cache
        view = cache.view(space)
        state = self.kept(name)
        if state is None or state.version != version:  # else nothing was committed in between
            state = cache.state = KeptState(name, version, view, self.memo(view))
        if not self._catalog.read_only and self._due(cache, view):
            cache.state = None  # the next call looks whether it was written
            self._writer.begin(lambda: self._write_in_background(view))
        return state

    def memo(self, view: SpaceView) -> SpaceMemo:
        """What this process has computed of the view's space, at any revision."""
        with self._guard:
            memo = self._memos.get(view.space.id)
            if memo is None or (memo.epoch, memo.recipe) != (view.epoch, view.recipe.name):
                memo = SpaceMemo(view.epoch, view.recipe.name)
                memo.keep(AttributeMemo(files=self.attributes))
                self._memos[view.space.id] = memo
            return memo

    def peek(self, name: str) -> SpaceCache | None:
        """The cache of the space `name` as it is, if there is one."""
        return self._by_name.get(normal(name))

    def forget(self, name: str) -> None:
        """Drop what is kept of the space `name`."""
        with self.lock(name):
            cache = self._by_name.pop(normal(name), None)
        if cache is not None:
            with self._guard:
                self._memos.pop(cache.space_id, None)

    def close(self) -> None:
        """Wait for a snapshot that is being written."""
        self._writer.wait()
        self.supports.close()
        self.discriminants.close()
        self.attributes.close()
        self._shared.close()

    def rebuild(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Write the snapshots of a space again from the catalog, with the recipe that `space` has.

        Processes that have it open go on as they are; those that start use the new ones once the
        recipe is the space's.

        Raises:
            ReadOnly, Unavailable: they cannot be written.
        """
        content = from_catalog(connection, space)
        half = content.labels >= self._half_from
        self._write(self.path(space.id), space, epoch, space.revision, content, half=half)
        reached("rebuild.supports")
        self.supports.rebuild(connection, space, epoch)
        self._keep_nothing_purged(space.id, space.revision)

    def write(self, view: SpaceView) -> None:
        """Write a snapshot of a view, and start over from it where it is to be mapped.

        Raises:
            ReadOnly, Unavailable: it cannot be written.
        """
        path, space, key = self.path(view.space.id), view.space, normal(view.space.name)
        half = view.text.live >= self._half_from
        outgrown = view.index is not None and view.index.outgrown
        content = from_view(view.text, view.prototypes, view.names, view.aliases, view.index)
        self._write(path, space, view.epoch, view.revision, content, half=half)
        if self._keep_nothing_purged(space.id, view.revision):
            return
        loaded = self._load(path, space, view.epoch) if half or outgrown else None
        with self.lock(key):
            cache = self._by_name.get(key)
            if cache is None or not _same_space(cache, space, view.epoch):
                return
            cache.replayed = 0
            if loaded is not None:  # the next query starts from the snapshot
                self._by_name[key] = self._cache(space, view.epoch, loaded)

    def _started(self, connection: Connection, space: SpaceRecord, epoch: str) -> SpaceCache:
        """A new cache: from the existing snapshot; an empty one with room for all rows; or, where
        these would take too much memory, from a snapshot written now."""
        loaded = self._stored(connection, space, epoch)
        if loaded is not None:
            return self._cache(space, epoch, loaded)
        content = from_catalog(connection, space)
        if self._takes(space, epoch, content):
            loaded = self._stored(connection, space, epoch)
            if loaded is not None:
                return self._cache(space, epoch, loaded)
        if content.labels >= self._half_from and not self._fits(space, content):
            try:
                return self._cache(space, epoch, self._built(space, epoch, content))
            except Unavailable as error:
                log.warning(
                    "no snapshot of space %s was written, all of it goes into memory: %s",
                    space.name,
                    error,
                )
        cache = self._cache(space, epoch, None)
        cache.reserve(content.labels, content.prototypes)
        return cache

    def _stored(self, connection: Connection, space: SpaceRecord, epoch: str) -> Loaded | None:
        """What the snapshot of this machine holds, where it can be followed on from."""
        path = self.path(space.id)
        try:
            loaded = self._load(path, space, epoch)
            return loaded if self._can_follow(connection, space, loaded.revision) else None
        except NotFound:
            return None
        except (Conflict, Unavailable) as error:
            log.warning("not starting from %s: %s", path, error)
            return None

    def _takes(self, space: SpaceRecord, epoch: str, content: Content) -> bool:
        """Take a snapshot that machines share, of a space that is large enough to have one; whether
        there was one."""
        if content.labels < min(self._half_from, self._thresholds.snapshot_rows):
            return False
        key = snapshot_key(space, epoch, space.revision)
        return self._shared.take(self.path(space.id), key, space)

    def _fits(self, space: SpaceRecord, content: Content) -> bool:
        """Whether all rows of a large space may lie in memory until a snapshot of it is written."""
        rows = content.labels * space.classifier_dim + content.prototypes * space.verifier_dim
        return 4 * rows <= self._thresholds.memory_bytes and not self._catalog.read_only

    def _cache(self, space: SpaceRecord, epoch: str, loaded: Loaded | None) -> SpaceCache:
        return SpaceCache(space, epoch, self.device, loaded)

    def _load(self, path: Path, space: SpaceRecord, epoch: str) -> Loaded:
        key = snapshot_key(space, epoch, space.revision)
        return load(path, key, space.dims, load_recipe(space.recipe), self.device, self._half_from)

    def _write(
        self,
        path: Path,
        space: SpaceRecord,
        epoch: str,
        revision: int,
        content: Content,
        *,
        half: bool,
    ) -> None:
        key = snapshot_key(space, epoch, revision)
        write(path, key, space.dims, load_recipe(space.recipe), content, half=half)
        if path.parent == self.folder:
            self._shared.give(path, space.id, revision)

    def _built(self, space: SpaceRecord, epoch: str, content: Content) -> Loaded:
        """A large space through a new snapshot; of a home that cannot be written, through one that
        nobody else sees. What is mapped and open outlives the file's name."""
        path = self.path(space.id)
        if not self._catalog.read_only:
            self._write(path, space, epoch, space.revision, content, half=True)
            loaded = self._load(path, space, epoch)
            self._keep_nothing_purged(space.id, space.revision)
            return loaded
        with tempfile.TemporaryDirectory(prefix="trustvlm-") as folder:
            path = Path(folder) / path.name
            self._write(path, space, epoch, space.revision, content, half=True)
            return self._load(path, space, epoch)

    def _due(self, cache: SpaceCache, view: SpaceView) -> bool:
        """Whether enough has changed for a new snapshot."""
        if not cache.mapped and cache.replayed and view.text.live >= self._half_from:
            return True
        if cache.mapped and not self.path(view.space.id).exists():  # a purge took it
            return True
        if view.index is not None and view.index.outgrown:
            return True
        tables = (view.text, view.prototypes) if cache.mapped else ()
        dead = max((rows.n - rows.live for rows in tables), default=0)
        return max(cache.replayed, dead) >= max(
            self._thresholds.snapshot_rows, view.text.live // 10
        )

    def _continues(
        self, connection: Connection, cache: SpaceCache, space: SpaceRecord, epoch: str
    ) -> bool:
        """Whether the cache can follow on to the space as it is now."""
        return _same_space(cache, space, epoch) and self._can_follow(
            connection, space, cache.revision
        )

    def _can_follow(self, connection: Connection, space: SpaceRecord, revision: int) -> bool:
        """Whether the changes since a revision can be read, and are not so many that a new snapshot
        of a large space is better."""
        if revision == space.revision:
            return True
        if not space.log_start <= revision <= space.revision:
            return False
        most = max(self._half_from, self._thresholds.snapshot_rows)
        # Few revisions are few changes: most hold no more than one transaction of a registration.
        if (space.revision - revision) * self._thresholds.transaction_labels <= most // 2:
            return True
        if not label_changes.changed_more_than(connection, space.id, revision, most // 2):
            return True
        live, _ = label_changes.totals(connection, space.id)
        return live < self._half_from or not label_changes.changed_more_than(
            connection, space.id, revision, live // 4
        )

    def _write_in_background(self, view: SpaceView) -> None:
        try:
            self.write(view)
        except (OSError, TrustVLMError) as error:  # costs the next start time, and no answer
            cache = self.peek(view.space.name)
            if cache is not None:
                cache.replayed = 0
            log.warning("no snapshot of space %s was written: %s", view.space.name, error)

    def _keep_nothing_purged(self, space_id: int, revision: int) -> bool:
        """Delete the snapshots of a space if something of it has been purged since they showed
        `revision`; whether it has.

        A purge deletes the files that it finds: this is for the ones that were being written
        meanwhile.
        """
        with self._catalog.read() as connection:
            lost = purge.lost_since(connection, space_id, revision)
        if lost:
            self.discard(space_id)
        return lost


def _same_space(cache: SpaceCache, space: SpaceRecord, epoch: str) -> bool:
    return (cache.space_id, cache.epoch, cache.recipe.name) == (space.id, epoch, space.recipe)
