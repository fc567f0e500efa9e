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
    passes,
    proved_or_not,
    smallest_accepted,
)
from trustvlm.types.arrays import Float64s, Int64s

__all__ = ["find_by_ranks", "starts"]

_FIRST = 150
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
) -> tuple[RiskThreshold, Range | None]:
    """The loosest threshold whose risk is at most `max_risk` with `confidence`, and the range of
    those that are proved with it, all at once; None: not one is.

    Args:
        trust: (n,) trust of the images under a rule that they did not choose; −inf for an image
            that is never accepted (unknown, unverified). right: (n,) bool or 0/1.
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
    errors = np.cumsum(~correct[order], dtype=np.int64)
    first, between = starts(len(ordered), max_risk, confidence), None
    for begin, end in _walks(errors, first, max_risk, confidence):
        between = _proved(ordered, begin, end) or between
    ranking = Ranking(values[kept], correct[kept])
    if between is None:
        threshold, m = None, min(first[0], len(ordered))
    else:
        m = int((ordered >= between[0]).sum())
        threshold = _between(ordered, m)
    answer = threshold, m, int(errors[m - 1]) if m else 0
    return proved_or_not(answer, ranking, len(values), max_risk, confidence), between


def starts(images: int, max_risk: float, confidence: float) -> list[int]:
    """With how many of the most trusted images the tests begin, ascending: one number, or two or
    three where the images are enough for them to differ.

    The first has a quarter of the images, at most 150, or as many as the smallest proof takes; the
    last has half of them; a third lies between.
    """
    last, quarter = images // 2, min(images // 4, _FIRST)
    for count, apart in _APART.items():
        first = max(smallest_accepted(max_risk, 1 - (1 - confidence) / count), quarter)
        if last >= apart * first:
            return [round(number) for number in np.geomspace(first, last, count).tolist()]
    return [max(smallest_accepted(max_risk, confidence), quarter)]


def _walks(
    errors: Int64s, first: Sequence[int], max_risk: float, confidence: float
) -> list[tuple[int, int]]:
    """The sequences of tests that passed: with how many images each began and ended.

    Args:
        errors: (n,) wrong ones among the 1 … n most trusted images. first: the starts.
    """
    counts, part = np.arange(1, len(errors) + 1), (1 - confidence) / len(first)
    walks: list[tuple[int, int]] = []
    level = 0.0
    for start in first:
        arrived = bool(walks) and walks[-1][1] >= start - 1
        level = level + part if arrived else part
        passed = passes(counts[start - 1 :], errors[start - 1 :], max_risk, 1 - level)
        count = len(passed) if passed.all() else int(passed.argmin())
        if count and arrived:
            walks[-1] = (walks[-1][0], start - 1 + count)
        elif count:
            walks.append((start, start - 1 + count))
    return walks


def _between(trust: Float64s, count: int) -> float:
    """A threshold that accepts the `count` most trusted images: amid the last of these and the
    next, so that rounding changes nothing; the trust of the last one where there is no next."""
    last = float(trust[count - 1])
    if count == len(trust):
        return last
    following = float(trust[count])
    return max(following / 2 + last / 2, float(np.nextafter(following, np.inf)))


def _proved(trust: Float64s, begin: int, end: int) -> Range | None:
    """The thresholds that a sequence of tests proves, which began with the `begin` most trusted
    images and ended with `end` of them; None: it ended among images of equal trust."""
    if begin >= len(trust):
        return None  # no image marks the trust that the first test is about
    high = float(trust[begin])
    low = LOWEST if end == len(trust) else float(np.nextafter(trust[end], np.inf))
    return (low, high) if low <= high else None
