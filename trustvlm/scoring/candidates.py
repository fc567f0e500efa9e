"""What rules see: the candidate labels of some queries, with the numbers of both sides."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from trustvlm.scoring.discriminant.rule import DiscriminantValues
from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.softmax.leading import Moments
from trustvlm.types.arrays import Bools, Float64s, Floats, Int64s


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest support images of n queries, of all labels.

    Attributes:
        similarity: (n, k), −inf where padded.
        column: (n, k) which candidate has the support image's label; −1 where none has.
    """

    similarity: Float64s
    column: Int64s


@dataclass(frozen=True, eq=False)
class Candidates:
    """m candidate labels of each of n queries.

    Attributes:
        logit: (n, m) s·x·t_j; −inf where padded.
        moments: log-partition, entropy and Gini impurity of the softmax over all labels.
        similarity: (n, m) c_j = z·P_j; NaN where the label has no prototype.
        imputed: c̃, the similarity assumed where there is no prototype.
        image_log_z: (n,) log Σ e^(c_j/T) over all labels with a prototype, for the rule that asks
            for it, else None.
        valid: (n, m) False where padded.
        rest: (n,) probability of all labels that are not candidates.
        labels, prototypes: how many labels there are in all, and how many of them have a prototype.
        evidence: what the support set says of its similarities (τ and more).
        background: (n, a) similarities z·P_a to the background sample of prototypes.
        neighbours: the nearest support images, for the rule that asks for them.
        discriminant: what the discriminant says of the candidates, for the rules that ask for it.
        known_p: (n, m) the softmax probabilities, where an engine has them already.
    """

    logit: Float64s
    moments: Moments
    similarity: Float64s
    imputed: float
    image_log_z: Float64s | None
    valid: Bools
    rest: Float64s
    labels: int
    prototypes: int
    evidence: ImageEvidence | None = None
    background: Floats | None = None
    neighbours: Neighbours | None = None
    discriminant: DiscriminantValues | None = None
    known_p: Float64s | None = None

    @cached_property
    def log_p(self) -> Float64s:
        """(n, m) log of the softmax probability over all labels; −inf where padded."""
        return self.logit - self.moments.log_z[:, np.newaxis]

    @cached_property
    def p(self) -> Float64s:
        """(n, m) softmax probability over all labels; 0 where padded."""
        return np.exp(self.log_p) if self.known_p is None else self.known_p

    @cached_property
    def bare(self) -> Bools | None:
        """(n, m) which candidates have no prototype; None: each one has."""
        bare: Bools = np.isnan(self.similarity)
        return bare if bare.any() else None

    @property
    def filled(self) -> Float64s:
        """(n, m) c_j, with c̃ where the label has no support image."""
        if self.bare is None:
            return self.similarity
        return np.where(self.bare, self.imputed, self.similarity)

    @property
    def verified_outside(self) -> Float64s:
        """(n,) share of the labels outside of the candidates that have a prototype; 1 where there
        are none."""
        if self.prototypes >= self.labels:  # each has one
            return np.ones(len(self.logit))
        labels = self.labels - np.count_nonzero(self.valid, axis=1)
        verified = self.valid if self.bare is None else self.valid & ~self.bare
        prototypes = self.prototypes - np.count_nonzero(verified, axis=1)
        share: Float64s = np.clip(prototypes / np.maximum(labels, 1), 0.0, 1.0)
        return np.where(labels > 0, share, 1.0)
