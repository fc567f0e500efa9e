"""trustvlm.selective.risk: counts by hand, brute force, and what must hold for any trust."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy.stats import binom

from trustvlm.errors import InvalidInput
from trustvlm.selective.risk import (
    find_threshold,
    risk_upper_bound,
    smallest_accepted,
    threshold_grid,
)

predictions = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)
promises = st.tuples(st.sampled_from([0.05, 0.2, 0.5]), st.sampled_from([0.5, 0.8, 0.9]))


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([trust for trust, _ in pairs], float), np.array([right for _, right in pairs])


def brute_force(
    trust: np.ndarray, right: np.ndarray, grid: list[float], max_risk: float, confidence: float
) -> set[float | None]:
    """Fixed-sequence testing as the definition has it, in exact fractions of the promise as it is
    written.

    One answer, but where the chance is exactly what is allowed: refuting keeps the promise
    (P(chance ≤ allowed) ≤ allowed), and stopping there keeps it all the more, so a binomial that is
    exact but for its last bits may do either. Nothing else is that near: at these promises and up
    to 40 images, a chance equals what is allowed or is at least 0.06 % off.
    """
    risk, allowed = Fraction(str(max_risk)), 1 - Fraction(str(confidence))
    found: float | None = None
    answers = set()
    for threshold in grid:
        accepted = trust >= threshold
        m, k = int(accepted.sum()), int((accepted & ~right).sum())
        terms = (math.comb(m, i) * risk**i * (1 - risk) ** (m - i) for i in range(k + 1))
        chance = sum(terms, Fraction(0)) if m else Fraction(1)
        if chance > allowed:
            break
        if chance == allowed:
            answers.add(found)
        found = threshold
    return answers | {found}


def test_forty_five_without_an_error_are_the_smallest_proof_of_five_percent() -> None:
    assert 0.95**45 <= 0.1 < 0.95**44
    assert smallest_accepted(0.05, 0.9) == 45
    for images, expected in ((45, 0.5), (44, None)):
        found = find_threshold(np.ones(images), np.ones(images, bool), [0.5])
        assert found.threshold == expected
    assert find_threshold(np.ones(45), np.ones(45, bool), [0.5]).risk_bound == pytest.approx(
        1 - 0.1 ** (1 / 45)
    )


def test_counts_by_hand() -> None:
    trust = np.repeat([0.9, 0.6, 0.3], [50, 30, 20])
    right = np.ones(100, bool)
    right[-15:] = False  # 80 most trusted: none wrong; all: 15 of 100
    found = find_threshold(trust, right, [0.8, 0.5, 0.2])
    assert (found.threshold, found.accepted, found.errors, found.coverage, found.images) == (
        0.5,
        80,
        0,
        0.8,
        100,
    )
    assert found.needed == 0
    assert "80 of 100" in found.reason
    # A sequence ends at its first failure, whatever follows it.
    assert find_threshold(trust, right, [0.95, 0.5]).threshold is None


def test_images_that_may_not_be_accepted_are_not_covered_and_not_counted() -> None:
    trust = np.concatenate([np.ones(50), np.full(50, -np.inf)])
    right = np.concatenate([np.ones(50, bool), np.zeros(50, bool)])
    found = find_threshold(trust, right, [1.0])
    assert (found.threshold, found.accepted, found.errors, found.coverage) == (1.0, 50, 0, 0.5)
    assert find_threshold(np.full(9, -np.inf), np.ones(9, bool), []).needed is None
    assert threshold_grid(np.full(9, -np.inf), np.ones(9, bool), 20).size == 0


@given(predictions, promises, st.lists(st.integers(-4, 4), min_size=1, max_size=6, unique=True))
@example(
    [(0, False)] * 4 + [(0, True)] * 5, (0.5, 0.5), [0]
)  # a chance of one half, and one half is allowed
def test_the_threshold_is_the_one_that_brute_force_finds(
    pairs: list, promise: tuple, levels: list
) -> None:
    trust, right = split(pairs)
    grid = sorted((float(level) for level in levels), reverse=True)
    found = find_threshold(trust, right, grid, max_risk=promise[0], confidence=promise[1])
    assert found.threshold in brute_force(trust, right, grid, *promise)
    if found.threshold is not None:
        assert found.risk_bound <= promise[0] + 1e-9
        assert found.accepted == int((trust >= found.threshold).sum())


@given(predictions, st.randoms(use_true_random=False))
def test_neither_order_nor_a_rising_map_changes_what_is_accepted(
    pairs: list, random: object
) -> None:
    trust, right = split(pairs)
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    kind = {"max_risk": 0.5, "confidence": 0.6}
    grid = threshold_grid(trust, right, 30, **kind)
    np.testing.assert_array_equal(threshold_grid(*split(shuffled), 30, **kind), grid)
    np.testing.assert_array_equal(threshold_grid(np.exp(trust), right, 30, **kind), np.exp(grid))
    found = find_threshold(trust, right, grid, **kind)
    mapped = find_threshold(np.exp(trust), right, np.exp(grid), **kind)
    assert (found.accepted, found.errors, found.needed) == (
        mapped.accepted,
        mapped.errors,
        mapped.needed,
    )
    assert find_threshold(*split(shuffled), grid, **kind) == found


@given(predictions, promises)
def test_a_grid_is_finite_and_strictly_descending_down_to_the_lowest_trust(
    pairs: list, promise: tuple
) -> None:
    trust, right = split(pairs)
    trust[trust == 3] = np.inf
    grid = threshold_grid(trust, right, 50, max_risk=promise[0], confidence=promise[1], points=5)
    assert 1 <= len(grid) <= 5
    assert np.isfinite(grid).all()
    assert (np.diff(grid) < 0).all()
    if np.isfinite(trust).any():
        assert grid[-1] == trust[np.isfinite(trust)].min()


def test_bounds_are_exact() -> None:
    for accepted, errors, confidence in ((45, 0, 0.9), (200, 7, 0.9), (1000, 30, 0.99)):
        bound = risk_upper_bound(accepted, errors, confidence)
        assert binom.cdf(errors, accepted, bound) == pytest.approx(1 - confidence, abs=1e-9)
    assert risk_upper_bound(0, 0) == 1.0
    assert risk_upper_bound(4, 4) == 1.0


def test_without_a_threshold_it_says_how_many_more_would_do() -> None:
    rng = np.random.default_rng(0)
    few = find_threshold(rng.random(30), np.ones(30, bool), [0.0])
    assert few.threshold is None
    assert few.needed is not None
    assert 15 <= few.needed <= 200
    assert str(few.needed) in few.reason
    more = 30 + few.needed
    assert find_threshold(rng.random(more), np.ones(more, bool), [0.0]).threshold == 0.0
    hopeless = find_threshold(np.arange(300.0), np.arange(300) % 2 == 0, [0.5])
    assert hopeless.needed is None
    assert "no number of images would do" in hopeless.reason
    mixed = find_threshold(np.arange(80.0), np.arange(80) >= 57, [60.0])
    assert (mixed.threshold, mixed.needed) == (None, None)
    assert (
        "0 of the 23 most trusted of 80 images are wrong, and a proof takes about 45"
        in mixed.reason
    )


def test_a_promise_is_said_with_all_of_its_digits() -> None:
    found = find_threshold(
        np.arange(9.0), np.ones(9, bool), [0.0], max_risk=1e-6, confidence=0.999999
    )
    assert "at most 0.0001 % of accepted answers are wrong (99.9999 % conf" in found.reason


def test_the_smallest_proof_with_errors_is_the_exact_binomial() -> None:
    for errors, risk, confidence in ((0, 0.05, 0.9), (1, 0.05, 0.9), (7, 0.01, 0.99)):
        least = smallest_accepted(risk, confidence, errors)
        assert binom.cdf(errors, least, risk) <= 1 - confidence
        assert binom.cdf(errors, least - 1, risk) > 1 - confidence
    assert [smallest_accepted(errors=errors) for errors in (0, 1)] == [45, 77]


def test_all_right_all_wrong_and_one_image() -> None:
    all_right = find_threshold(
        np.arange(100.0),
        np.ones(100, bool),
        threshold_grid(np.arange(50.0), np.ones(50, bool), 100),
    )
    assert all_right.coverage == 1.0
    all_wrong = find_threshold(
        np.arange(100.0),
        np.zeros(100, bool),
        threshold_grid(np.arange(50.0), np.zeros(50, bool), 100),
    )
    assert (all_wrong.threshold, all_wrong.coverage, all_wrong.needed) == (None, 0.0, None)
    one = find_threshold([0.5], [True], threshold_grid([0.5], [True], 1))
    assert one.threshold is None
    assert one.needed > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], [0.5]), "at least one"),
        (([0.5], [True, False], [0.5]), "one \\(M,\\) array each"),
        (([math.nan], [True], [0.5]), "NaN"),
        (([0.5], [2], [0.5]), "0/1"),
        (([0.5], [True], [0.5, 0.5]), "strictly descending"),
        (([0.5], [True], [math.inf]), "finite"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        find_threshold(*arguments)


@pytest.mark.parametrize(
    "promise", [{"max_risk": 0.0}, {"max_risk": 1.0}, {"confidence": 1.0}, {"confidence": math.nan}]
)
def test_promises_outside_their_range_are_refused(promise: dict) -> None:
    with pytest.raises(InvalidInput, match=next(iter(promise))):
        find_threshold([0.5], [True], [0.5], **promise)
    with pytest.raises(InvalidInput, match=next(iter(promise))):
        threshold_grid([0.5], [True], 5, **promise)
    with pytest.raises(InvalidInput, match="images"):
        threshold_grid([0.5], [True], 0)
    with pytest.raises(InvalidInput, match="errors"):
        risk_upper_bound(3, 4)
