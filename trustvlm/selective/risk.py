"""A threshold on the trust with a promise: of what is accepted, at most `max_risk` is wrong, with
`confidence` (docs/rules.md, "Threshold with a promise"; docs/guarantee.md).

Fixed-sequence testing (Angelopoulos et al., "Learn then Test", 2021): :func:`threshold_grid` fixes
candidate thresholds, strictest first, on images that are not tested with; :func:`find_threshold`
tests them in that order with exact binomials. The images tested with must be drawn like those that
come later, independently of each other, and must be used for nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.ranking import Ranking, checked
from trustvlm.types.arrays import Bools, Float64s, Int64s, real_array
from trustvlm.types.bounds import number, whole
from trustvlm.types.tables.probability import promise

GRID_POINTS = 40
LIKELY = 0.8
MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class RiskThreshold:
    """The loosest threshold that keeps the promise, or why there is none.

    Attributes:
        threshold: accept when trust ≥ this; None: accept nothing.
        max_risk, confidence: the promise. images: how many it was tested with.
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
        images: how many images :func:`find_threshold` will test with. points: at most this many.

    Returns:
        (g,) finite, strictly descending; empty when no trust is above −inf.

    Raises:
        InvalidInput: no image; NaN; numbers outside their ranges.
    """
    check_promise(max_risk, confidence)
    whole("images", images)
    whole("points", points)
    ranking, total = ranked(trust, correct)
    if not len(ranking.trust):
        return np.empty(0)
    start, accepted = most_likely(ranking, total, images, max_risk, confidence), ranking.accepted
    steps = np.linspace(accepted[start], accepted[-1], points)
    chosen = np.unique(np.searchsorted(accepted, steps - 1e-9))
    return finite_thresholds(ranking.trust[chosen])


def find_threshold(
    trust: npt.ArrayLike,
    correct: npt.ArrayLike,
    grid: npt.ArrayLike,
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
) -> RiskThreshold:
    """The loosest threshold of `grid` whose risk is at most `max_risk` with `confidence`.

    Args:
        trust: (n,) trust of images that chose nothing; −inf for an image that is never accepted
            (unknown, unverified): it counts as not covered, and neither for nor against a
            threshold.
        correct: (n,) bool or 0/1.
        grid: (g,) candidates fixed beforehand, strictly descending (:func:`threshold_grid`).

    Raises:
        InvalidInput: no image; NaN; a grid that is not finite and strictly descending; numbers
            outside their ranges.
    """
    check_promise(max_risk, confidence)
    ranking, images = ranked(trust, correct)
    candidates = _checked_grid(grid)
    accepted, errors = counts_at(ranking, candidates)
    passed = passes(accepted, errors, max_risk, confidence)
    count = passed_first(passed)
    place = max(count, 1) - 1
    m, k = (int(accepted[place]), int(errors[place])) if len(candidates) else (0, 0)
    answer = float(candidates[place]) if count else None, m, k
    return proved_or_not(answer, ranking, images, max_risk, confidence)


def proved_or_not(
    answer: tuple[float | None, int, int],
    ranking: Ranking,
    images: int,
    max_risk: float,
    confidence: float,
) -> RiskThreshold:
    """What a search for a threshold found, with the reason in words.

    Args:
        answer: the threshold, None for none; how many images it, or the strictest candidate,
            accepts, and how many of these are wrong. ranking: of the images that may be accepted.
        images: how many there are in all.
    """
    threshold, m, k = answer
    bound = risk_upper_bound(m, k, confidence)
    if threshold is not None:
        proved = f"this proves that {promise(max_risk, confidence)}"
        reason = f"accepts {m} of {images} images, {k} of them wrong; {proved}"
        return RiskThreshold(
            threshold, max_risk, confidence, images, m, k, m / images, bound, 0, reason
        )
    needed, why = what_would_do(ranking, images, max_risk, confidence)
    reason = f"no threshold proves that {promise(max_risk, confidence)}: {why}"
    return RiskThreshold(None, max_risk, confidence, images, m, k, 0.0, bound, needed, reason)


def most_likely(tuned: Ranking, total: int, images: int, max_risk: float, confidence: float) -> int:
    """The place of the threshold most likely to pass, as far as `total` tuning images tell, in a
    test with `images` others."""
    accepted, errors = tuned.accepted, tuned.errors
    expected = np.maximum(np.rint(images * accepted / total), 1).astype(np.int64)
    # Half an error in one image more: two right images are no proof of a risk of zero.
    chance = _pass_chance(expected, (errors + 0.5) / (accepted + 1), max_risk, confidence)
    return int(chance.argmax())


def counts_at(ranking: Ranking, thresholds: Float64s) -> tuple[Int64s, Int64s]:
    """How many images each of the thresholds accepts, and how many of these are wrong."""
    at = np.searchsorted(-ranking.trust, -thresholds, side="right")
    return (np.concatenate([[0], ranking.accepted])[at], np.concatenate([[0], ranking.errors])[at])


def risk_upper_bound(accepted: int, errors: int, confidence: float = 0.9) -> float:
    """Exact (Clopper–Pearson) upper bound of a risk when `errors` of `accepted` were seen; 1
    when none was accepted."""
    if not 0 <= errors <= accepted:
        raise InvalidInput(f"errors: expected 0 … accepted ({accepted}), got {errors}")
    return float(risk_upper_bounds(np.array([accepted]), np.array([errors]), confidence)[0])


def risk_upper_bounds(accepted: Int64s, errors: Int64s, confidence: float = 0.9) -> Float64s:
    """(n,) :func:`risk_upper_bound` of n pairs of counts, each for itself: not all of them at once
    with that confidence."""
    from scipy.special import betaincinv

    number("confidence", confidence)
    right = accepted - errors
    bounds: Float64s = betaincinv(errors + 1, np.maximum(right, 1), confidence)
    return np.where(right > 0, bounds, 1.0)


def smallest_accepted(max_risk: float = 0.05, confidence: float = 0.9, errors: int = 0) -> int:
    """How many images must be accepted, `errors` of them wrong, before a threshold can pass: 45
    without an error for 5 % with 90 %, 77 with one."""
    check_promise(max_risk, confidence)
    return smallest_proof(max_risk, confidence, errors)


def smallest_proof(max_risk: float, confidence: float, errors: int = 0) -> int:
    """:func:`smallest_accepted` at the confidence of one of several tests, which may be above the
    largest that a promise may have."""
    if errors:
        return _smallest_with(errors, max_risk, confidence)
    closed = int(np.ceil(np.log1p(-confidence) / np.log1p(-max_risk)))
    # Rounding moves the answer by one at most, within the bounds of the two.
    counts = np.arange(max(1, closed - 1), closed + 2)
    passed = passes(counts, np.zeros(len(counts), np.int64), max_risk, confidence)
    return int(counts[passed.argmax()])


def _smallest_with(errors: int, max_risk: float, confidence: float) -> int:
    """:func:`smallest_accepted` by bisection: the more images with these errors, the lower the
    bound of the risk."""
    wrong = np.array([errors])
    low, high = errors, errors + 1
    while not passes(np.array([high]), wrong, max_risk, confidence)[0]:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        good = passes(np.array([middle]), wrong, max_risk, confidence)[0]
        low, high = (low, middle) if good else (middle, high)
    return high


def passes(accepted: Int64s, errors: Int64s, max_risk: float, confidence: float) -> Bools:
    """Whether "the risk is above `max_risk`" is refuted by the exact binomial.

    Exact but for the last bits of a float64: a chance that equals 1 − confidence to the last bit
    may count either way, which keeps the promise.
    """
    from scipy.special import bdtr

    chance = bdtr(errors.astype(np.float64), np.maximum(accepted, 1), max_risk)
    passed: Bools = (accepted > 0) & (chance <= 1 - confidence)
    return passed


def passed_first(passed: Bools) -> int:
    """How many tests of a sequence pass before the first that fails."""
    return len(passed) if passed.all() else int(passed.argmin())


def _pass_chance(
    accepted: Int64s, risk: Float64s | float, max_risk: float, confidence: float
) -> Float64s:
    """The chance that a threshold passes that accepts this many images, if its risk is `risk`."""
    from scipy.special import bdtr, bdtrik

    possible = passes(accepted, np.zeros_like(accepted), max_risk, confidence)
    # The most errors that pass, about: the inverse of the binomial is not exact to the last error.
    allowed = np.floor(np.where(possible, bdtrik(1 - confidence, accepted, max_risk), 0.0))
    chance: Float64s = np.where(possible, bdtr(allowed, accepted, risk), 0.0)
    return chance


def what_would_do(
    ranking: Ranking, images: int, max_risk: float, confidence: float
) -> tuple[int | None, str]:
    """How many more images would do, and why. Of every threshold seen, the one that needs the
    fewest counts.

    Its risk is the larger of two estimates, as a few images tell little: from these images and as
    many imagined ones as the smallest proof needs, half as often wrong as is allowed; and from
    these and ten of the risk of all of them, for the few most trusted of many wrong ones are right
    by luck.
    """
    fewest = smallest_proof(max_risk, confidence)
    if not len(ranking.trust):
        return None, f"none of {images} images can be accepted at any threshold"
    accepted, errors = ranking.accepted, ranking.errors
    risk = np.maximum(
        (errors + fewest * max_risk / 2) / (accepted + fewest),
        (errors + 10 * errors[-1] / accepted[-1]) / (accepted + 10),
    )
    # Needs grow with the risk and shrink with the coverage: the lowest risk of each coverage and
    # above matters.
    best = np.flatnonzero((risk < max_risk) & (risk <= np.minimum.accumulate(risk[::-1])[::-1]))
    some = np.unique(np.linspace(0, len(best) - 1, 100).astype(np.int64)) if len(best) else best
    total = min(
        (
            accepted_that_do(float(risk[i]), max_risk, confidence) * images / int(accepted[i])
            for i in best[some]
        ),
        default=np.inf,
    )
    needed = max(1, int(np.ceil(total)) - images) if total <= images + MOST_IMAGES else None
    if accepted[-1] < fewest:
        least = f"about {_rounded(fewest):,} accepted images without an error are needed"
        why = f"{least}; {images:,} are available for the proof"
        if needed is not None:
            why += f"; as far as these tell, about {needed:,} more would do"
        return needed, why
    if needed is not None:
        few = f"{images:,} images are too few for a risk this close to it"
        return needed, f"{few}; about {needed:,} more would do"
    low = int(np.argmin(risk))
    of = f"the {accepted[low]} most trusted of {images} images are wrong"
    if errors[low]:
        return None, f"{errors[low]} of {of}; as far as they tell, no number of images would do"
    proof = f"a proof takes about {_rounded(fewest):,} that are accepted without an error"
    return None, f"0 of {of}, and {proof}"


def _rounded(count: int) -> int:
    """To two digits: 45, 460, 2,300."""
    return int(float(f"{count:.1e}"))


def accepted_that_do(risk: float, max_risk: float, confidence: float) -> float:
    """How many accepted images let a threshold of that risk pass with a chance of :data:`LIKELY`;
    inf beyond a million.

    The chance goes up in jags: this is the first count on a geometric ladder (steps of 2 %) that
    reaches it.
    """
    first = smallest_proof(max_risk, confidence)
    steps = np.arange(np.log(MOST_IMAGES / first) / np.log(1.02))
    if not len(steps):
        return float(first)
    ladder = np.unique(np.ceil(first * 1.02**steps).astype(np.int64))
    enough = _pass_chance(ladder, risk, max_risk, confidence) >= LIKELY
    return float(ladder[enough.argmax()]) if enough.any() else float("inf")


def ranked(trust: npt.ArrayLike, correct: npt.ArrayLike) -> tuple[Ranking, int]:
    """The ranking of the predictions whose trust is above −inf, which may be none; how many there
    are in all."""
    values, right = checked(trust, correct)
    kept = values > -np.inf if values.dtype.kind == "f" else np.ones(len(values), np.bool_)
    return Ranking(values[kept], right[kept]), len(values)


def finite_thresholds(thresholds: npt.NDArray[Any]) -> Float64s:
    """Thresholds that JSON can hold: the largest finite number accepts what +inf does, unless that
    very number is a trust."""
    limit = np.finfo(np.float64).max
    clipped: Float64s = np.clip(thresholds.astype(np.float64), -limit, limit)
    return clipped[np.append(True, np.diff(clipped) < 0)] if len(clipped) else clipped


def _checked_grid(grid: npt.ArrayLike) -> Float64s:
    candidates = real_array(grid, "grid").astype(np.float64)
    descending = candidates.ndim == 1 and not (np.diff(candidates) >= 0).any()
    if not descending or not np.isfinite(candidates).all():
        raise InvalidInput(
            "grid: expected (g,) finite thresholds, strictly descending; take them from "
            "threshold_grid"
        )
    return candidates


def check_promise(max_risk: float, confidence: float) -> None:
    number("max_risk", max_risk)
    number("confidence", confidence)
