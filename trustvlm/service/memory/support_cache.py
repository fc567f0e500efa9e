"""The FAISS index over a space's support images that a process keeps, following the catalog by
revision.

One that had to be trained lies in a snapshot file too, from which the next process takes it up.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.index.live import Block, IndexView, LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import SnapshotKey, read_snapshot, write_snapshot
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float32s

__all__ = ["SupportCache", "support_blocks", "write_supports"]


class SupportCache:
    """A FAISS index over a space's support images (verifier or classifier embeddings) at a
    revision.

    Args:
        index: what it starts with, at `revision`; nothing by default.
    """

    def __init__(
        self,
        space: SpaceRecord,
        device: str,
        *,
        classifier: bool,
        index: LiveIndex | None = None,
        revision: int = 0,
    ) -> None:
        self._classifier = classifier
        self._dim = space.classifier_dim if classifier else space.verifier_dim
        self._index = (
            LiveIndex(load_recipe(space.recipe), self._dim, device=device)
            if index is None
            else index
        )
        self.revision = revision
        """The revision this cache has reached."""
        self.replayed = 0
        """Support images read from the catalog since the last snapshot."""

    @classmethod
    def built(
        cls, connection: Connection, space: SpaceRecord, device: str, *, classifier: bool
    ) -> SupportCache:
        """Made from the catalog, trained where the recipe asks for it, in bounded memory beside the
        index."""
        dim = space.classifier_dim if classifier else space.verifier_dim
        count = supports.count(connection, space.id, classifier=classifier)
        index = LiveIndex.build(
            load_recipe(space.recipe),
            dim,
            count,
            lambda: support_blocks(connection, space, classifier=classifier),
            device=device,
        )
        return cls(space, device, classifier=classifier, index=index, revision=space.revision)

    @classmethod
    def read(
        cls, path: Path, key: SnapshotKey, space: SpaceRecord, device: str, *, classifier: bool
    ) -> SupportCache:
        """Taken up from the snapshot file that :func:`write_supports` made.

        Raises:
            NotFound: there is none. Conflict: it belongs to something else. Damaged, Unavailable:
                it cannot be used.
        """
        dim = space.classifier_dim if classifier else space.verifier_dim
        found = read_snapshot(path, key)
        index = LiveIndex.from_arrays(load_recipe(space.recipe), dim, found.arrays, device)
        return cls(space, device, classifier=classifier, index=index, revision=found.key.revision)

    def view(self, connection: Connection, space: SpaceRecord) -> IndexView:
        """The index at the revision of `space`, which is the transaction's, searched as the space
        says."""
        self._index.search_with(space.search.get("support"))
        if self.revision < space.revision:
            since = self.revision
            if since:
                self._drop(purge.purged_since(connection, space.id, "support", since))
            for change in supports.changed(
                connection, space.id, since, self._dim, classifier=self._classifier
            ):
                self._drop(change.removed)
                self._drop(change.ids)  # restored ones come again
                self._index.add(np.array(change.ids, dtype=np.int64), _unit(change.embeddings))
                self.replayed += len(change.ids)
            self.revision = space.revision
        return self._index.view()

    def _drop(self, ids: list[int]) -> None:
        known = self._index.known(np.array(ids, dtype=np.int64))
        if len(known):
            self._index.remove(known)


def support_blocks(
    connection: Connection, space: SpaceRecord, *, classifier: bool
) -> Iterator[Block]:
    """(ids, unit vectors) of all live support images of the space, piece by piece."""
    dim = space.classifier_dim if classifier else space.verifier_dim
    for change in supports.changed(connection, space.id, 0, dim, classifier=classifier):
        yield np.array(change.ids, dtype=np.int64), _unit(change.embeddings)


def write_supports(path: Path, key: SnapshotKey, index: IndexView) -> None:
    """Write a snapshot of an index over support images.

    Raises:
        ReadOnly, Unavailable: it cannot be written.
    """
    write_snapshot(path, key, index.to_arrays())


def _unit(embeddings: Float32s) -> Float32s:
    return unit_rows(embeddings.astype(np.float64)).astype(np.float32)
