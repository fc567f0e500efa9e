"""A threshold on the trust with a promise: of what is accepted, at most `max_risk` is wrong, with
`confidence`.

Learn-then-Test (Angelopoulos, Bates, Candès, Jordan, Lei, "Learn then Test: Calibrating Predictive
Algorithms to Achieve Risk Control", 2021) by fixed-sequence testing. Candidate thresholds are fixed
beforehand, strictest first, from images that are not tested with (:func:`threshold_grid`). For each
one in turn, "more than `max_risk` of what it accepts is wrong" is tested with the exact binomial;
the first that cannot be refuted ends the search, and the last one refuted is the answer
(:func:`find_threshold`). As the order was fixed, the chance that the answer breaks the promise is
at most 1 − confidence, for any number of images, any trust values and any dependence of errors on
trust; nothing is paid for testing many.

What it needs: the images tested with were drawn like those that come later, independently of each
other, and were used for nothing else (no choice of a rule, a parameter or the candidates). The
promise is about the share of wrong ones among all that is accepted: not about one label, nor about
images of another origin.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.ranking import Ranking, checked
from trustvlm.types.array_input import plain_array, real_array
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.bounds import number, whole

__all__ = [
    "RiskThreshold",
    "find_threshold",
    "risk_upper_bound",
    "risk_upper_bounds",
    "smallest_accepted",
    "threshold_grid",
]

GRID_POINTS = 40
LIKELY = 0.8
MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class RiskThreshold:
    """The loosest threshold that keeps the promise, or why there is none.

    Attributes:
        threshold: accept when trust ≥ this; None: accept nothing.
        max_risk, confidence: the promise.
        images: how many it was tested with.
        accepted, errors: how many of those it accepts, and how many of these are wrong; of the
            strictest candidate when there is no threshold.
        coverage: accepted / images; 0 when there is no threshold.
        risk_bound: exact (Clopper–Pearson) upper bound of the risk at `confidence`, from `errors`
            of `accepted`.
        needed: how many more images to test with would do, with a chance of about 80 %; 0 with a
            threshold; None when more than a million or no number would do, as far as these images
            tell.
        reason: one sentence for people.
    """

    threshold: float | None
    max_risk: float
    confidence: float
    images: int
    accepted: int
    errors: int
    coverage: float
    risk_bound: float
    needed: int | None
    reason: str


def threshold_grid(
    trust: npt.ArrayLike,
    correct: npt.ArrayLike,
    images: int,
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
    points: int = GRID_POINTS,
) -> Float64s:
    """Candidate thresholds for :func:`find_threshold`, strictest first, from images it is not
    given.

    The first is the one most likely to pass as far as these images tell: a stricter one may accept
    too few for a proof even without an error. From there the steps are even in coverage, down to
    the lowest trust seen.

    Args:
        trust: (m,) trust of the tuning images; −inf for an image that is never accepted.
        correct: (m,) bool or 0/1, whether their predictions are right.
        images: how many images :func:`find_threshold` will test with.
        max_risk, confidence: the promise, each within the bounds of :mod:`trustvlm.types.bounds`.
        points: at most this many.

    Returns:
        (g,) finite, strictly descending; empty when no trust is above −inf.

    Raises:
        InvalidInput: no image; NaN; numbers outside their ranges.
    """
    _check_promise(max_risk, confidence)
    whole("images", images)
    whole("points", points)
    ranking = _acceptable(trust, correct)
    total = len(plain_array(trust, "trust"))
    if not len(ranking.trust):
        return np.empty(0)
    accepted, errors = ranking.accepted, ranking.errors
    expected = np.maximum(np.rint(images * accepted / total), 1).astype(np.int64)
    # Half an error in one image more: two right images are no proof of a risk of zero.
    chance = _pass_chance(expected, (errors + 0.5) / (accepted + 1), max_risk, confidence)
    start = int(chance.argmax())
    steps = np.linspace(accepted[start], accepted[-1], points)
    chosen = np.unique(np.searchsorted(accepted, steps - 1e-9))
    return _finite(ranking.trust[chosen])


def find_threshold(
    trust: npt.ArrayLike,
    correct: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
) -> RiskThreshold:
    """The loosest threshold of `grid` whose risk is at most `max_risk` with `confidence`. See the
    module.

    Args:
        trust: (n,) trust of images that chose nothing; −inf for an image that is never accepted
            (unknown, unverified): it counts as not covered, and neither for nor against a
            threshold.
        correct: (n,) bool or 0/1.
        grid: (g,) candidates fixed beforehand, strictly descending (:func:`threshold_grid`).
        max_risk, confidence: the promise, each in (0, 1).

    Raises:
        InvalidInput: no image; NaN; a grid that is not finite and strictly descending; numbers
            outside their ranges.
    """
    _check_promise(max_risk, confidence)
    ranking = _acceptable(trust, correct)
    images = len(plain_array(trust, "trust"))
    candidates = _checked_grid(grid)
    at = np.searchsorted(-ranking.trust, -candidates, side="right")
    accepted = np.concatenate([[0], ranking.accepted])[at]
    errors = np.concatenate([[0], ranking.errors])[at]
    passed = _p_values(accepted, errors, max_risk) <= 1 - confidence
    count = int(passed.argmin()) if not passed.all() else len(passed)
    if not count:
        needed, why = _what_would_do(ranking, images, max_risk, confidence)
        tested = (int(accepted[0]), int(errors[0])) if len(candidates) else (0, 0)
        reason = (
            f"no threshold keeps the risk at or below {max_risk:g} with confidence "
            f"{confidence:g}: {why}"
        )
        bound = risk_upper_bound(*tested, confidence)
        return RiskThreshold(
            None, max_risk, confidence, images, *tested, 0.0, bound, needed, reason
        )
    k, m = int(errors[count - 1]), int(accepted[count - 1])
    promise = f"with confidence {confidence:g} the risk is at most {max_risk:g}"
    reason = f"accepts {m} of {images} images, {k} of them wrong; {promise}"
    bound = risk_upper_bound(m, k, confidence)
    chosen = float(candidates[count - 1])
    return RiskThreshold(chosen, max_risk, confidence, images, m, k, m / images, bound, 0, reason)


def risk_upper_bound(accepted: int, errors: int, confidence: float = 0.9) -> float:
    """Exact (Clopper–Pearson) upper bound of a risk of which `errors` of `accepted` were seen; 1
    when none was accepted."""
    if not 0 <= errors <= accepted:
        raise InvalidInput(f"errors: expected 0 … accepted ({accepted}), got {errors}")
    return float(risk_upper_bounds(np.array([accepted]), np.array([errors]), confidence)[0])


def risk_upper_bounds(accepted: Int64s, errors: Int64s, confidence: float = 0.9) -> Float64s:
    """(n,) the same for n pairs of counts, each bound for itself: not all of them at once with that
    confidence."""
    from scipy.special import betaincinv

    number("confidence", confidence)
    right = accepted - errors
    found: Float64s = np.where(
        right > 0, betaincinv(errors + 1, np.maximum(right, 1), confidence), 1.0
    )
    return found


def smallest_accepted(max_risk: float = 0.05, confidence: float = 0.9) -> int:
    """How many images must be accepted, all of them right, before any threshold can pass: 45 for 5
    % with 90 %."""
    _check_promise(max_risk, confidence)
    closed = int(np.ceil(np.log1p(-confidence) / np.log1p(-max_risk)))
    near = np.arange(
        max(1, closed - 1), closed + 2
    )  # rounding moves the answer by one at most, within the bounds of the two
    passes = _p_values(near, np.zeros(len(near), np.int64), max_risk) <= 1 - confidence
    return int(near[passes.argmax()])


def _p_values(accepted: Int64s, errors: Int64s, max_risk: float) -> Float64s:
    """P(at most that many errors among that many accepted) if the risk were `max_risk`; 1 where
    none is accepted.

    Exact but for the last bits of a float64. One that equals 1 − confidence to the last may
    therefore count as refuted or not; the promise is kept either way.
    """
    from scipy.special import bdtr

    found: Float64s = np.where(
        accepted > 0, bdtr(errors.astype(np.float64), np.maximum(accepted, 1), max_risk), 1.0
    )
    return found


def _errors_that_pass(accepted: Int64s, max_risk: float, confidence: float) -> Int64s:
    """The largest number of errors among that many accepted that still passes; −1 where not even
    none does."""
    low, high = (
        np.full_like(accepted, -1),
        accepted.copy(),
    )  # low passes (none is nobody's), high never does
    while (high - low > 1).any():
        middle = (low + high) // 2
        passes = _p_values(accepted, np.maximum(middle, 0), max_risk) <= 1 - confidence
        low, high = (
            np.where(passes & (middle >= 0), middle, low),
            np.where(passes | (middle < 0), high, middle),
        )
    return low


def _pass_chance(
    accepted: Int64s, risk: Float64s | float, max_risk: float, confidence: float
) -> Float64s:
    """The chance that a threshold passes that accepts so many, if its risk is `risk`."""
    from scipy.special import bdtr

    allowed = _errors_that_pass(accepted, max_risk, confidence)
    found: Float64s = np.where(
        allowed >= 0, bdtr(np.maximum(allowed, 0).astype(np.float64), accepted, risk), 0.0
    )
    return found


def _what_would_do(
    ranking: Ranking, images: int, max_risk: float, confidence: float
) -> tuple[int | None, str]:
    """How many more images, and why. Of every threshold seen, the one that would need the fewest.

    Its risk is the larger of two estimates, as a few images tell little: from these images and as
    many imagined ones as the smallest proof needs, half as often wrong as is allowed; and from
    these and ten of the risk of all of them, for the few most trusted of many wrong ones are right
    by luck.
    """
    none_wrong = smallest_accepted(max_risk, confidence)
    if not len(ranking.trust):
        return None, f"none of {images} images can be accepted at any threshold"
    accepted, errors = ranking.accepted, ranking.errors
    overall = int(errors[-1]) / int(accepted[-1])
    risk = np.maximum(
        (errors + none_wrong * max_risk / 2) / (accepted + none_wrong),
        (errors + 10 * overall) / (accepted + 10),
    )
    # Needs grow with the risk and shrink with the coverage: only the lowest risk of each coverage
    # and above matters.
    best = np.flatnonzero((risk < max_risk) & (risk <= np.minimum.accumulate(risk[::-1])[::-1]))
    best = (
        best[np.unique(np.linspace(0, len(best) - 1, 100).astype(np.int64))] if len(best) else best
    )
    totals = [
        _accepted_that_do(float(risk[i]), max_risk, confidence) * images / int(accepted[i])
        for i in best
    ]
    total = min(totals, default=np.inf)
    few = int(accepted[-1]) < none_wrong
    least = (
        f"about {_rounded(none_wrong):,} images without an error would do; you have "
        f"{images:,} to prove it with"
    )
    if total > images + MOST_IMAGES:
        lowest = int(np.argmin(risk))
        seen = (
            f"{int(errors[lowest])} of the {int(accepted[lowest])} most trusted of {images} "
            f"images are wrong"
        )
        if few:
            return None, least
        if not errors[lowest]:
            return (
                None,
                f"{seen}, and a proof takes about {_rounded(none_wrong):,} that are accepted "
                f"without an error",
            )
        return None, f"{seen}; as far as they tell, no number of images would do"
    needed = max(1, int(np.ceil(total)) - images)
    if few:
        return needed, f"{least}; as far as these tell, about {needed:,} more would do"
    return (
        needed,
        f"{images:,} images are too few for a risk this close to it; about {needed:,} more "
        f"would do",
    )


def _rounded(count: int) -> int:
    """To two digits: 45, 460, 2,300."""
    return int(float(f"{count:.1e}"))


def _accepted_that_do(risk: float, max_risk: float, confidence: float) -> float:
    """How many accepted images let a threshold of that risk pass with a chance of :data:`LIKELY`;
    inf beyond a million.

    The chance goes up in jags: this is the first count on a geometric ladder (steps of 2 %) that
    reaches it.
    """
    first = smallest_accepted(max_risk, confidence)
    ladder = np.unique(
        np.ceil(first * 1.02 ** np.arange(np.log(MOST_IMAGES / first) / np.log(1.02))).astype(
            np.int64
        )
    )
    if not len(ladder):
        return float(first)
    enough = _pass_chance(ladder, risk, max_risk, confidence) >= LIKELY
    return float(ladder[enough.argmax()]) if enough.any() else float("inf")


def _acceptable(trust: npt.ArrayLike, correct: npt.ArrayLike) -> Ranking:
    """The ranking of the predictions whose trust is above −inf; they may be none."""
    values, right = checked(trust, correct)
    kept = values > -np.inf if values.dtype.kind == "f" else np.ones(len(values), np.bool_)
    return Ranking(values[kept], right[kept])


def _finite(thresholds: npt.NDArray[Any]) -> Float64s:
    """Thresholds that JSON can hold: the largest finite number accepts what +inf does, unless that
    very number is a trust."""
    limit = np.finfo(np.float64).max
    found: Float64s = np.clip(thresholds.astype(np.float64), -limit, limit)
    return found[np.append(True, np.diff(found) < 0)] if len(found) else found


def _checked_grid(grid: npt.ArrayLike) -> Float64s:
    candidates = real_array(grid, "grid").astype(np.float64)
    if (
        candidates.ndim != 1
        or not np.isfinite(candidates).all()
        or (np.diff(candidates) >= 0).any()
    ):
        raise InvalidInput(
            "grid: expected (g,) finite thresholds, strictly descending; take them from "
            "threshold_grid"
        )
    return candidates


def _check_promise(max_risk: float, confidence: float) -> None:
    number("max_risk", max_risk)
    number("confidence", confidence)
