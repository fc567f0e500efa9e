"""The FAISS index over a space's support images that a process keeps, following the catalog by revision."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog import purge, supports
from trustvlm.catalog.spaces import SpaceRecord
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.scoring.vectors import unit_rows

__all__ = ["SupportCache"]


class SupportCache:
    """A FAISS index over a space's support images (verifier or classifier embeddings), made when first asked for."""

    def __init__(self, space: SpaceRecord, device: str, *, classifier: bool) -> None:
        self._classifier = classifier
        self._dim = space.classifier_dim if classifier else space.verifier_dim
        self._index = LiveIndex(load_recipe(space.recipe), self._dim, device=device)
        self._known: set[int] = set()
        self.revision = 0
        """The revision this cache has reached."""

    def view(self, connection: Connection, space: SpaceRecord) -> IndexView:
        """The index at the revision of `space`, which is the transaction's."""
        if self.revision < space.revision:
            since = self.revision
            if since:
                self._drop(purge.purged_since(connection, space.id, "support", since))
            for change in supports.changed(connection, space.id, since, self._dim, classifier=self._classifier):
                self._drop(change.removed)
                self._drop(change.ids)  # restored ones come again
                self._index.add(
                    np.array(change.ids, dtype=np.int64), unit_rows(change.embeddings.astype(np.float64)).astype(np.float32)
                )
                self._known.update(change.ids)
            self.revision = space.revision
        return self._index.view()

    def _drop(self, ids: list[int]) -> None:
        known = [support_id for support_id in ids if support_id in self._known]
        if known:
            self._index.remove(np.array(known, dtype=np.int64))
            self._known.difference_update(known)
