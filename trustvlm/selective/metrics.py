"""Metrics of selective prediction on (trust, correct): does larger trust mean fewer errors?

Every function takes `trust`, (M,) real numbers; a larger one is more trusted (±inf
allowed), and `correct`, (M,) bool or 0/1: whether each prediction was right. Results are fractions
in [0, 1], not ×1000 and not percent.

Invariants: the order of the predictions does not matter, because equal trust values form one group
that is counted together; nor do the values, only their order: a strictly increasing map of the
trust changes nothing but thresholds.

All raise InvalidInput for empty input, shapes that differ or are not one-dimensional, NaN, or
`correct` that is not 0/1.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.ranking import Ranking, checked
from trustvlm.types.arrays import Float64s

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
        coverage: (t,) share of the predictions whose trust is at or above the threshold; the last
            is 1.
        risk: (t,) share of wrong ones among those.
        threshold: (t,) the trust value, descending.
    """

    coverage: Float64s
    risk: Float64s
    threshold: Float64s


def aurc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Area under the risk–coverage curve: the mean over n = 1 … M of the error rate among the n
    most trusted.

    Tied predictions share their mean error. 0 when all are right, 1 when all are wrong; smaller is
    better. Source: Geifman, Uziel, El-Yaniv, "Bias-Reduced Uncertainty Estimation for Deep Neural
    Classifiers" (2019), whose mean this is. Others integrate the same curve by trapezoids and
    differ by O(1/M).
    """
    errors = _errors_among_most_trusted(_ranking(trust, correct))
    return float(np.mean(errors / np.arange(1, len(errors) + 1)))


def e_aurc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Excess AURC: :func:`aurc` minus that of an oracle, which trusts every right prediction more
    than any wrong one.

    0 when all are right or all are wrong (no order is better than another then). Same source, which
    approximates the oracle's by e + (1 − e)·log(1 − e), e the error rate; here it is exact for M
    predictions.
    """
    right = checked(trust, correct)[1]
    return aurc(trust, correct) - aurc(right, right)


def augrc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Area under the generalised risk–coverage curve: ∫ (share of all predictions that are accepted
    and wrong) d(coverage).

    By trapezoids from coverage 0 on, with one point for each distinct threshold, so that tied
    predictions share their mean error. In [0, 1/2], 1/2 when all are wrong; smaller is better.
    Equal to e²/2 + e·(1 − e)·(1 − AUROC), e the error rate. Source: Traub et al., "Overcoming
    Common Flaws in the Evaluation of Selective Classification Systems" (2024).
    """
    ranking = _ranking(trust, correct)
    accepted = np.concatenate([[0], ranking.accepted])
    errors = np.concatenate([[0], ranking.errors])
    doubled = int((np.diff(accepted) * (errors[1:] + errors[:-1])).sum())  # in halves: exact
    return doubled / (2 * int(accepted[-1]) ** 2)


def auroc(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Probability that a right prediction is trusted more than a wrong one; ties count half. Larger
    is better.

    The Mann–Whitney statistic: the area under the ROC curve by trapezoids (Hanley & McNeil 1982).
    NaN when all are right or all are wrong.
    """
    ranking = _ranking(trust, correct)
    rights, wrongs = int(ranking.right.sum()), int(ranking.wrong.sum())
    if not rights or not wrongs:
        return math.nan
    less_trusted_wrong = wrongs - ranking.errors
    won = int((ranking.right * (2 * less_trusted_wrong + ranking.wrong)).sum())  # in halves: exact
    return won / (2 * rights * wrongs)


def fpr_at_tpr(trust: npt.ArrayLike, correct: npt.ArrayLike, tpr: float = 0.95) -> float:
    """Share of the wrong predictions at or above the highest threshold that keeps at least `tpr` of
    the right ones.

    A point of the ROC curve, not interpolated between two (Liang, Li, Srikant 2018). Smaller is
    better. NaN when all are right or all are wrong.

    Raises:
        InvalidInput: also for a tpr outside (0, 1].
    """
    if isinstance(tpr, bool) or not isinstance(tpr, Real) or not 0.0 < tpr <= 1.0:
        raise InvalidInput(f"tpr: expected a number in (0, 1], got {tpr!r}")
    ranking = _ranking(trust, correct)
    rights, wrongs = int(ranking.right.sum()), int(ranking.wrong.sum())
    if not rights or not wrongs:
        return math.nan
    kept = np.cumsum(ranking.right) / rights
    return float(ranking.errors[int(np.argmax(kept >= tpr))] / wrongs)


def aupr_error(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float:
    """Average precision of finding the errors by small trust: Σ over thresholds of (recall gained)
    × precision.

    Tied predictions enter together. Larger is better; the share of errors is what chance gives. 1
    when all are wrong, NaN when all are right. Source: Hendrycks & Gimpel 2017; without
    interpolation (Davis & Goadrich 2006).
    """
    ranking = _ranking(trust, correct)
    wrong, size = ranking.wrong[::-1], (ranking.right + ranking.wrong)[::-1]
    if not wrong.any():
        return math.nan
    precision = np.cumsum(wrong) / np.cumsum(size)
    return float((wrong / wrong.sum() * precision).sum())


def coverage_at_risk(trust: npt.ArrayLike, correct: npt.ArrayLike, risk: float) -> float:
    """The largest coverage of a threshold whose risk is at most `risk` on these predictions; 0
    without such a threshold.

    A description of the data, not a promise: :func:`trustvlm.selective.risk.find_threshold` makes
    those.

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
    ranking = _ranking(trust, correct)
    accepted = ranking.accepted
    return RiskCoverage(
        accepted / accepted[-1], ranking.errors / accepted, ranking.trust.astype(np.float64)
    )


def _ranking(trust: npt.ArrayLike, correct: npt.ArrayLike) -> Ranking:
    return Ranking(*checked(trust, correct))


def _errors_among_most_trusted(ranking: Ranking) -> Float64s:
    """(M,) errors among the n most trusted, n = 1 … M; within a group they grow evenly."""
    size = ranking.right + ranking.wrong
    before = ranking.errors - ranking.wrong
    place = np.arange(1, int(size.sum()) + 1) - np.repeat(np.cumsum(size) - size, size)
    errors: Float64s = np.repeat(before, size) + place * np.repeat(ranking.wrong / size, size)
    return errors
