"""Queries that equal a support image of another label than the one they are given."""

from __future__ import annotations

from typing import cast

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_prints import SAME_IMAGE, SupportPrints
from trustvlm.service.query.context import Context
from trustvlm.service.query.judge import Columns
from trustvlm.types.arrays import Float64s, Int64s, Objects

__all__ = ["MOST_COMPARED", "equal_others"]

MOST_COMPARED = 50_000
"""In a space with more support images none is compared, because reading all of them would make a
process slow to start."""


def equal_others(context: Context, columns: Columns, verifier: Float64s | None) -> Objects:
    """(n,) the label, other than the predicted one, that has a support image equal to the query;
    None where none has.

    Equal is a cosine of 1 but for float32 rounding. Nothing is compared without unit verifier
    embeddings (n, d_v), nor in a space of more than :data:`MOST_COMPARED` support images.
    """
    view, connection = context.view, context.connection
    predicted = cast(Int64s, columns["label_id"])
    found = np.full(len(predicted), None, dtype=object)
    prints = None if verifier is None or not len(verifier) else _prints_of(connection, view)
    if verifier is None or prints is None:
        return found
    for query, ids in prints.near(verifier):
        owners, vectors = supports.vectors(
            connection, view.space.id, ids.tolist(), view.space.verifier_dim
        )
        labels = view.aliases.of(owners)
        equal = unit_rows(vectors.astype(np.float64)) @ verifier[query] >= SAME_IMAGE
        others = labels[equal & (labels != predicted[query])]
        names = [view.names[slot] for slot in view.text.slots(others).tolist() if slot >= 0]
        found[query] = min(names, default=None)
    return found


def _prints_of(connection: Connection, view: SpaceView) -> SupportPrints | None:
    """The prints of the view's support images; None where there are too many, or none."""
    with view.cache.support_lock:
        kept = view.cache.prints
        if kept is None or kept.revision < view.revision:
            if not len(view.prototypes) or not supports.at_most(
                connection, view.space.id, MOST_COMPARED
            ):
                return None
            kept = (kept or SupportPrints(view.space.verifier_dim)).followed(connection, view.space)
            view.cache.prints = kept
    return kept
