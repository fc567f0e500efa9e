"""A threshold with a promise, proved at the trust values of the calibration images themselves
(docs/guarantee.md, "By ranks"; there is the proof).

The rule is fixed beforehand; no image is set aside. The images are sorted by trust, equal ones by
their content. Down this order goes a sequence of tests: the m-th refutes "of what is trusted more
than image m + 1, more than `max_risk` is wrong" with the exact binomial of the errors among the m
images above. The first test that fails ends the sequence. With `confidence`, every threshold
between its first and its last test that passed keeps the promise, whoever chooses it and why.

The few most trusted images may hold an error by chance, so there are up to three starts
(:func:`starts`), each with an equal part of 1 − `confidence`. A sequence that arrives at a later
start takes over its part (Bretz, Maurer, Brannath and Posch, "A graphical approach to sequentially
rejective multiple test procedures", 2009).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.calibration import shuffled
from trustvlm.selective.chosen_threshold import LOWEST, Range
from trustvlm.selective.ranking import Ranking, checked
from trustvlm.selective.risk import (
    RiskThreshold,
    check_promise,
    passed_first,
    passes,
    proved_or_not,
    smallest_proof,
)
from trustvlm.types.arrays import Float64s, Int64s

_FIRST = 150
_STEP = 1e-6  # more than two engines differ in a probability
_APART = {3: 4.0, 2: 1.6}
"""By the number of starts, how many times as many images the last one has at least as the first:
closer together, they would hold the same errors."""


def find_by_ranks(
    trust: npt.ArrayLike,
    right: npt.ArrayLike,
    keys: Sequence[bytes],
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
    wrong_up_to: npt.ArrayLike | None = None,
) -> tuple[RiskThreshold, Range | None]:
    """The loosest threshold whose risk is at most `max_risk` with `confidence`, and the range of
    those that are proved with it, all at once; None: not one is.

    Args:
        trust: (n,) trust of the images under a rule that they did not choose; −inf for an image
            that is never accepted (unknown, unverified). right: (n,) bool or 0/1.
            wrong_up_to: (n,) where an answer becomes coarser with the threshold, and right: the
                largest threshold at which it is wrong, at most `trust`; −inf: it never is. None:
                `trust` where it is not right.
        keys: (n,) names of the images, such as their content hashes: they order equal trust.

    Raises:
        InvalidInput: no image; NaN; another number of keys; numbers outside their ranges.
    """
    check_promise(max_risk, confidence)
    values, correct = checked(trust, right)
    if len(keys) != len(values):
        raise InvalidInput(f"keys: expected one for each of {len(values)} images, got {len(keys)}")
    kept = np.flatnonzero(values > -np.inf)
    place = np.argsort(shuffled(keys, b"tie"))[kept]
    order = kept[np.lexsort((place, -values[kept].astype(np.float64)))]
    ordered = values[order].astype(np.float64).clip(LOWEST, -LOWEST)
    last_wrong = np.where(correct, -np.inf, values)
    if wrong_up_to is not None:
        last_wrong = np.minimum(np.asarray(wrong_up_to, np.float64), values)
    errors = _errors(ordered, last_wrong[order])
    first, between = starts(len(ordered), max_risk, confidence), None
    finer: tuple[float, int, int] | None = None
    for begin, end, level in _walks(errors, first, max_risk, confidence):
        proved = _proved(ordered, begin, end)
        if proved is not None:
            between = proved
            finer = _finer(ordered, last_wrong[order], end, max_risk, 1 - level)
    answer: tuple[float | None, int, int]
    ranking = Ranking.with_wrong_up_to(ordered, last_wrong[order])
    if between is None:
        answer = None, *_strictest(ranking, first[0])
    elif wrong_up_to is not None and finer is not None:
        answer = finer
    else:
        m = int((ordered >= between[0]).sum())
        answer = _between(ordered, m), m, int(errors[m - 1])
    return proved_or_not(answer, ranking, len(values), max_risk, confidence), between


def _strictest(ranking: Ranking, count: int) -> tuple[int, int]:
    """How many images the strictest threshold accepts that accepts `count` of them or more, all if
    they are fewer, and how many of these are wrong: images of equal trust are accepted together."""
    if not len(ranking.trust):
        return 0, 0
    group = min(int(np.searchsorted(ranking.accepted, count)), len(ranking.trust) - 1)
    return int(ranking.accepted[group]), int(ranking.errors[group])


def _errors(trust: Float64s, last_wrong: Float64s) -> Int64s:
    """(n,) how many of the 1 … n most trusted images are wrong at the threshold that test is about,
    the trust of the next image: `last_wrong` is at or above it.

    Args:
        trust: (n,) descending. last_wrong: (n,) in the same order, each at most the trust.
    """
    threshold = np.append(trust[1:], -np.inf)
    wrong = np.sort(last_wrong[last_wrong > -np.inf])
    errors = len(wrong) - np.searchsorted(wrong, threshold)
    # Images of equal trust that come later are not among those.
    tied = np.append(np.cumsum(last_wrong >= trust), 0)
    ends = np.searchsorted(-trust, -threshold, side="right") - 1
    after = np.where(threshold > -np.inf, tied[ends] - tied[: len(trust)], 0)
    return np.asarray(errors - after, np.int64)


def starts(images: int, max_risk: float, confidence: float) -> list[int]:
    """With how many of the most trusted images the tests begin, ascending: one number, or two or
    three where the images are enough for them to differ.

    The first has a quarter of the images, at most 150, or as many as the smallest proof takes; the
    last has half of them; a third lies between.
    """
    last, quarter = images // 2, min(images // 4, _FIRST)
    for count, apart in _APART.items():
        first = max(smallest_proof(max_risk, 1 - (1 - confidence) / count), quarter)
        if last >= apart * first:
            return [round(number) for number in np.geomspace(first, last, count).tolist()]
    return [max(smallest_proof(max_risk, confidence), quarter)]


def _walks(
    errors: Int64s, first: Sequence[int], max_risk: float, confidence: float
) -> list[tuple[int, int, float]]:
    """The sequences of tests that passed: with how many images each began and ended, and the chance
    of error of its last test.

    Args:
        errors: (n,) wrong ones among the 1 … n most trusted images. first: the starts.
    """
    counts, part = np.arange(1, len(errors) + 1), (1 - confidence) / len(first)
    walks: list[tuple[int, int, float]] = []
    level = 0.0
    for start in first:
        arrived = bool(walks) and walks[-1][1] >= start - 1
        level = level + part if arrived else part
        passed = passes(counts[start - 1 :], errors[start - 1 :], max_risk, 1 - level)
        count = passed_first(passed)
        if count and arrived:
            walks[-1] = (walks[-1][0], start - 1 + count, level)
        elif count:
            walks.append((start, start - 1 + count, level))
    return walks


def _between(trust: Float64s, count: int) -> float:
    """A threshold that accepts the `count` most trusted images: amid the last of these and the
    next, so that rounding changes nothing; the trust of the last one where there is no next."""
    last = float(trust[count - 1])
    if count == len(trust):
        return last
    following = float(trust[count])
    return max(following / 2 + last / 2, float(np.nextafter(following, np.inf)))


def _finer(
    trust: Float64s, last_wrong: Float64s, end: int, max_risk: float, confidence: float
) -> tuple[float, int, int]:
    """The loosest threshold of a sequence of tests that goes on below the trust of image `end` + 1,
    where the answers become finer, and more of them wrong, while the same images are accepted; how
    many images it accepts, and errors among them.

    Args:
        trust: (n,) descending. last_wrong: (n,) see :func:`find_by_ranks`. end: how many images the
            last test that passed was about.
    """
    wrong = np.sort(last_wrong[last_wrong > -np.inf])[::-1]
    accepted = 0 if end == len(trust) else int((trust >= trust[end]).sum())
    if accepted == end + 1:  # of images of equal trust, a test in between has failed
        counts = np.arange(len(wrong) + 1)
        passed = passes(np.full(len(counts), accepted), counts, max_risk, confidence)
        most = passed_first(passed) - 1
        floor = float(trust[accepted]) if accepted < len(trust) else -np.inf
        if most >= 0 and (most == len(wrong) or wrong[most] < trust[end]):
            floor = max(floor, float(wrong[most]) if most < len(wrong) else -np.inf)
            threshold = _just_above(floor, float(trust[end]))
            return threshold, accepted, int((wrong >= threshold).sum())
    floor = float(trust[end]) if end < len(trust) else -np.inf
    threshold = _just_above(floor, float(trust[trust > floor][-1]))  # of equal trust all or none
    return threshold, int((trust >= threshold).sum()), int((wrong >= threshold).sum())


def _just_above(floor: float, ceiling: float) -> float:
    """A number above `floor`, at most `ceiling`, by more than rounding if there is room."""
    if floor == -np.inf:
        return min(0.0, ceiling)
    step = min(_STEP, (ceiling - floor) / 2)
    return min(max(floor + step, float(np.nextafter(floor, np.inf))), ceiling)


def _proved(trust: Float64s, begin: int, end: int) -> Range | None:
    """The thresholds that a sequence of tests proves, which began with the `begin` most trusted
    images and ended with `end` of them; None: it ended among images of equal trust."""
    if begin >= len(trust):
        return None  # no image marks the trust that the first test is about
    high = float(trust[begin])
    low = LOWEST if end == len(trust) else float(np.nextafter(trust[end], np.inf))
    return (low, high) if low <= high else None
