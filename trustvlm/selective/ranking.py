"""Predictions grouped by trust: what every metric and every threshold counts with."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float64s, Int64s, plain_array


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
