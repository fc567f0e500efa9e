"""The FAISS indexes over the support images of spaces: started, followed by revision, renewed in
the background.

An index that had to be trained lies in a snapshot file too, from which the next process starts.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recall import Block
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import read_snapshot, write_snapshot
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.shared_snapshots import SharedSnapshots
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import Reading, SpaceMemo, SpaceView
from trustvlm.system.background import Failures, OneAtATime
from trustvlm.system.files.durable import remove
from trustvlm.types.arrays import Float32s

log = logging.getLogger("trustvlm")

SNAPSHOT_ROWS = 5_000
"""When this many support images, and a tenth of all, were read since the last snapshot, a new one
is written."""

KINDS = {"verifier": False, "classifier": True}
"""Kind of an index → whether it is over classifier embeddings."""


class SupportCache:
    """An index over a space's support images (verifier or classifier embeddings) at a revision.

    Attributes:
        revision: the one it has reached. replayed: support images read from the catalog since the
            last snapshot.
    """

    def __init__(self, index: LiveIndex, revision: int, *, classifier: bool) -> None:
        self._index, self._classifier = index, classifier
        self.revision, self.replayed = revision, 0

    @classmethod
    def built(
        cls, connection: Connection, space: SpaceRecord, device: str, *, classifier: bool
    ) -> SupportCache:
        """Made from the catalog, trained where the recipe asks for it, in bounded memory beside the
        index."""
        index = LiveIndex.build(
            load_recipe(space.recipe),
            _dim(space, classifier),
            supports.count(connection, space.id, classifier=classifier),
            lambda: SupportIndexes.blocks(connection, space, classifier=classifier),
            device=device,
        )
        return cls(index, space.revision, classifier=classifier)

    def follow(self, connection: Connection, space: SpaceRecord) -> SupportCache:
        """This index, brought to the revision of `space`, which is the transaction's."""
        if (since := self.revision) < space.revision:
            if since:
                self._drop(purge.purged_since(connection, space, "support", since))
            dim, classifier = _dim(space, self._classifier), self._classifier
            for change in supports.changed(connection, space.id, since, dim, classifier=classifier):
                self._drop(change.removed)
                self._drop(change.ids)  # restored ones come again
                self._index.add(np.array(change.ids, dtype=np.int64), _unit(change.embeddings))
                self.replayed += len(change.ids)
            self.revision = space.revision
        return self

    def view(self, space: SpaceRecord) -> IndexView:
        """The index as it is, searched as the space says."""
        self._index.search_with(space.search.get("support"))
        return self._index.view()

    def _drop(self, ids: list[int]) -> None:
        live = self._index.live(np.array(ids, dtype=np.int64))
        if len(live):
            self._index.remove(live)


