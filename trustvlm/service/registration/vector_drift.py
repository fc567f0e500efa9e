"""Compares vectors that are registered with stored ones: do they come from one encoder?

A space of precomputed embeddings does not know their encoder, but it shows when new ones lie apart
from the stored ones: see :mod:`trustvlm.selective.vector_drift`. The result of the call reports it;
the vectors are registered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

import numpy as np

from trustvlm.catalog.rows import labels, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.selective.vector_drift import LEAST_VECTORS, Baseline, baseline_of, departures
from trustvlm.service.home.home import Home
from trustvlm.service.registration.plan import PlannedLabel
from trustvlm.types.arrays import Float64s

SAMPLE = 512
"""Number of stored and of new vectors that are compared. A full sample of a space is kept for the
life of the service."""

_SIDES = {
    "text": ("text vectors", "{classifier}"),
    "image": ("image vectors", "{verifier}"),
    "classifier image": ("classifier image vectors", "{classifier}"),
}


def departed(
    home: Home, space: SpaceRecord, planned: Mapping[str, PlannedLabel]
) -> tuple[str, ...]:
    """One sentence for each side (texts, images) on which the vectors of a call depart from the
    stored ones."""
    sentences = []
    for side, (what, spec) in _SIDES.items():
        if _count(planned.values(), side) < LEAST_VECTORS:
            continue
        batch = _batch(space, planned.values(), side)
        if len(batch) < LEAST_VECTORS or (baseline := _baseline(home, space, side)) is None:
            continue
        if words := departures(baseline, batch):
            encoder = spec.format(classifier=space.classifier, verifier=space.verifier)
            sentences.append(
                f"the {what} do not look like those of {encoder!r} in space {space.name!r}: "
                f"{'; '.join(words)}"
            )
    return tuple(sentences)


def _count(planned: Iterable[PlannedLabel], side: str) -> int:
    """At most how many new vectors of one side there are."""
    return sum(1 if side == "text" else len(label.hashes) for label in planned)


def _batch(space: SpaceRecord, planned: Iterable[PlannedLabel], side: str) -> Float64s:
    """(n, d) up to :data:`SAMPLE` of the new vectors of one side."""
    dim = space.verifier_dim if side == "image" else space.classifier_dim
    rows = list(islice(_vectors(space, planned, side), SAMPLE))
    return np.array(rows, dtype=np.float64).reshape(len(rows), dim)


def _vectors(space: SpaceRecord, planned: Iterable[PlannedLabel], side: str) -> Iterator[Float64s]:
    for label in planned:
        if side == "text":
            if (text := label.text(space)) is not None:
                yield text.astype(np.float64)
            continue
        if not label.image_vectors:
            continue
        for vector in label.vectors(space):
            row = vector.embedding if side == "image" else vector.classifier_embedding
            if row is not None:
                yield row.astype(np.float64)


def _baseline(home: Home, space: SpaceRecord, side: str) -> Baseline | None:
    identity = space.verifier_identity if side == "image" else space.classifier_identity
    key = space.id, side, identity
    if key in home.baselines:
        return home.baselines[key]
    with home.catalog.read() as connection:
        if side == "text":
            rows = labels.sample_texts(connection, space.id, SAMPLE, space.classifier_dim)
            owners = np.arange(len(rows), dtype=np.int64)
        else:
            dim = space.verifier_dim if side == "image" else space.classifier_dim
            owners, rows = supports.sample_vectors(
                connection, space.id, SAMPLE, dim, classifier=side == "classifier image"
            )
    if len(rows) < LEAST_VECTORS:
        return None
    # Text prototypes are normalised.
    baseline = baseline_of(rows.astype(np.float64), owners, norms=side != "text")
    if len(rows) == SAMPLE:
        home.baselines[key] = baseline
    return baseline
