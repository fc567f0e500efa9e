"""What a system for comparison may look at, and what all of them compute first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float64s, Int64s


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
