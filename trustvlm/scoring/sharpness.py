"""The sharpness τ of image evidence, and whether the evidence tells labels apart: both from support
images that are left out of their own labels (docs/rules.md, "Evidence fit")."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from trustvlm.types.arrays import Float64s, Int64s

_GUARD = 2.0  # standard errors by which the support images must tell labels apart
_LEAST_POWER = -700.0  # e to the power of less counts as nothing
_BLOCK = 256  # rows of a matrix of up to 2,048 × 6,144 entries that are worked on at a time


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The likeliest τ of a grid.

    Attributes:
        tau: the value. gain, gain_error: mean log-likelihood over the uniform (nats) at τ, and its
            standard error; NaN of a single image.
        likelihoods: (m,) log-likelihood of each image's label at τ.
    """

    tau: float
    gain: float
    gain_error: float
    likelihoods: Float64s = field(repr=False)

    @property
    def on(self) -> bool:
        """The guard: the evidence tells the labels apart, by two standard errors or more."""
        return self.gain >= _GUARD * self.gain_error  # False where the error is NaN

    def surely_better_than(self, other: Sharpness) -> bool:
        """Whether these values tell the images' labels apart better than those of `other`, by more
        than two standard errors of the difference."""
        more = self.likelihoods - other.likelihoods
        if len(more) < 2:
            return False
        error = float(more.std(ddof=1)) / math.sqrt(len(more))
        return bool(more.mean() > _GUARD * error)


def plain_sharpness(values: Float64s, column: Int64s, grid: Float64s) -> Sharpness | None:
    """The τ of the grid (ties → larger) under which the left-out images' labels are likeliest: it
    maximises the mean of log softmax_own(values/τ). None where every image is told apart: then
    there is no such τ, as the sharper, the likelier.

    Args:
        values: (m, k) evidence of every label for each image, itself left out. column: (m,) which
            label is its own. grid: ascending.
    """
    evidence = values[np.arange(len(values)), column]
    if (evidence >= values.max(axis=1)).all():
        return None
    return _likeliest(values, column, grid, 0.0)


def smoothed_sharpness(values: Float64s, column: Int64s, grid: Float64s) -> Sharpness:
    """The likeliest τ with smoothed targets: as if one image more had been taken for its rival, the
    best other label.

    It maximises the mean of (1 − ε)·log softmax_own(values/τ) + ε·log softmax_rival(values/τ) with
    ε = 1/(m + 2). Arguments as of :func:`plain_sharpness`.
    """
    return _likeliest(values, column, grid, 1.0 / (len(values) + 2))


def _likeliest(values: Float64s, column: Int64s, grid: Float64s, smoothing: float) -> Sharpness:
    count = len(values)
    margin = values - values.max(axis=1, keepdims=True)
    row = np.arange(count)
    target = of_label = margin[row, column]
    if smoothing:
        margin[row, column] = -np.inf
        target = (1 - smoothing) * of_label + smoothing * margin.max(axis=1)
        margin[row, column] = of_label

    @cache
    def likelihood(place: int) -> Float64s:
        scale = float(1.0 / grid[place])
        likelihoods: Float64s = target * scale - np.log(_row_sums(margin, scale))
        return likelihoods

    # The mean is concave in 1/τ (linear terms minus log-sum-exps): bisection finds its one peak.
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        if likelihood(middle + 1).mean() >= likelihood(middle).mean():
            low = middle + 1
        else:
            high = middle
    best = likelihood(low)
    error = float(best.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    gain = float(best.mean()) + math.log(values.shape[1])
    return Sharpness(float(grid[low]), gain, error, best)


def _row_sums(margin: Float64s, scale: float) -> Float64s:
    """(m,) Σ_j e^(scale·margin_ij)."""
    sums = np.empty(len(margin))
    for start in range(0, len(margin), _BLOCK):
        block: NDArray[np.float64] = margin[start : start + _BLOCK] * scale
        sums[start : start + _BLOCK] = np.exp(np.maximum(block, _LEAST_POWER)).sum(axis=1)
    return sums
