"""Whether probabilities mean what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.ranking import checked
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.bounds import whole

BINS = 15
BINNING = f"{BINS} bins of equal mass"
"""How :func:`ece` groups probabilities by default, in words."""


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
