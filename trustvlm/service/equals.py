"""Queries that equal a support image of another label than the one they are given."""

from __future__ import annotations

from typing import cast

import numpy as np

from trustvlm.catalog import supports
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.context import Context
from trustvlm.service.judging import Columns
from trustvlm.service.observed import SAME_IMAGE
from trustvlm.types import Float64s, Int64s, Objects

__all__ = ["MOST_COMPARED", "equal_others"]

MOST_COMPARED = 50_000
"""In a space of more support images, comparing every query with all of them would take longer than scoring it."""

_NEAREST = 8  # the same image may be a support image of several labels


def equal_others(context: Context, columns: Columns, verifier: Float64s | None) -> Objects:
    """(n,) the label, other than the predicted one, that has a support image equal to the query; None where none has.

    Equal is a cosine of 1 but for float32 rounding. Nothing is compared without unit verifier embeddings (n, d_v), nor with
    more than :data:`MOST_COMPARED` support images.
    """
    view, connection = context.view, context.connection
    predicted = cast(Int64s, columns["label_id"])
    found = np.full(len(predicted), None, dtype=object)
    if verifier is None or not len(verifier) or not len(view.prototypes):
        return found
    if not supports.at_most(connection, view.space.id, MOST_COMPARED):
        return found
    index = context.parts.caches.support_view(connection, view, classifier=False)
    ids, similarity = index.search(verifier.astype(np.float32), min(_NEAREST, len(index)))
    near = similarity >= SAME_IMAGE - view.cache.recipe.max_error
    for query in np.flatnonzero(near.any(axis=1)).tolist():
        owners, vectors = supports.vectors(connection, view.space.id, ids[query, near[query]].tolist(), view.space.verifier_dim)
        labels = view.aliases.of(owners)
        equal = unit_rows(vectors.astype(np.float64)) @ verifier[query] >= SAME_IMAGE
        others = labels[equal & (labels != predicted[query])]
        names = [view.names[slot] for slot in view.text.slots(others).tolist() if slot >= 0]
        found[query] = min(names, default=None)
    return found
