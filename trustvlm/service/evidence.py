"""Evidence: the nearest support images of the predicted label and of its rival, read when somebody asks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trustvlm.catalog import purge, supports
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.cache import SpaceView
from trustvlm.service.parts import Parts
from trustvlm.types import Evidence, Float64s, Int64s, Neighbour

__all__ = ["evidence_reader"]


def evidence_reader(
    parts: Parts, view: SpaceView, label_ids: Int64s, rival_ids: Int64s, verifier: Float64s | None
) -> Callable[[int, int], Evidence]:
    """A function (i, k) → evidence of verdict i at the view's revision, whatever changed since; Unavailable after a purge."""
    space_id, epoch, revision, dim = view.space.id, view.epoch, view.revision, view.space.verifier_dim

    def nearest(label_id: int, query: Float64s, k: int) -> tuple[Neighbour, ...]:
        if label_id < 0:
            return ()
        members = [label_id, *view.aliases.groups.get(label_id, ())]
        with parts.catalog.read() as connection:
            if parts.catalog.epoch(connection) != epoch:
                raise Unavailable("the catalog was restored or repaired since these verdicts were made; score again")
            if purge.supports_lost(connection, space_id, members, revision):
                raise Unavailable("support images of these verdicts were purged since; score again")
            ids, sources, embeddings = supports.as_of(connection, members, revision, dim)
        if not ids:
            return ()
        similarity = unit_rows(embeddings.astype(np.float64)) @ query
        order = np.lexsort((np.array(ids), -similarity))[:k]
        return tuple(Neighbour(ids[i], sources[i], float(similarity[i])) for i in order.tolist())

    def read(i: int, k: int) -> Evidence:
        parts.check_open()
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InvalidInput(f"k: expected a whole number from 1 up, got {k!r}")
        if verifier is None:
            return Evidence((), ())
        return Evidence(nearest(int(label_ids[i]), verifier[i], k), nearest(int(rival_ids[i]), verifier[i], k))

    return read
