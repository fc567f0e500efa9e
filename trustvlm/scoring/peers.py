"""Other systems that say whether a label is right, on the same embeddings, for comparison
(docs/comparison.md): each turns queries and support images into a trust for the classifier's label,
larger for labels that are more likely right.

They are written after the papers, in their smallest form, and share the classifier's label, so that
only the order of trust differs. What stands in for parts that are trained elsewhere is said beside
each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Bools, Float64s, Int64s

if TYPE_CHECKING:
    import torch

_HIDDEN, _STEPS, _RATE = 128, 300, 1e-3
_NEIGHBOURS = 10

_SHARPNESS = 8.0
"""Of the Gaussians: of 1, 8, 16, √d and d the best on the benchmark's own sets (d dimensions in one
variance make every density certain)."""


def softmax(logits: Float64s) -> Float64s:
    """The softmax of each row of (n, N) logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    normalised: Float64s = shifted / shifted.sum(axis=1, keepdims=True)
    return normalised


@dataclass(frozen=True, eq=False)
class Material:
    """Queries, labels and support images; all vectors are of length 1.

    Attributes:
        text: (N, d_t) text prototypes. scale: of the logits.
        classifier, verifier: (n, d_t) and (n, d_v) embeddings of the queries.
        supports, support_classifier: (m, d_v) and (m, d_t) embeddings of the support images; the
            latter None where they are not stored.
        owner: (m,) number of each support image's label, a row of `text`.
    """

    text: Float64s
    scale: float
    classifier: Float64s
    verifier: Float64s
    supports: Float64s
    support_classifier: Float64s | None
    owner: Int64s

    @cached_property
    def logits(self) -> Float64s:
        """(n, N) scaled cosines of queries and text prototypes."""
        product: Float64s = self.scale * self.classifier @ self.text.T
        return product

    @cached_property
    def predicted(self) -> Int64s:
        """(n,) the classifier's label of each query."""
        largest: Int64s = self.logits.argmax(axis=1)
        return largest

    @cached_property
    def probability(self) -> Float64s:
        """(n,) softmax of the classifier's label."""
        return self.at_predicted(softmax(self.logits))

    @cached_property
    def similarity(self) -> Float64s:
        """(n, m) cosines of queries and support images."""
        product: Float64s = self.verifier @ self.supports.T
        return product

    @cached_property
    def nearest(self) -> Int64s:
        """(n, k) the ten nearest support images of each query, in no order."""
        count = min(_NEIGHBOURS, len(self.owner))
        nearest: Int64s = np.argpartition(-self.similarity, count - 1, axis=1)[:, :count]
        return nearest

    @cached_property
    def counts(self) -> Int64s:
        """(N,) number of support images of each label."""
        return np.bincount(self.owner, minlength=len(self.text))

    @cached_property
    def means(self) -> Float64s:
        """(N, d_v) mean embedding of each label's support images; zeros where there are none."""
        sums = np.zeros((len(self.text), self.supports.shape[1]))
        np.add.at(sums, self.owner, self.supports)
        means: Float64s = sums / np.maximum(self.counts, 1)[:, None]
        return means

    @cached_property
    def prototypes(self) -> Float64s:
        """(N, d_v) means of length 1; zeros where a label has no support image."""
        prototypes = np.zeros_like(self.means)
        present = self.counts > 0
        prototypes[present] = unit_rows(self.means[present])
        return prototypes

    def at_predicted(self, values: Float64s) -> Float64s:
        """(n,) the values of (n, N) at each query's label."""
        return np.take_along_axis(values, self.predicted[:, None], axis=1)[:, 0]


