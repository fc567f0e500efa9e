"""trustvlm.selective.monitoring: capital by hand, no false alarms however often one looks, and
quick true ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustvlm.errors import InvalidInput
from trustvlm.selective.monitoring import STAKES, log_capital, monitor

streams = st.lists(st.booleans(), max_size=60)


def capital(errors: list[bool], max_risk: float) -> list[float]:
    """The capital after each item, bet by bet: half from the first item on; of the other half
    another part after each error."""
    purses = np.full(len(STAKES), 0.5 / len(STAKES))
    kept = 0.5
    found, seen = [1.0], 0
    for wrong in errors:
        purses = purses * (1 - STAKES + STAKES / max_risk * wrong)
        found.append(float(purses.sum()) + kept)
        if wrong:
            seen += 1
            left = 0.5 * math.log(10) / math.log(10 + seen)
            purses += (kept - left) / len(STAKES)
            kept = left
    return found


@given(streams, st.sampled_from([0.02, 0.05, 0.3, 0.9]), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_capital_is_that_of_every_single_bet(
    errors: list[bool], max_risk: float, alpha: float
) -> None:
    found, by_hand = monitor(errors, max_risk, alpha), capital(errors, max_risk)
    assert found.e_value == pytest.approx(by_hand[-1])
    assert found.largest == pytest.approx(max(by_hand))
    over = [i for i, value in enumerate(by_hand) if value >= 1 / alpha]
    assert found.broken == bool(over)
    assert found.broken_after == (over[0] if over else None)
    assert (found.items, found.errors) == (len(errors), sum(errors))
    # What is ruled out is exactly what would have been called broken.
    if 0 < found.risk_low < 0.999:
        assert monitor(errors, found.risk_low, alpha).broken
        assert not monitor(errors, found.risk_low + 1e-5, alpha).broken
    assert (
        found.broken == (found.risk_low >= max_risk - 1e-5) or abs(found.risk_low - max_risk) < 2e-5
    )


@given(streams, st.booleans())
def test_the_bound_and_the_verdict_never_go_back(errors: list[bool], more: bool) -> None:
    before, after = monitor(errors, 0.05), monitor([*errors, more], 0.05)
    assert after.risk_low >= before.risk_low
    assert after.largest >= before.largest
    if before.broken:
        assert after.broken_after == before.broken_after


def test_a_bet_is_fair_when_the_promise_is_just_kept() -> None:
    assert pytest.approx(np.ones(len(STAKES))) == 0.95 * (1 - STAKES) + 0.05 * (
        1 - STAKES + STAKES / 0.05
    )


def test_looking_after_every_item_raises_no_false_alarm() -> None:
    rng = np.random.default_rng(0)
    runs = [monitor(rng.random(1000) < 0.05, 0.05, 0.1) for _ in range(200)]
    assert np.mean([run.broken for run in runs]) <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 200)
    assert np.mean([run.risk_low > 0.05 for run in runs]) <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 200)


@pytest.mark.slow  # by default: test_looking_after_every_item_raises_no_false_alarm
def test_errors_that_come_in_clumps_raise_no_false_alarm_either() -> None:
    """The chance of an error follows the last one, but given all before it never exceeds the
    promise."""
    rng = np.random.default_rng(1)
    broken = []
    for _ in range(200):
        wrong = [False]
        for draw in rng.random(500):
            wrong.append(bool(draw < (0.05 if wrong[-1] or rng.random() < 0.5 else 0.02)))
        broken.append(monitor(wrong, 0.05, 0.1).broken)
    assert np.mean(broken) <= 0.1 + 2 * math.sqrt(0.1 * 0.9 / 200)


@pytest.mark.parametrize("good", [pytest.param(0.0, marks=pytest.mark.slow), 0.025])
@pytest.mark.parametrize(
    ("before", "items"), [(0, 220), (2_000, 487), pytest.param(5_000, 566, marks=pytest.mark.slow)]
)
def test_a_doubled_risk_is_found_soon_however_much_was_good_before(
    before: int, items: int, good: float
) -> None:
    rng = np.random.default_rng(4)
    after = []
    for _ in range(201):
        stream = np.concatenate([rng.random(before) < good, rng.random(4_000) < 0.1])
        places = np.flatnonzero(stream) + 1
        over = log_capital(places, 0.05) >= math.log(20)
        after.append((places[over.argmax()] if over.any() else before + 4_001) - before)
    assert np.median(after) <= items
    assert monitor(stream, 0.05).broken_after == after[-1] + before


@pytest.mark.parametrize(
    "risk", [0.05, *(pytest.param(r, marks=pytest.mark.slow) for r in (0.01, 0.2))]
)
@pytest.mark.parametrize("share", [1.0, pytest.param(0.9, marks=pytest.mark.slow)])
def test_looking_at_each_of_many_items_raises_no_false_alarm(risk: float, share: float) -> None:
    rng = np.random.default_rng(5)
    streams = (np.flatnonzero(rng.random(5_000) < share * risk) + 1 for _ in range(400))
    broken = [(log_capital(places, risk) >= math.log(20)).any() for places in streams]
    assert np.mean(broken) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


@pytest.mark.parametrize(("risk", "items"), [(0.1, 600), (0.2, 80), (0.5, 20)])
def test_a_broken_promise_is_found_soon(risk: float, items: int) -> None:
    rng = np.random.default_rng(2)
    after = [monitor(rng.random(1000) < risk, 0.05).broken_after or 1001 for _ in range(20)]
    assert np.median(after) <= items


@pytest.mark.slow  # by default: test_looking_after_every_item_raises_no_false_alarm
def test_the_bound_comes_close_to_the_risk_and_rarely_passes_it() -> None:
    bounds = np.array(
        [
            monitor(np.random.default_rng(seed).random(20_000) < 0.1, 0.05).risk_low
            for seed in range(8)
        ]
    )
    assert bounds.min() > 0.085
    assert np.mean(bounds > 0.1) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 8)


def test_nothing_seen_all_right_and_all_wrong() -> None:
    empty = monitor([], 0.05)
    assert (empty.items, empty.e_value, empty.largest, empty.broken, empty.broken_after,
    empty.risk_low) == (
        0, 1.0, 1.0, False, None, 0.0,
    )  # fmt: skip
    right = monitor([False] * 1000, 0.05)
    assert right.e_value < 0.6, "half of the capital waits"
    assert (right.largest, right.broken, right.risk_low) == (1.0, False, 0.0)
    wrong = monitor([True] * 5000, 0.05)
    assert wrong.broken_after <= 3
    assert math.isfinite(wrong.e_value)
    assert wrong.risk_low > 0.99
    assert not monitor([True], 0.05).broken


@pytest.mark.parametrize(
    "bad",
    [{"max_risk": 0.0}, {"max_risk": 1.0}, {"max_risk": math.nan}, {"alpha": 0.0}, {"alpha": 1.0}],
)
def test_numbers_outside_their_range_are_refused(bad: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        monitor([True], **({"max_risk": 0.05} | bad))


@pytest.mark.parametrize("errors", [[2], [[True]], [math.nan], ["yes"]])
def test_errors_that_are_no_errors_are_refused(errors: list) -> None:
    with pytest.raises(InvalidInput, match="errors: expected"):
        monitor(errors, 0.05)
