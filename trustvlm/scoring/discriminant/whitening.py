"""Whitened evidence: Fisher's linear discriminant with shrinkage, and its leave-one-out values in
closed form.

g_j(z) = zᵀM·P_j − ½·P_jᵀM·P_j, where M is the inverse of the covariance that all labels share: how
support images spread around the mean of their label, shrunk towards a multiple of the identity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float64s, Floats, Int64s

SHRINKAGE = 0.7
"""ρ: the share of the covariance that is a multiple of the identity."""

_LEAST_SPREAD = 1e-10  # a mean square of residuals that is rounding of equal vectors
_LEAST_REST = 1e-6  # of 1 − a·rᵀM·r, which is 0 where one image alone spans a direction
_CANCELLED = 1e-6  # a mean this much shorter than the vectors is rounding noise
_BLOCK = 256  # rows of a matrix of up to 2,048 × 6,144 entries that are worked on at a time


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

    def part(self, places: Int64s) -> LeftOutImages:
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
        labels, of = np.unique(owner, return_inverse=True)
        counts = np.bincount(of, minlength=len(labels))
        order = np.argsort(of, kind="stable")
        starts = np.cumsum(counts) - counts
        means = np.add.reduceat(unit[order], starts) / counts[:, np.newaxis]
        sums = np.add.reduceat(raw[order], starts)
        residuals = unit - means[of]
        rest = sums[of[rows]] - raw[rows]
        lengths = np.linalg.norm(raw[rows], axis=1)
        defined = (counts[of[rows]] >= 2) & (np.linalg.norm(rest, axis=1) > _CANCELLED * lengths)
        others = np.full(rest.shape, np.nan)
        others[defined] = unit_rows(rest[defined])
        left_out = cls(unit[rows], column, counts[of[rows]], residuals[rows], others)
        return left_out, Scatter(residuals.T @ residuals, len(raw) - len(labels))


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
        images, residuals, centres = (
            left_out.images[part],
            left_out.residuals[part],
            left_out.others[part],
        )
        counts = left_out.counts[part]
        white_images, white_residuals = images @ matrix, residuals @ matrix
        share = counts / np.maximum(counts - 1, 1) * (1 - SHRINKAGE) / freedom
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
        values[part][np.arange(len(images)), left_out.column[part]] = own_values
    return values