def stacker(material: Material) -> Float64s:
    """(n,) probability that the label is right by logistic regression on the five numbers of
    :func:`_features`, learned from the support images, each judged without itself (after Wolpert
    1992)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logits, predicted = _of_supports(material)
    right = predicted == material.owner
    if right.all() or not right.any():  # nothing to learn from: the softmax alone
        return material.probability
    left_out = _left_out(material)
    regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1_000))
    learned = regression.fit(_features(logits, left_out, predicted), right)
    similarity = material.verifier @ material.prototypes.T
    features = _features(material.logits, similarity, material.predicted)
    trust: Float64s = learned.predict_proba(features)[:, 1]
    return trust


def _of_supports(material: Material) -> tuple[Float64s, Int64s]:
    """(m, N) logits of the support images, and their labels by the classifier."""
    assert material.support_classifier is not None
    logits: Float64s = material.scale * material.support_classifier @ material.text.T
    return logits, logits.argmax(axis=1)


def _left_out(material: Material) -> Float64s:
    """(m, N) cosines of the support images and the prototypes of all labels; the prototype of an
    image's label is made without that image."""
    similarity: Float64s = material.supports @ material.prototypes.T
    counts = material.counts[material.owner]
    rest = material.means[material.owner] * counts[:, None] - material.supports
    several = counts > 1
    to_label = np.zeros(len(counts))
    to_label[several] = (unit_rows(rest[several]) * material.supports[several]).sum(axis=1)
    similarity[np.arange(len(counts)), material.owner] = to_label
    return similarity


def _features(logits: Float64s, similarity: Float64s, label: Int64s) -> Float64s:
    """(n, 5) softmax p of a label and its lead over the next one, similarity and its lead, and
    −log(1 − p)."""
    columns, share = [], softmax(logits)
    for values in (share, similarity):
        of_label = np.take_along_axis(values, label[:, None], axis=1)[:, 0]
        others = values.copy()
        np.put_along_axis(others, label[:, None], -np.inf, axis=1)
        columns += [of_label, of_label - others.max(axis=1)]
    return np.column_stack([*columns, -np.log1p(-np.minimum(columns[0], 1 - 1e-6))])


def attentive_head(material: Material) -> Float64s:
    """(n,) probability that the label is right by a small network over the image, the label's text
    and the texts weighted by their softmax, learned from the support images (after Lafon et al.
    2025); the same numbers at each call."""
    import torch

    assert material.support_classifier is not None
    logits, predicted = _of_supports(material)
    right: Bools = predicted == material.owner
    if right.all() or not right.any():
        return material.probability
    inputs = _contexts(material, material.support_classifier, logits, predicted)
    generator = torch.Generator().manual_seed(0)
    layers = [
        _layer(inputs.shape[1], _HIDDEN, generator),
        torch.nn.ReLU(),
        _layer(_HIDDEN, 1, generator),
    ]
    network = torch.nn.Sequential(*layers)
    weight = torch.tensor(float(right.sum()) / float((~right).sum()))
    x = torch.tensor(inputs, dtype=torch.float32)
    y = torch.tensor(~right, dtype=torch.float32)
    loss_of = torch.nn.BCEWithLogitsLoss(pos_weight=weight)
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE)
    for _ in range(_STEPS):
        optimiser.zero_grad()
        loss_of(network(x)[:, 0], y).backward()
        optimiser.step()
    queries = _contexts(material, material.classifier, material.logits, material.predicted)
    with torch.no_grad():
        wrong = torch.sigmoid(network(torch.tensor(queries, dtype=torch.float32))[:, 0])
    trust: Float64s = 1 - wrong.numpy().astype(np.float64)
    return trust


def _layer(inputs: int, outputs: int, generator: torch.Generator) -> torch.nn.Module:
    import torch

    layer = torch.nn.Linear(inputs, outputs)
    bound = 1 / np.sqrt(inputs)
    with torch.no_grad():
        for values in (layer.weight, layer.bias):
            values.uniform_(-bound, bound, generator=generator)
    return layer


def _contexts(material: Material, images: Float64s, logits: Float64s, label: Int64s) -> Float64s:
    """(n, 3 d_t) image, text of the label, and texts weighted by their softmax."""
    return np.hstack([images, material.text[label], softmax(logits) @ material.text])


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
    votes = (material.owner[material.nearest] == material.predicted[:, None]).mean(axis=1)
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
    mean = material.support_classifier[material.nearest].mean(axis=1)
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
        stacker,
        "Wolpert 1992",
        "logistic regression on softmax, similarity and the lead of both, of the support images, "
        "each left out",
        shots=2,
    ),
    "vilu-head": Peer(
        attentive_head,
        "Lafon et al. 2025 (ViLU), arXiv 2507.07620",
        "attention without weights, a head of one layer of 128, trained on the support images "
        "only; there on whole training sets",
        shots=2,
    ),
}
"""Name → system."""

NEEDS_CLASSIFIER = ("retrieval", "stacker", "vilu-head")
"""The systems that need the support images' classifier embeddings."""
