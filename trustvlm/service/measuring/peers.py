"""Other systems on the images of an evaluation and the support images of the space."""

from __future__ import annotations

from functools import partial

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.errors import InvalidInput
from trustvlm.scoring.peers import PEERS, Material, run
from trustvlm.scoring.vectors import unit_rows
from trustvlm.selective.intervals import aurc_interval
from trustvlm.selective.metrics import aurc
from trustvlm.service.measuring.outcome import estimated
from trustvlm.service.measuring.shot_curve import SpaceLabels, space_labels
from trustvlm.service.query.context import Context
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.evaluation import PeerOutcome

MAX_LABELS, MAX_SUPPORTS = 2_000, 20_000
"""They look at every label and every support image of each image."""


def compare_peers(
    context: Context, queries: tuple[Float64s, Float64s | None], truth: Int64s, *, claims: bool
) -> tuple[PeerOutcome, ...]:
    """The AURC of each system that has enough support images, best first.

    Args:
        queries: (n, d_t) and (n, d_v) unit vectors. truth: (n,) label ids.

    Raises:
        InvalidInput: no verifier embeddings, claims, no support image, or a space that is too
            large.
    """
    classifier, verifier = queries
    if verifier is None:
        raise InvalidInput("peers: expected verifier embeddings of each query, got none")
    if claims:
        raise InvalidInput("peers: the other systems judge the classifier's labels, not claims")
    if context.subset.labels > MAX_LABELS:
        raise InvalidInput(
            f"peers: expected a space of at most {MAX_LABELS:,} labels, this one has "
            f"{context.subset.labels:,}"
        )
    labels = space_labels(context)
    if not 0 < len(labels.owners) <= MAX_SUPPORTS:
        raise InvalidInput(
            f"peers: expected a space of 1 to {MAX_SUPPORTS:,} support images, this one has "
            f"{len(labels.owners):,}"
        )
    order = np.argsort(labels.ids)
    owner = order[np.searchsorted(labels.ids, labels.owners, sorter=order)]
    material = Material(
        labels.text, labels.scale, classifier, verifier,
        unit_rows(labels.images), _classifier_embeddings(context, labels), owner,
    )  # fmt: skip
    right = labels.ids[material.predicted] == truth
    outcomes = [_outcome(name, trust, right) for name, trust in run(material).items()]
    return tuple(sorted(outcomes, key=lambda one: one.aurc.value))


def _classifier_embeddings(context: Context, labels: SpaceLabels) -> Float64s | None:
    """(m, d_t) unit classifier embeddings of the support images; None where some have none."""
    space = context.view.space
    if space.verifier == "same":
        return unit_rows(labels.images)
    owners, _, raw = supports.embeddings(
        context.connection, labels.ids.tolist(), space.classifier_dim, classifier=True
    )
    if not np.array_equal(owners, labels.owners):
        return None
    return unit_rows(raw.astype(np.float64))


def _outcome(name: str, trust: Float64s, right: Bools) -> PeerOutcome:
    interval = partial(aurc_interval, trust, right)
    area, peer = estimated(aurc(trust, right), len(right), None, interval), PEERS[name]
    return PeerOutcome(name, area, peer.source, peer.ours)
