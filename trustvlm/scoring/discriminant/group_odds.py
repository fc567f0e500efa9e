"""Labels with and labels without support images, weighed as two groups.

How far an image speaks for the group that has prototypes is learned from the support images: each
is looked at twice, as an image of a label with a prototype (the image itself left out), and as one
of a label without (its label's prototype taken away).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

_FARTHEST = 8.0  # bound of Λ, nats
_LEAST_VARIANCE = 1e-4  # added to that of similarities
# What is assumed of the three weights beforehand: log w₁, log w₂ and w₀ are normal.
_MEANS = np.array([math.log(0.3), math.log(0.25), 0.0])
_SPREADS = np.array([0.8, 0.8, 1.5])
_ENOUGH = 2.0  # images a label count fully up to this number; more are not independent


@dataclass(frozen=True)
class Novelty:
    """How similar images are to the nearest prototype, if their own label has one and if not.

    Attributes:
        own, other: mean similarity of left-out images to the nearest prototype of any label, and of
            any label but their own. variance: mean of both variances.
    """

    own: float
    other: float
    variance: float

    @classmethod
    def of(cls, nearest: Float64s, other: Float64s) -> Novelty:
        """From the (m,) largest similarities of left-out images to any prototype, and to any but
        their own label's."""
        variance = (float(nearest.var()) + float(other.var())) / 2 + _LEAST_VARIANCE
        return cls(float(nearest.mean()), float(other.mean()), variance)

    def log_ratio(self, nearest: Float64s) -> Float64s:
        """Λ, the log likelihood ratio of "its label has a prototype", within ±8 nats."""
        slope = (self.own - self.other) / self.variance
        ratio = slope * (nearest - (self.own + self.other) / 2)
        return np.clip(ratio, -_FARTHEST, _FARTHEST)


@dataclass(frozen=True)
class GroupOdds:
    """log odds of "its label has a prototype" = text log odds + by_gain·gain + by_novelty·Λ +
    constant.

    The gain is log Σ p′_j·e^(e_j) − log Σ p_j − log mean e^(e_j), the sums over labels with
    prototypes: by how much the image evidence exceeds that of labels in general.
    """

    by_gain: float
    by_novelty: float
    constant: float
    novelty: Novelty

    def image_odds(self, gain: Float64s, nearest: Float64s) -> Float64s:
        """(n,) what the image adds to the text log odds, given the gains and the similarities to
        the nearest prototype."""
        ratio = self.novelty.log_ratio(nearest)
        return self.by_gain * gain + self.by_novelty * ratio + self.constant


@dataclass(frozen=True, eq=False)
class LeftOutCases:
    """m left-out support images of labels with prototypes.

    Attributes:
        log_p: (m, k) log probability of the labels with prototypes; log_bare: (m,) of all others.
        bias: (k,) of the text, nats. evidence: (m, k) e_j without the image. similarity: (m, k)
            cosines, likewise.
        column: (m,) the images' own labels. each: images a label.
    """

    log_p: Float64s
    log_bare: Float64s
    bias: Float64s
    evidence: Float64s
    similarity: Float64s
    column: Int64s
    each: float


def fit_group_odds(cases: LeftOutCases) -> GroupOdds:
    """The odds under which the left-out images are told apart best from images of labels without a
    prototype: a logistic regression with normal priors (its most probable weights)."""
    from scipy.optimize import minimize  # takes a tenth of a second to import

    row, column = np.arange(len(cases.column)), cases.column
    without = cases.similarity.copy()
    without[row, column] = -np.inf
    nearest, other = cases.similarity.max(axis=1), without.max(axis=1)
    novelty = Novelty.of(nearest, other)
    hidden = np.zeros(cases.log_p.shape, np.bool_)
    hidden[row, column] = True
    shown = _features(cases, np.zeros_like(hidden), novelty.log_ratio(nearest))
    bare = _features(cases, hidden, novelty.log_ratio(other))
    text_odds, gain, ratio = (np.concatenate(both) for both in zip(shown, bare, strict=True))
    sign = np.repeat([1.0, -1.0], len(row))
    weight = min(1.0, _ENOUGH / cases.each)

    def loss(weights: Float64s) -> tuple[float, Float64s]:
        by_gain, by_novelty = np.exp(weights[:2])
        odds = sign * (text_odds + by_gain * gain + by_novelty * ratio + weights[2])
        far = (weights - _MEANS) / _SPREADS
        value = weight * np.logaddexp(0, -odds).sum() + (far**2).sum() / 2
        slope = -weight * sign * np.exp(-np.logaddexp(0, odds))
        gradient = [slope @ gain * by_gain, slope @ ratio * by_novelty, slope.sum()]
        return float(value), np.array(gradient) + far / _SPREADS

    options = {"ftol": 1e-14, "gtol": 1e-9}
    best = minimize(loss, _MEANS, jac=True, method="L-BFGS-B", options=options).x
    return GroupOdds(math.exp(best[0]), math.exp(best[1]), float(best[2]), novelty)


def _features(
    cases: LeftOutCases, hidden: np.ndarray, ratio: Float64s
) -> tuple[Float64s, Float64s, Float64s]:
    """(text log odds, gain, Λ) of every image, where the `hidden` labels have lost their
    prototypes."""
    log_p = np.where(hidden, -np.inf, cases.log_p)
    mass = _log_sum(log_p)
    lost = np.where(hidden, cases.log_p, -np.inf).max(axis=1)
    bare = np.logaddexp(cases.log_bare, lost)
    evidence = np.where(hidden, -np.inf, cases.evidence)
    biased = log_p + cases.bias
    fused = _log_sum(biased + np.where(hidden, 0.0, evidence)) - _log_sum(biased)
    labels = (~hidden).sum(axis=1)
    gain = fused - (_log_sum(evidence) - np.log(labels))
    return mass - bare, gain, ratio


def _log_sum(values: Float64s) -> Float64s:
    top = values.max(axis=1)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        log_sum: Float64s = top + np.log(np.exp(values - top[:, np.newaxis]).sum(axis=1))
    return log_sum
