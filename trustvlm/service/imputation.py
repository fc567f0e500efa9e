"""c̃: the similarity assumed for a label without support images, from what the space's support images say of themselves."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog import labels, supports
from trustvlm.scoring.prototypes import support_statistics
from trustvlm.service.cache import SpaceView
from trustvlm.types import Int64s

__all__ = ["MAX_COMPETITORS", "MAX_SAMPLE", "imputed_similarity"]

MAX_SAMPLE = 2_048
MAX_COMPETITORS = 4_096
"""Support images and competitor labels looked at, smallest hashes first (SCIENCE §2): a fixed sample suffices for a mean."""


def imputed_similarity(connection: Connection, view: SpaceView) -> float:
    """c̃ of the space at the view's revision; computed again only when a prototype has changed.

    0 where every label has support images (nothing will be imputed), or none has.
    """
    if view.text.live == len(view.prototypes) or not len(view.prototypes):
        return 0.0
    cached = view.cache.imputed
    if cached is not None and cached[0] == view.prototypes_revision:
        return cached[1]
    sampled = supports.sample(connection, view.space.id, MAX_SAMPLE)
    own = np.unique(np.array([label_id for label_id, _ in sampled], dtype=np.int64))
    chosen, prototypes = labels.competitors(connection, view.space.id, view.space.verifier_dim, MAX_COMPETITORS)
    extra = own[~np.isin(own, chosen)]
    ids = np.concatenate([chosen, extra])
    prototypes = np.concatenate([prototypes, view.prototypes.rows[view.prototypes.slots(extra)]])
    owners, hashes, embeddings = supports.embeddings(connection, own.tolist(), view.space.verifier_dim)
    wanted = {content for _, content in sampled}
    picked = np.array([i for i, content in enumerate(hashes) if content in wanted], dtype=np.int64)
    statistics = support_statistics(embeddings.astype(np.float64), _positions(owners, ids), picked, prototypes)
    value = statistics.imputed_similarity
    view.cache.imputed = (view.prototypes_revision, value)
    return value


def _positions(owners: Int64s, ids: Int64s) -> Int64s:
    """Where each owner stands in `ids`."""
    order = np.argsort(ids)
    return order[np.searchsorted(ids[order], owners)]
