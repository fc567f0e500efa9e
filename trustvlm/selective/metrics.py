"""Metrics of selective prediction on (trust, correct): does larger trust mean fewer errors?

Every function takes `trust`, (M,) real numbers of which a larger one is more trusted (±inf allowed), and `correct`, (M,)
bool or 0/1: whether each prediction was right. Results are fractions in [0, 1], not ×1000 and not percent.

Invariants: the order of the predictions does not matter, because equal trust values form one group that is counted as a
whole; nor do the values, only their order: a strictly increasing map of the trust changes nothing but thresholds.

All raise InvalidInput for empty input, shapes that differ or are not one-dimensional, NaN, or `correct` that is not 0/1.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types import Float64s, Int64s

__all__ = [
    "RiskCoverage",
    "augrc",
    "aupr_error",
    "aurc",
    "auroc",
    "coverage_at_risk",
    "e_aurc",
    "fpr_at_tpr",
    "risk_at_coverage",
    "risk_coverage_curve",
]


class RiskCoverage(NamedTuple):
    """The risk–coverage curve, one point per distinct threshold, coverage ascending.

    Attributes:
        coverage: (t,) share of the predictions whose trust is at or above the threshold; the last is 1.
        risk: (t,) share of wrong ones among those.
        threshold: (t,) the trust value, descending.
    """

    coverage: Float64s
    risk: Float64s
    threshold: Float64s


def aurc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Area under the risk–coverage curve: the mean over n = 1 … M of the error rate among the n most trusted.

    Tied predictions share their mean error. 0 when all are right, 1 when all are wrong; smaller is better.
    Source: Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural Classifiers" (2019).
    """
    errors = _errors_among_most_trusted(_Groups(trust, correct))
    return float(np.mean(errors / np.arange(1, len(errors) + 1)))


def e_aurc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Excess AURC: :func:`aurc` minus that of an oracle, which trusts every right prediction more than any wrong one.

    0 when all are right or all are wrong (no order is better than another then). Same source.
    """
    right = _checked(trust, correct)[1]
    return aurc(trust, correct) - aurc(right, right)


def augrc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Area under the generalised risk–coverage curve: the mean over n of (errors among the n most trusted) / M.

    Tied predictions share their mean error. In [0, 1/2 + 1/(2M)]; smaller is better.
    Source: Traub et al., "Overcoming Common Flaws in the Evaluation of Selective Classification Systems" (2024).
    """
    errors = _errors_among_most_trusted(_Groups(trust, correct))
    return float(np.mean(errors / len(errors)))


def auroc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Probability that a right prediction is trusted more than a wrong one; ties count half. Larger is better.

    NaN when all are right or all are wrong.
    """
    groups = _Groups(trust, correct)
    if not groups.rights or not groups.wrongs:
        return math.nan
    less_trusted_wrong = groups.wrongs - np.cumsum(groups.wrong)
    won = int((groups.right * (2 * less_trusted_wrong + groups.wrong)).sum())  # in halves: exact
    return won / (2 * groups.rights * groups.wrongs)


def fpr_at_tpr(trust: npt.ArrayLike, correct: npt.ArrayLike, tpr: float = 0.95) -> float:
    """Share of the wrong predictions at or above the highest threshold that keeps at least `tpr` of the right ones.

    Smaller is better. NaN when all are right or all are wrong.

    Raises:
        InvalidInput: also for a tpr outside (0, 1].
    """
    if not 0.0 < tpr <= 1.0:
        raise InvalidInput(f"tpr: expected a number in (0, 1], got {tpr!r}")
    groups = _Groups(trust, correct)
    if not groups.rights or not groups.wrongs:
        return math.nan
    kept = np.cumsum(groups.right) / groups.rights
    at = int(np.argmax(kept >= tpr))
    return float(np.cumsum(groups.wrong)[at] / groups.wrongs)


def aupr_error(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Average precision of finding the errors by small trust: Σ over thresholds of (recall gained) × precision.

    Tied predictions enter together. Larger is better; the share of errors is what chance gives. 1 when all are wrong, NaN
    when all are right. Source: Hendrycks & Gimpel 2017; without interpolation (Davis & Goadrich 2006).
    """
    groups = _Groups(trust, correct)
    if not groups.wrongs:
        return math.nan
    wrong, size = groups.wrong[::-1], (groups.right + groups.wrong)[::-1]
    precision = np.cumsum(wrong) / np.cumsum(size)
    return float((wrong / groups.wrongs * precision).sum())


