"""What every metric and every threshold counts with: predictions grouped by trust; and whether
probabilities mean what they say, by predictions in bins."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float64s, Int64s, plain_array
from trustvlm.types.bounds import whole

BINS = 15
BINNING = f"{BINS} bins of equal mass"
"""How :func:`ece` groups probabilities by default, in words."""


class Ranking:
    """Predictions grouped by equal trust, most trusted first.

    Attributes:
        trust: (g,) trust of each group, descending.
        right, wrong: (g,) int64, how many of it are right and wrong.
    """

    def __init__(self, trust: npt.NDArray[Any], right: npt.NDArray[np.bool_]) -> None:
        """Groups (M,) values, free of NaN, and whether each prediction is right; M may be 0."""
        distinct, group = np.unique(trust, return_inverse=True)
        size = np.bincount(group, minlength=len(distinct))
        rights = np.bincount(group[right], minlength=len(distinct))
        self.trust = distinct[::-1]
        self.right: Int64s = rights[::-1].astype(np.int64)
        self.wrong: Int64s = (size - rights)[::-1].astype(np.int64)

    @classmethod
    def with_wrong_up_to(cls, trust: Float64s, last_wrong: Float64s) -> Ranking:
        """Groups (M,) values whose answers become coarser as the threshold falls.

        `wrong` of a group is how many answers are wrong from its trust on downwards, not above it;
        `right` is the rest of the group, and may be negative.

        Args:
            last_wrong: (M,) the largest threshold at which each answer is wrong; −inf: it never is.
        """
        ranking = cls(trust, np.ones(len(trust), np.bool_))
        groups = len(ranking.trust)
        first = np.searchsorted(-ranking.trust, -last_wrong)
        ranking.wrong = np.bincount(first, minlength=groups)[:groups].astype(np.int64)
        ranking.right = ranking.right - ranking.wrong
        return ranking

    @cached_property
    def accepted(self) -> Int64s:
        """(g,) how many predictions are at or above each threshold."""
        return np.cumsum(self.right + self.wrong)

    @cached_property
    def errors(self) -> Int64s:
        """(g,) how many of them are wrong."""
        return np.cumsum(self.wrong)


def checked(
    trust: npt.ArrayLike, correct: npt.ArrayLike, name: str = "trust"
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Both as arrays of one length, `correct` as bool; `name`: what errors call the first."""
    values, right = plain_array(trust, name), plain_array(correct, "correct")
    if values.ndim != 1 or values.shape != right.shape:
        raise InvalidInput(
            f"{name} and correct: expected one (M,) array each, got {values.shape} and "
            f"{right.shape}"
        )
    if not len(values):
        raise InvalidInput(f"{name} and correct: expected at least one prediction, got none")
    if values.dtype.kind not in "fiub" or right.dtype.kind not in "fiub":
        raise InvalidInput(
            f"{name} and correct: expected numbers, got {values.dtype} and {right.dtype}"
        )
    if np.isnan(values).any():
        raise InvalidInput(f"{name}: expected no NaN, got one at {int(np.isnan(values).argmax())}")
    plain = (right == 0) | (right == 1)
    if not plain.all():
        at = int(plain.argmin())
        raise InvalidInput(f"correct: expected bool or 0/1, got {right[at]} at {at}")
    return values, right.astype(np.bool_)


@dataclass(frozen=True, eq=False)
class Reliability:
    """Predictions in bins of (nearly) equal size, by rising probability; equal probabilities share
    a bin.

    Attributes:
        probability: (b,) mean probability. accuracy: (b,) share that is right. count: (b,).
    """

    probability: Float64s
    accuracy: Float64s
    count: Int64s


def reliability(
    probability: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS
) -> Reliability:
    """Mean probability against accuracy in up to `bins` bins of equal size.

    Raises:
        InvalidInput: a probability outside [0, 1], and as the metrics do.
    """
    bins = whole("bins", bins)
    values, right = checked(probability, correct, "probability")
    if values.min() < 0 or values.max() > 1:
        raise InvalidInput(
            f"probability: expected numbers in [0, 1], got {values.min()} to {values.max()}"
        )
    order = np.argsort(values, kind="stable")
    # Equal ones go where the first of them goes.
    first = np.searchsorted(values[order], values[order], side="left")
    _, group = np.unique(first * bins // len(values), return_inverse=True)
    count = np.bincount(group)
    return Reliability(
        np.bincount(group, values[order].astype(np.float64)) / count,
        np.bincount(group, right[order].astype(np.float64)) / count,
        count.astype(np.int64),
    )


def ece(probability: npt.ArrayLike, correct: npt.ArrayLike, bins: int = BINS) -> float:
    """Expected calibration error: the mean of |accuracy − probability| over :func:`reliability`'s
    bins, by their size.

    Source: Guo et al. 2017, whose 15 bins are of equal width; these are of equal mass (Nguyen &
    O'Connor 2015), which leaves none almost empty. Equal probabilities share one bin, so that there
    may be fewer.
    """
    grouped = reliability(probability, correct, bins)
    distance = np.abs(grouped.accuracy - grouped.probability)
    return float(np.average(distance, weights=grouped.count))
