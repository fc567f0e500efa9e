"""The systems, by name: each turns queries and support images into a trust for the classifier's
label, larger for labels that are more likely right.

They are written after the papers, in their smallest form, and share the classifier's label, so that
only the order of trust differs. What stands in for parts that are trained elsewhere is said beside
each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.peers import heads
from trustvlm.scoring.peers.material import Material, softmax
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float64s

_NEIGHBOURS = 10
_SHARPNESS = 8.0
"""Of the Gaussians: of 1, 8, 16, √d and d the best on the benchmark's own sets (d dimensions in one
variance make every density certain)."""


@dataclass(frozen=True)
class Peer:
    """A system for comparison.

    Attributes:
        trust: its (n,) trust.
        source: the paper. ours: what differs from it here.
        shots: support images that each label needs; 0: none.
    """

    trust: Callable[[Material], Float64s]
    source: str
    ours: str
    shots: int = 1


def run(material: Material) -> Mapping[str, Float64s]:
    """Name → (n,) trust, of each system that these support images are enough for."""
    most = int(material.counts.max(initial=0))
    with_images = material.support_classifier is not None
    return {
        name: peer.trust(material)
        for name, peer in PEERS.items()
        if peer.shots <= most and (with_images or name not in NEEDS_CLASSIFIER)
    }


def _trust_score(material: Material) -> Float64s:
    """(n,) distance to the nearest support image of another label, divided by that to the nearest
    one of the label (Jiang et al. 2018)."""
    same_label = _nearest(material, same=True)
    other = _nearest(material, same=False)
    ratio: Float64s = other / np.maximum(same_label, 1e-9)
    return ratio


def _nearest(material: Material, *, same: bool) -> Float64s:
    """(n,) Euclidean distance to the nearest support image of the query's label, or of the other
    labels; 2, the largest one, where there is none."""
    within = material.owner[None, :] == material.predicted[:, None]
    similarity = np.where(within == same, material.similarity, -1.0)
    best = similarity.max(axis=1, initial=-1.0)
    distance: Float64s = np.sqrt(np.maximum(2 - 2 * best, 0))
    return distance


def _neighbour_votes(material: Material) -> Float64s:
    """(n,) share of the ten nearest support images that have the label, plus its softmax (after
    Papernot and McDaniel 2018)."""
    count = min(_NEIGHBOURS, len(material.owner))
    nearest = np.argpartition(-material.similarity, count - 1, axis=1)[:, :count]
    votes = (material.owner[nearest] == material.predicted[:, None]).mean(axis=1)
    trust: Float64s = votes + material.probability
    return trust


def gaussians(material: Material) -> Float64s:
    """(n,) softmax of the label plus its posterior under one Gaussian a label, with the variance
    that all labels share (after Lee et al. 2018)."""
    spread = material.supports - material.means[material.owner]
    freedom = max(len(material.owner) - int((material.counts > 0).sum()), 1)
    variance = float((spread**2).sum()) / freedom
    if variance <= 1e-12:  # one image a label has no spread: that between labels, halved
        between = material.means[material.counts > 0]
        variance = float(between.var(axis=0).sum()) / 2 + 1e-12
    distance = (
        (material.verifier**2).sum(axis=1)[:, None]
        - 2 * material.verifier @ material.means.T
        + (material.means**2).sum(axis=1)
    )
    density = np.where(material.counts > 0, -_SHARPNESS * distance / (2 * variance), -np.inf)
    trust: Float64s = material.at_predicted(softmax(density)) + material.probability
    return trust


def _cache_model(material: Material) -> Float64s:
    """(n,) softmax of the label, from the logits plus a cache of support images: α·Σ exp(−β·(1 −
    cosine)) over those of a label, with α = 1 and β = 5.5 (Zhang et al. 2022); the label stays."""
    weights = np.exp(-5.5 * (1 - material.similarity))
    cache = np.zeros_like(material.logits)
    for number in np.flatnonzero(material.counts):
        cache[:, number] = weights[:, material.owner == number].sum(axis=1)
    return material.at_predicted(softmax(material.logits + cache))


def retrieved(material: Material) -> Float64s:
    """(n,) softmax of the label for the mean of the query and of its ten nearest support images, in
    the classifier's space."""
    assert material.support_classifier is not None
    count = min(_NEIGHBOURS, len(material.owner))
    nearest = np.argpartition(-material.similarity, count - 1, axis=1)[:, :count]
    mean = material.support_classifier[nearest].mean(axis=1)
    mixed = unit_rows((material.classifier + unit_rows(mean)) / 2)
    return material.at_predicted(softmax(material.scale * mixed @ material.text.T))


PEERS: dict[str, Peer] = {
    "trust-score": Peer(
        _trust_score,
        "Jiang et al. 2018, arXiv 1805.11783",
        "the verifier's embeddings; no support image is filtered out",
    ),
    "knn-votes": Peer(
        _neighbour_votes,
        "Papernot and McDaniel 2018, arXiv 1803.04765",
        "one layer, ten neighbours, added to the softmax",
    ),
    "gaussians": Peer(
        gaussians,
        "per-label Gaussians, as in Lee et al. 2018, arXiv 1807.03888",
        "one variance for all labels, tempered to the sets at hand, added to the softmax",
    ),
    "tip-adapter": Peer(
        _cache_model,
        "Zhang et al. 2022, arXiv 2207.09519",
        "training-free form; the verifier's embeddings are the keys; the label is not corrected",
    ),
    "retrieval": Peer(
        retrieved,
        "averaging with retrieved images, as in MA-PaPSP",
        "the memory is the support images; there it is millions of image-text pairs",
    ),
    "stacker": Peer(
        heads.stacker,
        "Wolpert 1992",
        "logistic regression on softmax, similarity and the lead of both, of the support images, "
        "each left out",
        shots=2,
    ),
    "vilu-head": Peer(
        heads.attentive_head,
        "Lafon et al. 2025 (ViLU), arXiv 2507.07620",
        "attention without weights, a head of one layer of 128, trained on the support images "
        "only; there on whole training sets",
        shots=2,
    ),
}
"""Name → system."""

NEEDS_CLASSIFIER = ("retrieval", "stacker", "vilu-head")
"""The systems that need the support images' classifier embeddings."""