def coverage_at_risk(trust: npt.ArrayLike, correct: npt.ArrayLike, risk: float) -> float:
    """The largest coverage of a threshold whose risk is at most `risk` on these predictions; 0 when there is none.

    A description of the data, not a promise: :func:`trustvlm.selective.risk.find_threshold` makes those.

    Raises:
        InvalidInput: also for a risk outside [0, 1].
    """
    if not 0.0 <= risk <= 1.0:
        raise InvalidInput(f"risk: expected a number in [0, 1], got {risk!r}")
    curve = risk_coverage_curve(trust, correct)
    low = curve.risk <= risk
    return float(curve.coverage[low].max()) if low.any() else 0.0


def risk_at_coverage(trust: npt.ArrayLike, correct: npt.ArrayLike, coverage: float) -> float:
    """The risk at the highest threshold that accepts at least the share `coverage`.

    Raises:
        InvalidInput: also for a coverage outside (0, 1].
    """
    if not 0.0 < coverage <= 1.0:
        raise InvalidInput(f"coverage: expected a number in (0, 1], got {coverage!r}")
    curve = risk_coverage_curve(trust, correct)
    return float(curve.risk[int(np.argmax(curve.coverage >= coverage - 1e-12))])


def risk_coverage_curve(trust: npt.ArrayLike, correct: npt.ArrayLike) -> RiskCoverage:
    """Coverage and risk at every distinct threshold. See :class:`RiskCoverage`."""
    groups = _Groups(trust, correct)
    accepted = np.cumsum(groups.right + groups.wrong)
    return RiskCoverage(accepted / accepted[-1], np.cumsum(groups.wrong) / accepted, groups.trust.astype(np.float64))


class _Groups:
    """The predictions grouped by equal trust, most trusted first.

    Attributes:
        trust: (g,) trust of each group, descending.
        right, wrong: (g,) how many of it are right and wrong.
        rights, wrongs: the totals.
    """

    def __init__(self, trust: npt.ArrayLike, correct: npt.ArrayLike) -> None:
        values, is_right = _checked(trust, correct)
        distinct, group = np.unique(values, return_inverse=True)
        size = np.bincount(group, minlength=len(distinct))
        right = np.bincount(group[is_right], minlength=len(distinct))
        self.trust = distinct[::-1]
        self.right: Int64s = right[::-1].astype(np.int64)
        self.wrong: Int64s = (size - right)[::-1].astype(np.int64)
        self.rights, self.wrongs = int(self.right.sum()), int(self.wrong.sum())


def _errors_among_most_trusted(groups: _Groups) -> Float64s:
    """(M,) errors among the n most trusted, n = 1 … M; within a group they grow evenly."""
    size = groups.right + groups.wrong
    before = np.cumsum(groups.wrong) - groups.wrong
    place = np.arange(1, int(size.sum()) + 1) - np.repeat(np.cumsum(size) - size, size)
    errors: Float64s = np.repeat(before, size) + place * np.repeat(groups.wrong, size) / np.repeat(size, size)
    return errors


def _checked(trust: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """Both as arrays of one length, `correct` as bool."""
    values, right = np.asarray(trust), np.asarray(correct)
    if values.ndim != 1 or values.shape != right.shape:
        raise InvalidInput(f"trust and correct: expected one (M,) array each, got {values.shape} and {right.shape}")
    if not len(values):
        raise InvalidInput("trust and correct: expected at least one prediction, got none")
    if values.dtype.kind not in "fiub" or right.dtype.kind not in "fiub":
        raise InvalidInput(f"trust and correct: expected numbers, got {values.dtype} and {right.dtype}")
    if np.isnan(values).any():
        raise InvalidInput(f"trust: expected no NaN, got one at {int(np.isnan(values).argmax())}")
    if not ((right == 0) | (right == 1)).all():
        raise InvalidInput("correct: expected bool or 0/1, got other values")
    return values, right.astype(np.bool_)
