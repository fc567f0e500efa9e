"""Intervals that hold the true value of a metric as often as they say, on few images too
(docs/measuring.md, "Intervals").

The true value is the metric's on the population that the images are independent draws from. Nothing
is resampled: a bootstrap of 30 images with two errors knows no third one. How often the intervals
hold is measured in ``benchmarks/intervals.py``.

All take (M,) trust and (M,) correct as :mod:`trustvlm.selective.metrics` does, and return (low,
high) in [0, 1] (differences: in [−1, 1]), two-sided.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from trustvlm.selective.metrics import aurc
from trustvlm.selective.ranking import Ranking, checked
from trustvlm.types.arrays import Bools, Float64s, Int64s

Interval = tuple[float, float]
Trust = npt.NDArray[np.number]

CONFIDENCE = 0.95


def proportion_interval(count: float, of: float, confidence: float = CONFIDENCE) -> Interval:
    """Exact interval of a proportion, where `count` of `of` were seen (Clopper & Pearson 1934);
    (0, 1) of none.

    Neither need be whole: an effective number of images serves as well (Korn & Graubard 1998).
    """
    from scipy.special import betaincinv

    tail, rest = (1 - confidence) / 2, of - count
    low = 0.0 if count <= 0 else float(betaincinv(count, rest + 1, tail))
    return low, 1.0 if rest <= 0 else float(betaincinv(count + 1, rest, 1 - tail))


def mean_interval(values: Float64s, confidence: float = CONFIDENCE) -> Interval:
    """Of the mean of (n,) independent values in [0, 1]: that of a proportion of as many as would
    have their variance."""
    count, of = _effective(float(values.mean()), _variance_of_mean(values), len(values))
    return proportion_interval(count, of, confidence)


def accuracy_interval(trust: Trust, correct: Bools, confidence: float = CONFIDENCE) -> Interval:
    """Exact: 20 right ones of 20 are (0.83, 1)."""
    return proportion_interval(int(correct.sum()), len(correct), confidence)


def fpr_at_tpr_interval(
    trust: Trust, correct: Bools, confidence: float = CONFIDENCE, *, tpr: float = 0.95
) -> Interval:
    """The exact interval of the share of errors, widened by what the threshold may be off by.

    The true threshold lies between two order statistics of the right predictions, for any
    distribution; the two distances from the estimate add up as squares (MOVER: Zou & Donner 2008).
    Below some 72 right ones the lower order statistic does not exist, and the interval reaches up
    to 1; (0, 1) of none or all right.
    """
    ranking = Ranking(*checked(trust, correct))
    wrongs, kept = int(ranking.wrong.sum()), np.cumsum(ranking.right)
    if not wrongs or not kept[-1]:
        return 0.0, 1.0
    return _at_threshold(kept, ranking.errors, np.full(len(kept), wrongs), tpr, confidence)


def risk_at_coverage_interval(
    trust: Trust, correct: Bools, confidence: float = CONFIDENCE, *, coverage: float = 0.8
) -> Interval:
    """The exact interval of the share of errors among the accepted, widened as in
    :func:`fpr_at_tpr_interval`."""
    ranking = Ranking(*checked(trust, correct))
    return _at_threshold(ranking.accepted, ranking.errors, ranking.accepted, coverage, confidence)


def _at_threshold(
    kept: Int64s, errors: Int64s, of: Int64s, share: float, confidence: float
) -> Interval:
    """The interval of errors / of at the threshold that keeps `share` of all.

    Args:
        kept: (g,) how many of those that place the threshold are at or above each of g descending
            thresholds.
        errors, of: (g,) the proportion there.
    """
    from scipy.stats import binom

    total, tail = int(kept[-1]), (1 - confidence) / 2

    def at(rank: int) -> int:
        return int(np.searchsorted(kept, rank))

    place = at(max(1, math.ceil(share * total - 1e-9)))
    estimate = errors[place] / of[place]
    fewest, most = int(binom.ppf(tail, total, share)), int(binom.ppf(1 - tail, total, share)) + 1
    stricter = errors[at(fewest)] / of[at(fewest)] if fewest >= 1 else 0.0
    looser = errors[at(most)] / of[at(most)] if most <= total else 1.0
    if np.array_equal(kept, of) and most > total:  # no more can be accepted than all
        looser = errors[-1] / of[-1]
    low, high = proportion_interval(int(errors[place]), int(of[place]), confidence)
    levels = range(at(max(1, fewest)), at(min(most, total)) + 1)
    if len(levels) <= (most - fewest) / 2:
        # Equal trust: the true threshold is one of a few, each of which has its interval.
        lows, highs = zip(
            *(proportion_interval(int(errors[i]), int(of[i]), confidence) for i in levels),
            strict=True,
        )
        low, high = min(lows), max(highs)
    below, above = min(stricter, looser, estimate), max(stricter, looser, estimate)
    return (
        max(0.0, float(estimate - math.hypot(estimate - low, estimate - below))),
        min(1.0, float(estimate + math.hypot(high - estimate, above - estimate))),
    )


def coverage_at_risk_interval(
    trust: Trust, correct: Bools, confidence: float = CONFIDENCE, *, risk: float = 0.05
) -> Interval:
    """What can be shown of the largest coverage whose risk is at most `risk`, by exact tests in a
    fixed order.

    Low: from the smallest number of images that could show it, more and more are accepted until it
    cannot be shown that the risk is at most `risk`. High: from all images, fewer and fewer until it
    cannot be shown that the risk is above. Each coverage then has its own exact interval. (0, 1)
    where the images show nothing.
    """
    from scipy.special import bdtr, bdtrc

    ranking = Ranking(*checked(trust, correct))
    accepted, errors, total = ranking.accepted, ranking.errors.astype(np.float64), len(correct)
    tail = (1 - confidence) / 2
    few_errors = bdtr(errors, accepted, risk) <= tail
    many_errors = (errors > 0) & (bdtrc(np.maximum(errors - 1, 0), accepted, risk) <= tail)
    first = max(_fewest_accepted(risk, tail), min(total // 4, 150))
    shown = few_errors | (accepted < first)
    count = int(shown.argmin()) if not shown.all() else len(shown)
    proven = int(accepted[count - 1]) if count and accepted[count - 1] >= first else 0
    open_ = np.flatnonzero(~many_errors)
    possible = int(accepted[open_[-1]]) if len(open_) else 0
    return (
        proportion_interval(proven, total, confidence)[0],
        1.0 if possible == total else proportion_interval(possible, total, confidence)[1],
    )


def _fewest_accepted(risk: float, tail: float) -> int:
    """How many accepted images without an error show that the risk is at most `risk`."""
    if risk >= 1:
        return 1
    return math.ceil(min(math.log(tail) / math.log1p(-risk), 2**53)) if risk > 0 else 2**53


def auroc_interval(trust: Trust, correct: Bools, confidence: float = CONFIDENCE) -> Interval:
    """The AUROCs that are within the normal quantile of their standard error of the one seen; (0,
    1) of none or all right.

    The variance is a function of the true value (Hanley & McNeil 1982, made symmetric: Newcombe
    2006, method 5), so that the interval has a width even where all right ones are trusted more;
    scaled up where the variance of DeLong et al. (1988) says more.
    """
    from scipy.special import ndtri

    ranking = Ranking(*checked(trust, correct))
    rights, wrongs = int(ranking.right.sum()), int(ranking.wrong.sum())
    if not rights or not wrongs:
        return 0.0, 1.0
    # Of each right one the share of wrong ones below, of each wrong one the share of right ones
    # ahead.
    beaten = (wrongs - ranking.errors + ranking.wrong / 2) / wrongs
    ahead = (np.cumsum(ranking.right) - ranking.right / 2) / rights
    value = float(np.average(beaten, weights=ranking.right))
    seen = _variance(beaten, ranking.right) / rights + _variance(ahead, ranking.wrong) / wrongs
    half = (rights + wrongs) / 2 - 1

    def variance(area: Float64s) -> Float64s:
        ratios: Float64s = (1 - area) / (2 - area) + area / (1 + area)
        return area * (1 - area) * (1 + half * ratios) / (rights * wrongs)

    expected = float(variance(np.array(value)))
    scale = max(1.0, seen / expected) if expected > 0 else 1.0
    areas = np.linspace(0, 1, 10_001)
    quantile = float(ndtri((1 + confidence) / 2))
    inside = areas[(areas - value) ** 2 <= quantile**2 * scale * variance(areas)]
    return (float(inside[0]), float(inside[-1])) if len(inside) else (value, value)


def _variance(values: Float64s, weights: Int64s) -> float:
    """The sample variance of values that come `weights` times; 0 of one."""
    count = int(weights.sum())
    mean = np.average(values, weights=weights)
    return float((weights * (values - mean) ** 2).sum() / (count - 1)) if count > 1 else 0.0


def aurc_interval(trust: Trust, correct: Bools, confidence: float = CONFIDENCE) -> Interval:
    """The interval of a proportion of as many images as would have the variance seen (Korn &
    Graubard 1998).

    What no sample shows is an error among the few most trusted: the upper bound is that of the
    sample with one more error at about the √M-th place.
    """
    from scipy.special import betaincinv

    value, influence = aurc(trust, correct), _aurc_influence(trust, correct)
    count, variance = len(influence), _variance_of_mean(influence)
    low, high = proportion_interval(*_effective(value, variance, count), confidence)
    weight = _one_more(count)
    more = value + weight
    if more >= 1:
        return low, 1.0
    errors, of = _effective(more, variance + weight**2, count)
    return low, max(high, float(betaincinv(errors, of - errors, (1 + confidence) / 2)))


def aurc_difference_interval(
    trust: Trust,
    correct: Bools,
    base_trust: Trust,
    base_correct: Bools,
    confidence: float = CONFIDENCE,
) -> Interval:
    """Of AURC minus that of a base rule on the same images, in order: normal, with the paired
    variance and, as in :func:`aurc_interval`, one more error at about the √M-th place that only one
    of them makes."""
    from scipy.special import ndtri

    difference = aurc(trust, correct) - aurc(base_trust, base_correct)
    paired = _aurc_influence(trust, correct) - _aurc_influence(base_trust, base_correct)
    variance = _variance_of_mean(paired) + _one_more(len(paired)) ** 2
    width = float(ndtri((1 + confidence) / 2)) * math.sqrt(variance)
    return max(-1.0, difference - width), min(1.0, difference + width)


def _one_more(count: int) -> float:
    """What an error at about the √M-th place of M adds to AURC: half of what one at the first place
    adds."""
    return float((1 / np.arange(1, count + 1)).sum()) / 2 / count


def _effective(value: float, variance: float, count: int) -> tuple[float, float]:
    """(count, of) of a proportion with that value and variance; of all images where nothing
    varies."""
    of = value * (1 - value) / variance if variance > 0 and 0 < value < 1 else float(count)
    return value * of, of


def _variance_of_mean(values: Float64s) -> float:
    count = len(values)
    return float(values.var(ddof=1)) / count if count > 1 else 0.0


def _aurc_influence(trust: Trust, correct: Bools) -> Float64s:
    """(M,) how far each prediction moves AURC, up to a constant: its influence function at the
    sample.

    A wrong one at rank r adds 1/n to the risk at every n ≥ r; any one moves those behind it one
    place down, which saves the error rate there over n. Ties share the mean of their places.
    """
    values, right = checked(trust, correct)
    _, group, size = np.unique(-values.astype(np.float64), return_inverse=True, return_counts=True)
    start = np.cumsum(size) - size
    place = 1 / np.arange(1, len(values) + 1)
    rate = np.bincount(group, weights=~right) / size
    added = np.add.reduceat(np.cumsum(place[::-1])[::-1], start) / size
    saved = np.add.reduceat(np.cumsum((np.repeat(rate, size) * place)[::-1])[::-1], start) / size
    influence: Float64s = np.where(right, 0.0, added[group]) - saved[group]
    return influence
