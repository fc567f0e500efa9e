"""A threshold that a person chooses, proved or refused (docs/guarantee.md, "A threshold of your
own").

Whoever chooses by looking at the images may choose any threshold, so one exact binomial at the
chosen one proves nothing. A :data:`Range` of thresholds is proved at once: with `confidence`, none
of them has a risk above `max_risk`. Each of these keeps the promise, however it is
chosen. :func:`trustvlm.selective.ranks.find_by_ranks` proves one with all images, for a rule that
they did not choose; :func:`threshold_range` with those that a split left for the proof.

There, images of one part fix the steps of two sequences of tests, which begin at the threshold
most likely to pass: one goes to looser, one to stricter thresholds, each with half of the chance of
error (Bonferroni). Images of the other part test them. A step proves all thresholds between its
ends `low` and `high`: none of them has a larger risk than accepting all images above `high` and of
the others above `low` only those that are wrong. The images that would be accepted in that worst
case are counted with an exact binomial. The first step that fails ends its sequence.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Context

import numpy as np
import numpy.typing as npt

from trustvlm.selective.ranking import Ranking
from trustvlm.selective.risk import (
    RiskThreshold,
    accepted_that_do,
    check_promise,
    counts_at,
    finite_thresholds,
    most_likely,
    passed_first,
    passes,
    ranked,
    risk_upper_bound,
    smallest_proof,
    what_would_do,
)
from trustvlm.types.arrays import Float64s
from trustvlm.types.tables.probability import promise

STEPS = 200
SEQUENCES = 2
"""Sequences of tests of :func:`threshold_range`."""
LOWEST = -float(np.finfo(np.float64).max)
"""The threshold that accepts every trust."""

Range = tuple[float, float]
"""The lowest and the highest threshold."""


def threshold_range(
    tuned_trust: npt.ArrayLike,
    tuned_right: npt.ArrayLike,
    trust: npt.ArrayLike,
    right: npt.ArrayLike,
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
) -> Range | None:
    """The interval of thresholds that are all proved at once; None: not one of them is.

    Args:
        tuned_trust, tuned_right: (m,) of the images that fix the steps. trust, right: (n,) of the
            images that test them, and that nothing else used. −inf: never accepted.

    Raises:
        InvalidInput: no image; NaN; numbers outside their ranges.
    """
    check_promise(max_risk, confidence)
    tuned, total = ranked(tuned_trust, tuned_right)
    tested, images = ranked(trust, right)
    if not len(tuned.trust):
        return None
    sure = _of_each(confidence, SEQUENCES)
    start = most_likely(tuned, total, images, max_risk, sure)
    ladder, start = _ladder(tuned, start)
    accepted, errors = counts_at(tested, ladder)
    at = passes(accepted, errors, max_risk, sure)
    if not at[start]:
        return None
    # Between two candidates in the worst case: all wrong images of the step, none of its right.
    _, above = counts_at(tested, np.nextafter(ladder[1:], np.inf))
    worst = accepted[:-1] + (above - errors[:-1])
    between = passes(worst, above, max_risk, sure)
    down = np.column_stack([between[start:], at[start + 1 :]]).ravel()
    steps, half = divmod(passed_first(down), 2)
    low = ladder[start + steps]
    if half:  # everything down to the next candidate, which itself is not
        low = np.nextafter(ladder[start + steps + 1], np.inf)
    high = ladder[start - passed_first(between[:start][::-1])]
    return float(low), float(high)


def prove_threshold(
    trust: npt.ArrayLike,
    right: npt.ArrayLike,
    proved: Range | None,
    threshold: float,
    *,
    max_risk: float = 0.05,
    confidence: float = 0.9,
    sequences: int = SEQUENCES,
) -> RiskThreshold:
    """The chosen `threshold`, or why it cannot be proved.

    Args:
        trust, right: (n,) of the images that tested the thresholds. proved: the range that they
            proved. sequences: how many sequences of tests share the chance of error, which says how
            many images a proof takes.

    Returns:
        `accepted`, `errors` and `risk_bound` at the chosen threshold, proved or not.
    """
    tested, images = ranked(trust, right)
    counts = counts_at(tested, np.array([threshold]))
    m, k = (int(count[0]) for count in counts)
    bound = risk_upper_bound(m, k, confidence)
    answer = RiskThreshold(None, max_risk, confidence, images, m, k, 0.0, bound, None, "")
    if proved is not None and proved[0] <= threshold <= proved[1]:
        reason = (
            f"accepts {m} of {images} images, {k} of them wrong; this proves that "
            f"{promise(max_risk, confidence)}, as does every threshold {range_in_words(*proved)}"
        )
        return replace(
            answer, threshold=float(threshold), coverage=m / images, needed=0, reason=reason
        )
    sure = _of_each(confidence, sequences)
    needed, why = _refusal(tested, images, threshold, m, k, proved, max_risk, confidence, sure)
    return replace(answer, needed=needed, reason=why)


def _refusal(
    tested: Ranking,
    images: int,
    threshold: float,
    m: int,
    k: int,
    proved: Range | None,
    max_risk: float,
    confidence: float,
    sure: float,
) -> tuple[int | None, str]:
    """How many more images would do (None: no number would), and why it is refused; `sure`: the
    confidence of a single test."""
    seen = _seen(threshold, m, k, max_risk, sure)
    claim = promise(max_risk, confidence)
    if proved is None:
        needed, why = what_would_do(tested, images, max_risk, sure)
        return needed, f"{seen}; no threshold can be shown to prove that {claim}: {why}"
    needed = None
    if m and (risk := (k + 0.5) / (m + 1)) < max_risk:
        total = accepted_that_do(risk, max_risk, sure) * images / m
        needed = max(1, int(np.ceil(total)) - images) if np.isfinite(total) else None
    more = "" if needed is None else f" (about {needed:,} more images would do)"
    return needed, (
        f"{seen}: this does not prove that {claim}{more}. Proved are the thresholds "
        f"{range_in_words(*proved)}"
    )


def _seen(threshold: float, m: int, k: int, max_risk: float, sure: float) -> str:
    """What the images show at a threshold; where they are too few, how many would be enough."""
    share = f" ({100 * k / m:.2g} %)" if k else ""
    are = "is" if k == 1 else "are"
    seen = f"at {threshold:.6g}, {k} of {m} accepted images {are} wrong{share}"
    least = smallest_proof(max_risk, sure, k)
    if m >= least or (m and k / m >= max_risk):
        return seen
    errors = f"with {k} wrong" if k else "without an error"
    return f"{seen}, which are too few ({errors}, a proof takes {least:,} accepted ones)"


def range_in_words(low: float, high: float) -> str:
    """ "from 0.2 to 0.9"; "up to 0.9" where every trust may be accepted. Both numbers are in the
    range, and differ where its ends do."""
    digits = 6
    while True:
        first, last = _rounded(low, digits, ROUND_CEILING), _rounded(high, digits, ROUND_FLOOR)
        if low == LOWEST:
            return f"up to {last:.{digits}g}"
        if first < last or low == high == first == last:
            return f"from {first:.{digits}g} to {last:.{digits}g}"
        digits += 1


def _rounded(number: float, digits: int, rounding: str) -> float:
    return float(Context(prec=digits, rounding=rounding).create_decimal(repr(float(number))))


def _of_each(confidence: float, sequences: int) -> float:
    """The confidence of each of some sequences of tests, which are all right with `confidence`."""
    return 1 - (1 - confidence) / sequences


def _ladder(tuned: Ranking, start: int) -> tuple[Float64s, int]:
    """Candidates, strictest first, and the place among them where both sequences begin.

    At most about :data:`STEPS`, even in coverage; the last one accepts all that can be accepted.
    """
    last = len(tuned.trust) - 1
    even = np.linspace(0, tuned.accepted[-1], STEPS)
    chosen = np.searchsorted(tuned.accepted, even - 1e-9).clip(0, last)
    ladder = finite_thresholds(tuned.trust[np.unique([*chosen.tolist(), start])])
    place = int(np.searchsorted(-ladder, -np.clip(tuned.trust[start], LOWEST, -LOWEST)))
    return (ladder if ladder[-1] == LOWEST else np.append(ladder, LOWEST)), place
