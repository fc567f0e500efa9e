"""Text prototypes, prototypes, and what the support set says about itself (SCIENCE: "What a trust score is", §1–2).

A prototype depends on the *set* of support images only: callers pass the embeddings in content-hash order, the sum is
float64, and the result is cast to float32 once, so that every order of registration gives the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.vectors import unit, unit_rows
from trustvlm.types import Float32s, Float64s, Int64s

__all__ = ["SupportStatistics", "mean_prototype", "support_statistics", "text_prototype"]

_CANCELLED = 1e-6  # a mean this much shorter than its longest vector is rounding noise, not a direction


def text_prototype(vectors: Float64s) -> Float32s:
    """The text prototype t_j of raw text embeddings (templates, d): normalise each, average, normalise.

    Raises:
        InvalidInput: the templates' embeddings cancel out.
    """
    return _normalised_mean(unit_rows(vectors), "the templates' text embeddings")


def mean_prototype(embeddings: Float64s) -> Float32s:
    """The prototype P_j of raw verifier embeddings (k, d): mean first, normalise after (the paper's order).

    Raises:
        InvalidInput: the embeddings cancel out.
    """
    return _normalised_mean(embeddings, "the support images' embeddings")


def _normalised_mean(rows: Float64s, what: str) -> Float32s:
    mean = np.add.reduce(rows, axis=0) / len(rows)
    if np.abs(mean).max() <= _CANCELLED * np.abs(rows).max():
        raise InvalidInput(f"{what} cancel out: their mean has no direction")
    return unit(mean)


@dataclass(frozen=True)
class SupportStatistics:
    """How similar support images are to their own label's prototype and to the nearest other one.

    Attributes:
        own: (m,) leave-one-out similarity to the own label, for images of labels with at least two.
        other: (n,) largest similarity to another label's prototype, for every image.
    """

    own: Float64s
    other: Float64s

    @property
    def imputed_similarity(self) -> float:
        """c̃: the image similarity to assume for a label without support images (SCIENCE §2).

        Half-way between the mean leave-one-out similarity to the own label and the mean best similarity to another.
        With one image per label the first is taken as (1 + best other) / 2; without a second prototype the second
        is 0 (unrelated), and without any support image the answer is 0.
        """
        if not len(self.own) and not len(self.other):
            return 0.0
        other = float(self.other.mean()) if len(self.other) else 0.0
        own = float(self.own.mean()) if len(self.own) else (1 + other) / 2
        return (own + other) / 2


def support_statistics(embeddings: Float64s, owner: Int64s, sampled: Int64s, prototypes: Float32s) -> SupportStatistics:
    """Leave-one-out similarities of sampled support images.

    Args:
        embeddings: (n, d) raw verifier embeddings of *all* support images of the labels concerned.
        owner: (n,) row in `prototypes` of each image's label.
        sampled: (m,) which rows of `embeddings` are asked about.
        prototypes: (L, d) unit prototypes: the own labels and the competitors.

    For support image i of label c, P_c is recomputed without i; its similarity is compared with those to all others.
    """
    own_count = np.bincount(owner, minlength=len(prototypes))
    sums = np.zeros(prototypes.shape, dtype=np.float64)
    np.add.at(sums, owner, embeddings)
    labels = owner[sampled]
    queries = unit_rows(embeddings[sampled])
    several = own_count[labels] >= 2
    rest = sums[labels[several]] - embeddings[sampled[several]]
    defined = np.linalg.norm(rest, axis=1) > 0
    own = np.einsum("nd,nd->n", queries[several][defined], unit_rows(rest[defined]))
    if len(prototypes) < 2:
        return SupportStatistics(own, np.empty(0))
    similarities = queries.astype(np.float32) @ prototypes.T  # float32 is plenty for what goes into a mean
    similarities[np.arange(len(sampled)), labels] = -np.inf
    return SupportStatistics(own, similarities.max(axis=1).astype(np.float64))
