"""trustvlm.selective.calibration: the split, the choice and the probability map."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from trustvlm.errors import InvalidInput
from trustvlm.selective.calibration import (
    choose_configuration,
    cross_validated_ece,
    fit_probability_map,
    split,
)
from trustvlm.selective.metrics import aurc

predictions = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def keys(n: int) -> list[bytes]:
    return [f"image {i}".encode() for i in range(n)]


def columns(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([trust for trust, _ in pairs], float), np.array([right for _, right in pairs])


@pytest.mark.parametrize(
    ("n", "tuning"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2), (200, 67), (2000, 667)]
)
def test_a_third_is_for_tuning(n: int, tuning: int) -> None:
    first, second = split(keys(n))
    assert (len(first), len(second)) == (tuning, n - tuning)
    assert sorted([*first.tolist(), *second.tolist()]) == list(range(n))
    assert (np.diff(first) > 0).all()
    assert (np.diff(second) > 0).all()


def test_the_content_decides_the_split_not_the_order() -> None:
    hashes = keys(50)
    mine = {hashes[i] for i in split(hashes)[0]}
    backwards = hashes[::-1]
    assert {backwards[i] for i in split(backwards)[0]} == mine
    assert mine != set(hashes[:17])


def test_a_better_configuration_replaces_the_default() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(300) < 0.8
    noise, good = rng.random(300), right + 0.5 * rng.random(300)
    choice = choose_configuration([noise, good, good], [right] * 3, keys(300))
    assert choice.index == 1  # the first of equal ones
    assert choice.means[1] == choice.means[2] < choice.means[0]
    assert (choice.errors > 0).all()


def test_the_default_stays_where_nothing_is_clearly_better() -> None:
    rng = np.random.default_rng(1)
    right = rng.random(200) < 0.8
    trust = right + 2 * rng.random(200)
    assert choose_configuration([trust, np.exp(trust)], [right] * 2, keys(200)).index == 0
    barely = trust.copy()
    barely[np.flatnonzero(~right & (trust > 1))[0]] -= (
        0.9  # better, by one image: within the noise of the folds
    )
    choice = choose_configuration([trust, barely], [right] * 2, keys(200))
    assert choice.means[1] < choice.means[0]
    assert choice.index == 0


def test_the_mean_over_folds_is_that_of_each_fold() -> None:
    choice = choose_configuration([np.array([3.0, 2, 1])], [np.array([True, False, True])], keys(3))
    assert choice.means[0] == pytest.approx(1 / 3)  # three folds of one image each
    assert choice.errors[0] == pytest.approx(math.sqrt(1 / 3) / math.sqrt(3))


def test_one_image_keeps_the_default() -> None:
    for right in (True, False):
        choice = choose_configuration(
            [np.array([0.1]), np.array([-np.inf])], [np.array([right]), np.array([True])], keys(1)
        )
        assert (choice.index, choice.errors.tolist()) == (0, [0.5, 0.5])


@given(predictions, st.randoms(use_true_random=False))
def test_the_choice_does_not_depend_on_the_order_of_the_images(pairs: list, random: object) -> None:
    trust, right = columns(pairs)
    other = np.where(trust > 0, -np.inf, trust)
    names = keys(len(pairs))
    order = list(range(len(pairs)))
    random.shuffle(order)  # type: ignore[attr-defined]
    here = choose_configuration([trust, other], [right, ~right], names)
    there = choose_configuration(
        [trust[order], other[order]], [right[order], ~right[order]], [names[i] for i in order]
    )
    assert here.index == there.index
    np.testing.assert_allclose(here.means, there.means)


def test_the_choice_refuses_what_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="per configuration"):
        choose_configuration([], [], [])
    with pytest.raises(InvalidInput, match="per key"):
        choose_configuration([np.ones(2)], [np.ones(2, bool)], keys(3))
    with pytest.raises(InvalidInput, match="at least one"):
        choose_configuration([np.ones(0)], [np.ones(0, bool)], [])
    with pytest.raises(InvalidInput, match="NaN"):
        choose_configuration([np.array([math.nan, 1.0])], [np.ones(2, bool)], keys(2))


def test_a_map_by_hand() -> None:
    # Blocks: 0 of 4 right, then 4 of 4.
    found = fit_probability_map([1, 2, 3, 4, 11, 12, 13, 14], [0, 0, 0, 0, 1, 1, 1, 1])
    assert found.knots == ((1.0, 0.1), (4.0, 0.1), (11.0, 0.9), (14.0, 0.9))
    assert found([-math.inf, 2, 7.5, 99]) == pytest.approx([0.1, 0.1, 0.5, 0.9])
    # 1 of 1 right below 40 of 41: shrunk, the first would be below its neighbour; wrong order makes
    # one block.
    assert fit_probability_map([2, 1], [0, 1]).knots == ((1.0, 0.5), (2.0, 0.5))
    assert fit_probability_map([0.3], [1]).knots == ((0.3, 0.75),)


def test_shrinking_does_not_turn_the_order_around() -> None:
    # Isotonic: 0 of 1, then 1 of 100. Shrunk: 0.25 and 0.015: one block, 1 of 101.
    trust = np.concatenate([[0.0], np.arange(1.0, 101.0)])
    right = np.zeros(101, bool)
    right[-100] = True
    found = fit_probability_map(trust, right)
    assert found.knots == ((0.0, 1.5 / 102), (100.0, 1.5 / 102))


@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-3, 3), st.sampled_from([math.inf, -math.inf])), st.booleans()
        ),
        min_size=1,
    )
)
def test_a_map_never_falls_and_stays_inside_zero_and_one(pairs: list) -> None:
    found = fit_probability_map(*columns(pairs))
    trust, probability = np.array(found.knots).T
    assert (np.diff(trust) > 0).all()
    assert (np.diff(probability) >= 0).all()
    assert np.isfinite(found.knots).all()
    assert probability.min() > 0
    assert probability.max() < 1
    anywhere = found(np.concatenate([[-np.inf], np.linspace(-5, 5, 101), [np.inf]]))
    assert (np.diff(anywhere) >= -1e-15).all()
    assert fit_probability_map(*columns(pairs[::-1])) == found


def test_a_map_of_many_images_is_the_isotonic_one() -> None:
    rng = np.random.default_rng(0)
    trust = rng.integers(0, 12, 20_000).astype(float)
    right = rng.random(20_000) < 0.3 + 0.05 * trust
    theirs = IsotonicRegression(out_of_bounds="clip").fit(trust, right.astype(float))
    np.testing.assert_allclose(
        fit_probability_map(trust, right)(np.arange(12.0)),
        theirs.predict(np.arange(12.0)),
        atol=1e-3,
    )


def test_all_right_and_all_wrong_are_no_certainty() -> None:
    for right, expected in ((True, 9.5 / 10), (False, 0.5 / 10)):
        found = fit_probability_map(np.arange(9.0), np.full(9, right))
        assert found([4.0]) == pytest.approx([expected])
    assert fit_probability_map([math.inf, -math.inf], [1, 0]).knots == ((0.0, 0.5),)


def test_the_calibration_error_is_that_of_images_left_out() -> None:
    rng = np.random.default_rng(2)
    trust = rng.random(3000)
    right = rng.random(3000) < trust
    found = cross_validated_ece(trust, right)
    assert found is not None
    assert 0 < found < 0.05
    order = rng.permutation(3000)
    assert cross_validated_ece(trust[order], right[order]) == pytest.approx(found)
    coin = cross_validated_ece(rng.random(3000), rng.random(3000) < 0.5)
    assert coin is not None
    assert coin < 0.05  # a map of noise says one half everywhere


def test_too_few_images_have_no_calibration_error() -> None:
    assert cross_validated_ece(np.arange(19.0), np.ones(19, bool)) is None
    assert cross_validated_ece(np.arange(20.0), np.ones(20, bool)) == pytest.approx(
        0.5 / 19
    )  # 18.5 of 19 from 18 right
    with pytest.raises(InvalidInput, match="at least one"):
        cross_validated_ece([], [])
    with pytest.raises(InvalidInput, match="at least one"):
        fit_probability_map([], [])


def test_the_map_keeps_the_ranking() -> None:
    rng = np.random.default_rng(3)
    trust = rng.random(500)
    right = rng.random(500) < trust
    probability = fit_probability_map(trust, right)(trust)
    order = np.argsort(trust)
    assert (np.diff(probability[order]) >= 0).all()
    assert aurc(probability, right) == pytest.approx(aurc(trust, right), abs=0.02)
