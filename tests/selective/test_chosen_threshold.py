"""A threshold that a person chooses by looking: counts by hand, and that the promise holds whatever
is chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.guarantee import allowed, by_ranks, draws, worst_between
from benchmarks.populations import Population, synthetic
from trustvlm.errors import InvalidInput
from trustvlm.selective.calibration import split
from trustvlm.selective.chosen_threshold import (
    LOWEST,
    prove_threshold,
    range_in_words,
    threshold_range,
)
from trustvlm.selective.risk import find_threshold, threshold_grid

RNG = np.random.default_rng(3)


def two_levels(high: int, low: int, wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """`high` right images of trust 0.9, `low` of trust 0.3 down to 0.2, of which the last `wrong` are wrong."""
    trust = np.concatenate([np.full(high, 0.9), np.linspace(0.3, 0.2, low)])
    right = np.ones(high + low, bool)
    right[-wrong:] = wrong == 0
    return trust, right


def test_fifty_nine_without_an_error_are_the_smallest_proof() -> None:
    """Each of the two sequences has half of the 10 %."""
    assert 0.95**59 <= 0.05 < 0.95**58
    tuned = np.full(30, 0.9), np.ones(30, bool)
    for images, expected in ((59, 0.9), (58, None)):
        found = threshold_range(*tuned, np.full(images, 0.9), np.ones(images, bool))
        assert (None if found is None else found[1]) == expected


def test_what_is_proved_and_why_the_rest_is_not() -> None:
    tuned, tested = two_levels(60, 40, 20), two_levels(120, 80, 40)
    proved = threshold_range(*tuned, *tested)
    assert proved is not None
    low, high = proved
    assert (0.23 < low < 0.25, high) == (True, 0.9), "errors begin below 0.25"
    kept = prove_threshold(*tested, proved, 0.5)
    assert (kept.threshold, kept.accepted, kept.errors, kept.coverage) == (0.5, 120, 0, 0.6)
    assert "accepts 120 of 200 images, 0 of them wrong" in kept.reason
    below = prove_threshold(*tested, proved, 0.2)
    assert (below.threshold, below.accepted, below.errors, below.coverage) == (None, 200, 40, 0.0)
    assert below.reason.startswith(
        "at 0.2, 40 of 200 accepted images are wrong (20 %): this does not prove that at most 5 %"
    )
    assert f"Proved are the thresholds from {low:.6g} to 0.9" in below.reason
    above = prove_threshold(*tested, proved, 0.95)
    assert above.threshold is None
    assert above.reason.startswith(
        "at 0.95, 0 of 0 accepted images are wrong, which are too few (without an error, a proof "
        "takes 59 accepted ones)"
    )
    trust, right = np.full(60, 0.9), np.arange(60) > 0
    one = prove_threshold(trust, right, (0.95, 0.99), 0.9)
    assert one.reason.startswith(
        "at 0.9, 1 of 60 accepted images is wrong (1.7 %), which are too few (with 1 wrong, a "
        "proof takes 93 accepted ones): this does not prove that at most 5 %"
    )
    few = prove_threshold(np.full(20, 0.9), np.ones(20, bool), None, 0.5)
    assert few.threshold is None
    assert "no threshold can be shown" in few.reason
    assert few.needed


def test_images_that_are_never_accepted_and_bad_arguments() -> None:
    never = np.full(5, -np.inf), np.ones(5, bool)
    assert threshold_range(*never, *never) is None
    with pytest.raises(InvalidInput, match="max_risk"):
        threshold_range(*never, *never, max_risk=0.0)
    with pytest.raises(InvalidInput, match="NaN"):
        threshold_range([0.5, float("nan")], [1, 1], [0.5], [1])


pairs = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=120)


@given(pairs, pairs)
def test_every_threshold_of_the_range_passes_by_itself(
    first: list[tuple[int, bool]], second: list[tuple[int, bool]]
) -> None:
    """The range is never larger than what one exact binomial at each threshold would prove."""
    (trust, right), (tested, correct) = (
        (np.array([t for t, _ in part], float), np.array([r for _, r in part]))
        for part in (first, second)
    )
    proved = threshold_range(trust, right, tested, correct, max_risk=0.3, confidence=0.8)
    if proved is None:
        return
    low, high = proved
    for threshold in {low, high, *tested[(tested >= low) & (tested <= high)].tolist()}:
        alone = find_threshold(tested, correct, [threshold], max_risk=0.3, confidence=0.9)
        assert alone.threshold == threshold


def broken(people: Population, n: int, repeats: int) -> tuple[float, float, float]:
    """How often any threshold of the range breaks the promise; mean coverage of its lowest, and of
    the threshold that a calibration chooses itself."""
    trust, right = people.trust[0], people.right[0]
    bad, mine, theirs = 0, [], []
    for rows in draws(people, n, repeats):
        first, second = (rows[part] for part in split([b"%d" % i for i in range(n)]))
        tuned, tested = (trust[first], right[first]), (trust[second], right[second])
        proved = threshold_range(*tuned, *tested)
        bad += proved is not None and worst_between(people, *proved)[1] > people.max_risk
        mine.append(0.0 if proved is None else float((trust >= proved[0]).mean()))
        auto = find_threshold(*tested, threshold_grid(*tuned, len(second))).threshold
        theirs.append(0.0 if auto is None else float((trust >= auto).mean()))
    return bad / repeats, float(np.mean(mine)), float(np.mean(theirs))


@given(st.floats(-10, 10), st.integers(0, 18))
def test_the_range_in_words_can_be_typed(low: float, places: int) -> None:
    """Both ends are in the range, and differ where it has more than one threshold."""
    high = low + 10.0**-places
    word, first, between, last = range_in_words(low, high).split()
    assert (word, between) == ("from", "to")
    assert low <= float(first) <= float(last) <= high
    assert (float(first) == float(last)) == (low == high)
    assert range_in_words(0.2, 0.9) == "from 0.2 to 0.9"
    assert range_in_words(LOWEST, 0.9999999) == "up to 0.999999"


def test_the_promise_holds_whatever_is_chosen_in_short() -> None:
    people = next(one for one in synthetic() if one.name == "overconfident top")
    share, _, _ = broken(people, 500, 60)
    assert share <= allowed(60)
    worst = [by_ranks(people, rows)[1][1] for rows in draws(people, 500, 60)]
    assert np.mean(np.array(worst) > people.max_risk) <= allowed(60)


@pytest.mark.slow
@pytest.mark.parametrize("people", synthetic(), ids=lambda people: people.name)
@pytest.mark.parametrize("n", [200, 500, 2_000])
def test_the_promise_holds_whatever_is_chosen(people: Population, n: int) -> None:
    """Even the worst threshold of the range, chosen by one who knows the truth, breaks the promise
    in no more than 10 % of the calibrations; and choosing costs little with many images."""
    share, mine, theirs = broken(people, n, 500)
    assert share <= allowed(500)
    worst = [by_ranks(people, rows)[1][1] for rows in draws(people, n, 500)]
    assert np.mean(np.array(worst) > people.max_risk) <= allowed(500)
    if n == 2_000:
        assert mine > theirs - 0.08
