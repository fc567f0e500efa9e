"""The promise by ranks: counts by hand, a direct implementation, and that the promise holds for
every threshold of the range, with ties and with errors among the most trusted."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trustvlm.errors import InvalidInput
from trustvlm.selective.calibration import shuffled
from trustvlm.selective.ranks import find_by_ranks, starts

LOWEST = -float(np.finfo(np.float64).max)


def keys(count: int) -> list[bytes]:
    return [b"%d" % place for place in range(count)]


def test_forty_six_images_without_an_error_are_the_smallest_proof() -> None:
    """Forty-five above the first threshold, and the image that marks it."""
    assert 0.95**45 <= 0.1 < 0.95**44
    for count in (45, 46):
        trust = np.linspace(0.1, 0.9, count)
        found, between = find_by_ranks(trust, np.ones(count, bool), keys(count))
        assert (found.threshold is None, between is None) == (count == 45,) * 2
    assert (found.threshold, found.accepted, found.errors) == (trust[0], 46, 0)
    assert between == (LOWEST, trust[0])
    few, _ = find_by_ranks(trust[:30], np.ones(30, bool), keys(30))
    assert "about 45 accepted images without an error are needed; 30 are available" in few.reason


def test_counts_by_hand() -> None:
    """150 images, the 100 most trusted right, the others wrong: a proof takes more than 102 with 2."""
    trust = np.arange(150.0)
    right = trust >= 50
    found, between = find_by_ranks(trust, right, keys(150))
    assert starts(150, 0.05, 0.9) == [45]
    assert _chance(101, 1) <= 0.1 < _chance(102, 2)
    assert (found.accepted, found.errors, found.images) == (101, 1, 150)
    assert between == (math.nextafter(48.0, math.inf), 104.0), "the 46th image marks the start"
    assert found.threshold == 48.5, "amid the last accepted image and the next"
    assert found.risk_bound <= 0.05
    assert "accepts 101 of 150 images, 1 of them wrong" in found.reason


def test_an_error_among_the_most_trusted_fails_the_first_start_only() -> None:
    trust = np.arange(400.0)[::-1]
    right = np.ones(400, bool)
    right[:2] = False
    assert starts(400, 0.05, 0.9) == [100, 200]
    found, between = find_by_ranks(trust, right, keys(400))
    assert _chance(100, 2) > 0.05 > _chance(200, 2)
    assert (found.accepted, found.errors) == (400, 2)
    assert between == (LOWEST, trust[200])


def test_a_sequence_that_arrives_at_a_later_start_takes_over_its_part() -> None:
    """260 most trusted right, then wrong: each sequence alone would end one error earlier."""
    trust = np.arange(400.0)[::-1]
    right = np.arange(400) < 260
    found, _ = find_by_ranks(trust, right, keys(400))
    errors = found.errors
    assert _chance(260 + errors, errors) <= 0.1 < _chance(261 + errors, errors + 1)
    assert _chance(260 + errors, errors) > 0.05, "half of the chance of error is not enough here"


def _chance(images: int, errors: int) -> float:
    return sum(math.comb(images, k) * 0.05**k * 0.95 ** (images - k) for k in range(errors + 1))


@pytest.mark.parametrize(
    ("images", "expected"),
    [(0, [45]), (188, [47]), (190, [59, 95]), (500, [125, 250]), (2_000, [150, 387, 1_000])],
)
def test_starts(images: int, expected: list[int]) -> None:
    assert starts(images, 0.05, 0.9) == expected


def direct(trust: np.ndarray, right: np.ndarray, max_risk: float) -> tuple[float | None, int]:
    """(threshold, accepted images), one image after the other, with a single start."""
    order = sorted(
        range(len(trust)),
        key=lambda i: (-trust[i], list(shuffled(keys(len(trust)), b"tie")).index(i)),
    )
    (start,) = starts(len(trust), max_risk, 0.8)
    passed = 0
    for count in range(start, len(trust) + 1):
        wrong = sum(not right[i] for i in order[:count])
        terms = (
            math.comb(count, k) * max_risk**k * (1 - max_risk) ** (count - k)
            for k in range(wrong + 1)
        )
        if sum(terms) > 0.2:
            break
        passed = count
    if not passed or start >= len(trust):
        return None, 0
    if passed == len(trust):
        return float(trust.min()), passed
    next_one = trust[order[passed]]
    accepted = trust[trust > next_one]
    return ((accepted.min() + next_one) / 2, len(accepted)) if len(accepted) > start else (None, 0)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), min_size=1, max_size=60))
def test_it_is_the_answer_of_a_direct_implementation(images: list[tuple[int, int]]) -> None:
    trust = np.array([level for level, _ in images], float)
    right = np.array([luck <= level for level, luck in images])
    if len(starts(len(trust), 0.27, 0.8)) > 1:
        return
    found, between = find_by_ranks(trust, right, keys(len(trust)), max_risk=0.27, confidence=0.8)
    threshold, accepted = direct(trust, right, 0.27)
    assert found.threshold == threshold
    if threshold is not None and between is not None:
        assert found.accepted == accepted == int((trust >= threshold).sum())
        assert between[0] <= threshold <= between[1]


def test_the_order_of_the_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    trust, names = rng.integers(0, 9, 300) / 8, keys(300)
    right = rng.random(300) < 0.6 + 0.4 * trust
    right[trust > 0.5] = True
    found = find_by_ranks(trust, right, names)
    assert found[0].threshold is not None
    for _ in range(5):
        order = rng.permutation(300)
        assert found == find_by_ranks(trust[order], right[order], [names[i] for i in order])


def test_images_that_are_never_accepted_and_all_at_one_trust() -> None:
    never, names = np.full(100, -np.inf), keys(200)
    alone, between = find_by_ranks(never, np.ones(100, bool), names[:100])
    assert (alone.threshold, between, alone.needed) == (None, None, None)
    half = np.concatenate([never, np.linspace(0, 1, 100)])
    found, _ = find_by_ranks(half, np.arange(200) >= 100, names)
    assert (found.accepted, found.coverage, found.errors) == (100, 0.5, 0)
    level, between = find_by_ranks(np.ones(100), np.ones(100, bool), names[:100])
    assert (level.threshold, level.accepted, between) == (1.0, 100, (LOWEST, 1.0))
    wrong, between = find_by_ranks(np.ones(100), np.arange(100) < 80, names[:100])
    assert (wrong.threshold, between) == (None, None)
    best, _ = find_by_ranks(np.full(100, np.inf), np.ones(100, bool), names[:100])
    assert best.threshold is not None
    assert math.isfinite(best.threshold)


def test_bad_arguments() -> None:
    with pytest.raises(InvalidInput, match="keys: expected one for each of 2 images, got 1"):
        find_by_ranks([0.5, 0.6], [1, 1], keys(1))
    with pytest.raises(InvalidInput, match="NaN"):
        find_by_ranks([math.nan], [1], keys(1))
    with pytest.raises(InvalidInput, match="confidence"):
        find_by_ranks([0.5], [1], keys(1), confidence=1.0)


def test_more_images_are_estimated_with_the_errors_below_the_strictest_threshold() -> None:
    """Of 1,000 images 95 are wrong, 11 of them among the 150 most trusted: one more is no remedy."""
    rng = np.random.default_rng(0)
    trust = rng.random(1000)
    right = rng.random(1000) > 0.1 * (1 - trust) ** 0.2
    failed, between = find_by_ranks(trust, right, keys(1000))
    assert (failed.threshold, between) == (None, None)
    assert failed.needed is None or failed.needed > 1000
    assert (
        failed == find_by_ranks(trust, right, keys(1000), wrong_up_to=_where_wrong(trust, right))[0]
    )


def test_a_failed_search_counts_all_images_of_equal_trust() -> None:
    """The strictest threshold accepts the 99 images of one trust: its bound is above the promise."""
    trust = np.concatenate([np.ones(99), np.linspace(0, 0.9, 201)])
    right = np.where(np.arange(300) < 99, np.arange(300) >= 7, np.arange(300) % 2 == 0)
    failed, between = find_by_ranks(trust, right, keys(300), max_risk=0.1)
    assert (failed.threshold, between) == (None, None)
    assert (failed.accepted, failed.errors) == (99, 7)
    assert failed.risk_bound > 0.1


def _where_wrong(trust: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.where(right, -np.inf, trust)