class SupportIndexes:
    """The indexes over support images of all spaces that a process has touched.

    Args:
        catalog: the truth. folder: where snapshots lie. device: where FAISS indexes live. shared:
            those of other machines.
    """

    def __init__(
        self, catalog: Catalog, folder: Path, device: str, shared: SharedSnapshots
    ) -> None:
        self._catalog, self._folder, self._device = catalog, folder, device
        self._shared = shared
        failures = Failures(log, "renewing an index over support images")
        self._renewal = OneAtATime(failures, "trustvlm-supports")

    @staticmethod
    def blocks(connection: Connection, space: SpaceRecord, *, classifier: bool) -> Iterator[Block]:
        """(ids, unit vectors) of all live support images of the space, piece by piece."""
        dim = _dim(space, classifier)
        for change in supports.changed(connection, space.id, 0, dim, classifier=classifier):
            yield np.array(change.ids, dtype=np.int64), _unit(change.embeddings)

    def paths(self, space_id: int) -> list[Path]:
        """Where the snapshots of a space lie."""
        return [self._path(space_id, kind) for kind in KINDS]

    def _path(self, space_id: int, kind: str) -> Path:
        return self._folder / f"{space_id}.{kind}-supports.snapshot"

    def view(self, reading: Reading, *, classifier: bool) -> IndexView:
        """The index over support images at the reading's revision."""
        kind, view, memo = "classifier" if classifier else "verifier", reading.view, reading.memo
        with memo.lock:
            cache = _indexes_of(memo).get(kind)
            if cache is not None and cache.revision > view.revision:
                # Another thread took it further than this transaction sees: a private one, for this
                # call only.
                return self._started(reading.connection, view, kind).view(view.space)
            if cache is None or cache.revision < view.space.log_start:
                cache = self._started(reading.connection, view, kind)
            if cache.revision < view.revision:
                cache.follow(reading.connection, view.space)
            index = cache.view(view.space)
            _indexes_of(memo)[kind] = cache
        if not self._catalog.read_only and _is_due(cache, index):
            self._renewal.begin(lambda: self._renew(view, memo, kind, index))
        return index

    def rebuild(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Write the snapshots of a space again, where its recipe has any: what a process then
        starts from.

        Raises:
            ReadOnly, Unavailable: one cannot be written.
        """
        for kind, classifier in KINDS.items():
            path = self._path(space.id, kind)
            path.unlink(missing_ok=True)
            count = supports.count(connection, space.id, classifier=classifier)
            if load_recipe(space.recipe).lists(count):
                built = SupportCache.built(connection, space, self._device, classifier=classifier)
                arrays = built.view(space).to_arrays()
                write_snapshot(path, snapshot_key(space, epoch, built.revision), arrays)
                self._shared.give(path, space.id, built.revision)

    def close(self) -> None:
        """Wait for what is being written."""
        self._renewal.wait()

    def _started(self, connection: Connection, view: SpaceView, kind: str) -> SupportCache:
        """From the existing snapshot, or from the catalog, at the view's revision."""
        space, classifier = view.space, KINDS[kind]
        if view.recipe.training:
            key = snapshot_key(space, view.epoch, view.revision)
            path = self._path(space.id, kind)
            if not path.exists():
                self._shared.take(path, key, space)
            try:
                stored = read_snapshot(path, key)
                if space.log_start <= stored.key.revision <= view.revision:
                    dim = _dim(space, classifier)
                    index = LiveIndex.from_arrays(view.recipe, dim, stored.arrays, self._device)
                    stored_at = SupportCache(index, stored.key.revision, classifier=classifier)
                    return stored_at.follow(connection, space)
            except NotFound:
                pass
            except (Conflict, Unavailable) as error:
                log.warning("rebuilding an index over support images from the catalog: %s", error)
        cache = SupportCache.built(connection, space, self._device, classifier=classifier)
        cache.replayed = SNAPSHOT_ROWS + len(cache.view(space))  # in no snapshot yet
        return cache

    def _renew(self, view: SpaceView, memo: SpaceMemo, kind: str, index: IndexView) -> None:
        """Write the index to a snapshot; one that it has outgrown is trained again first, and takes
        over."""
        path, revision = self._path(view.space.id, kind), view.revision
        try:
            if index.outgrown:
                with self._catalog.read() as connection:
                    space = spaces.find(connection, view.space.name)
                    if (space.id, space.recipe) != (view.space.id, view.space.recipe):
                        return
                    trained = SupportCache.built(
                        connection, space, self._device, classifier=KINDS[kind]
                    )
                    index, revision = trained.view(space), space.revision
                with memo.lock:
                    current = _indexes_of(memo).get(kind)
                    if current is not None and current.revision >= view.revision:
                        _indexes_of(memo)[kind] = trained
            path.parent.mkdir(parents=True, exist_ok=True)
            key = snapshot_key(view.space, view.epoch, revision)
            write_snapshot(path, key, index.to_arrays())
            self._shared.give(path, view.space.id, revision)
            with self._catalog.read() as connection:
                if purge.lost_since(connection, view.space.id, revision):
                    remove(path)
        except (OSError, TrustVLMError) as error:
            message = "the index over support images of space %s was not renewed: %s"
            log.warning(message, view.space.name, error)
        finally:
            with memo.lock:
                if (current := _indexes_of(memo).get(kind)) is not None:
                    current.replayed = 0


def _indexes_of(memo: SpaceMemo) -> dict[str, SupportCache]:
    """The indexes of a space by kind. The caller holds the lock of the memo."""
    return memo.once("support indexes", None, dict[str, SupportCache])


def _is_due(cache: SupportCache, index: IndexView) -> bool:
    """Whether a new snapshot, or an index trained on more rows, is worth its time."""
    enough = cache.replayed >= max(SNAPSHOT_ROWS, len(index) // 10)
    return index.outgrown or (index.lists > 0 and enough)


def _dim(space: SpaceRecord, classifier: bool) -> int:
    return space.classifier_dim if classifier else space.verifier_dim


def _unit(embeddings: Float32s) -> Float32s:
    return unit_rows(embeddings.astype(np.float64)).astype(np.float32)
