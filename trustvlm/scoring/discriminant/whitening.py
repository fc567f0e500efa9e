"""What the support images are to the discriminant: whitened evidence (Fisher's linear discriminant
with shrinkage) with its leave-one-out values in closed form, and what the text side says of them.

g_j(z) = zᵀM·P_j − ½·P_jᵀM·P_j, where M is the inverse of the covariance that all labels share: how
support images spread around the mean of their label, shrunk towards a multiple of the identity.

The classifier has not seen the support images with their labels, so that its softmax over them says
what it says of new images, and how much too often it chooses each label. One image a label is
enough for that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.posterior import log_sum
from trustvlm.scoring.prototypes import left_out_prototypes
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float64s, Floats, Int64s

SHRINKAGE = 0.7
"""ρ: the share of the covariance that is a multiple of the identity."""

_LEAST_SPREAD = 1e-10  # a mean square of residuals that is rounding of equal vectors
_LEAST_REST = 1e-6  # of 1 − a·rᵀM·r, which is 0 where one image alone spans a direction
_BLOCK = 256  # rows of a matrix of up to 2,048 × 6,144 entries that are worked on at a time
_IMAGES = 1_024  # images whose logits are in memory at a time


@dataclass(frozen=True, eq=False)
class Scatter:
    """How support images spread around the means of their labels.

    Attributes:
        products: (d, d) S = Σ r·rᵀ of the residuals r of unit embeddings.
        freedom: ν, number of images minus number of labels.
    """

    products: Float64s
    freedom: int

    def __add__(self, other: Scatter) -> Scatter:
        return Scatter(self.products + other.products, self.freedom + other.freedom)


@dataclass(frozen=True, eq=False)
class LeftOutImages:
    """m support images, each with its label as it is without the image.

    Attributes:
        images: (m, d) unit embeddings. column: (m,) their labels' places among k prototypes.
        counts: (m,) number of support images of the label.
        residuals: (m, d) image minus the mean of the label's unit embeddings.
        others: (m, d) the label's prototype without the image; NaN where it is not defined.
    """

    images: Float64s
    column: Int64s
    counts: Int64s
    residuals: Float64s
    others: Float64s

    @property
    def defined(self) -> Int64s:
        """Places of the images that can be left out."""
        return np.flatnonzero(np.isfinite(self.others[:, 0]))

    def part(self, places: Int64s | slice) -> LeftOutImages:
        """Some of the images."""
        return LeftOutImages(
            self.images[places],
            self.column[places],
            self.counts[places],
            self.residuals[places],
            self.others[places],
        )

    @classmethod
    def of_labels(
        cls, raw: Float64s, owner: Int64s, rows: Int64s, column: Int64s
    ) -> tuple[LeftOutImages, Scatter]:
        """Some images of labels, and the scatter of all images of these labels.

        Args:
            raw: (n, d) raw embeddings of all support images of some labels; owner: (n,) their
                labels. rows: (m,) which images are left out; column: (m,) places of their labels.
        """
        unit = unit_rows(raw)
        _, of, counts = np.unique(owner, return_inverse=True, return_counts=True)
        starts = np.cumsum(counts) - counts
        sums = np.add.reduceat(unit[np.argsort(of, kind="stable")], starts)
        residuals = unit - (sums / counts[:, np.newaxis])[of]
        others = left_out_prototypes(raw, owner, rows)
        left_out = cls(unit[rows], column, counts[of[rows]], residuals[rows], others)
        return left_out, Scatter(residuals.T @ residuals, len(raw) - len(counts))


def whitening(scatter: Scatter) -> Float64s | None:
    """(d, d) M, the inverse of (1 − ρ)·S/ν + ρ·tr(S)/(ν·d)·I; None where no two images of a label
    differ."""
    spread = float(np.trace(scatter.products))
    if scatter.freedom < 1 or spread <= _LEAST_SPREAD * scatter.freedom:
        return None
    dim = len(scatter.products)
    covariance = (1 - SHRINKAGE) / scatter.freedom * scatter.products
    covariance[np.diag_indices(dim)] += SHRINKAGE * spread / (scatter.freedom * dim)
    inverse = np.linalg.inv(covariance)
    symmetric: Float64s = (inverse + inverse.T) / 2
    return symmetric


def whitened_halves(matrix: Floats, prototypes: Float64s) -> Float64s:
    """(k,) ½·P_jᵀM·P_j."""
    halves: Float64s = np.einsum("kd,kd->k", prototypes @ matrix, prototypes) / 2
    return halves


def left_out_values(
    left_out: LeftOutImages,
    matrix: Float64s,
    freedom: int,
    prototypes: Float64s,
    halves: Float64s | None = None,
) -> Float64s:
    """(m, k) g_j of every image, as if it had no part in M, nor in the prototype of its own label.

    Without image i the scatter is S − κ·r_i·r_iᵀ with κ = n/(n − 1), so that M becomes
    M + γ·(M·r_i)(M·r_i)ᵀ with a = κ(1 − ρ)/ν and γ = a/(1 − a·r_iᵀM·r_i) (Sherman and Morrison).

    Args:
        freedom: ν of the scatter that M was made of. prototypes: (k, d).
        halves: (k,) of :func:`whitened_halves`, where the caller has them.
    """
    halves = whitened_halves(matrix, prototypes) if halves is None else halves
    values = np.empty((len(left_out.images), len(prototypes)))
    for start in range(0, len(values), _BLOCK):
        part = slice(start, start + _BLOCK)
        some = left_out.part(part)
        images, residuals, centres = some.images, some.residuals, some.others
        white_images, white_residuals = images @ matrix, residuals @ matrix
        share = some.counts / np.maximum(some.counts - 1, 1) * (1 - SHRINKAGE) / freedom
        rest = 1 - share * np.einsum("md,md->m", residuals, white_residuals)
        factor = (share / np.maximum(rest, _LEAST_REST))[:, np.newaxis]
        along = np.einsum("md,md->m", images, white_residuals)[:, np.newaxis]
        across = white_residuals @ prototypes.T
        values[part] = white_images @ prototypes.T - halves + factor * across * (along - across / 2)
        across_own = np.einsum("md,md->m", white_residuals, centres)[:, np.newaxis]
        own_values = (
            np.einsum("md,md->m", white_images, centres)
            - whitened_halves(matrix, centres)
            + (factor * across_own * (along - across_own / 2))[:, 0]
        )
        values[part][np.arange(len(images)), some.column] = own_values
    return values


@dataclass(frozen=True, eq=False)
class TextSide:
    """Text logits of those support images whose classifier embedding is known.

    Attributes:
        images: (t,) their places among all m support images, ascending. logits: (t, k) of the
            labels with prototypes. column: (t,) their own labels.
        bias: (k,) from :func:`text_bias`.
        log_weight: (k,) log of how many labels each of them stands for, 0 where all are there.
        log_bare: (t,) log of the sum of e^logit of all labels without support images; None where
            there are none.
    """

    images: Int64s
    logits: Float64s
    column: Int64s
    bias: Float64s
    log_weight: Float64s
    log_bare: Float64s | None

    def rows_of(self, places: Int64s) -> tuple[Int64s, Int64s]:
        """(which of these images, ascending, have a row here; their rows)."""
        _, among, rows = np.intersect1d(places, self.images, return_indices=True)
        return among, rows

    def log_p(self, rows: Int64s) -> tuple[Float64s, Float64s]:
        """((r, k) log probability of the labels with prototypes, (r,) of all others)."""
        assert self.log_bare is not None
        logits = self.logits[rows] + self.log_weight
        log_z = log_sum(logits, self.log_bare[rows])
        return logits - log_z[:, np.newaxis], self.log_bare[rows] - log_z


def text_bias(images: Float64s, texts: Float64s, column: Int64s) -> Float64s:
    """(k,) b_j, nats to add to the log probability of each label.

    b_j = −log((π_j·k·n + 1)/(n + 1)), where π_j is the mean over labels of the mean probability of
    label j over the label's own images, and n = m/k images a label: the share of label j among
    balanced images, relative to an even one, shrunk by one image. The softmax runs over the labels
    that have an image here; the others get 0.

    Args:
        images: (m, d) support images, and texts: (k, d), whose products are text logits.
        column: (m,) the images' own labels.
    """
    bias = np.zeros(len(texts))
    owners, owner = np.unique(column, return_inverse=True)
    if not len(owners):
        return bias
    share, weight = np.zeros(len(owners)), 1.0 / (len(owners) * np.bincount(owner)[owner])
    for start in range(0, len(images), _IMAGES):
        part = slice(start, start + _IMAGES)
        logits = images[part] @ texts[owners].T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        share += (weight[part] / p.sum(axis=1)) @ p
    each = len(column) / len(owners)
    bias[owners] = -np.log((share * len(owners) * each + 1) / (each + 1))
    return bias
