"""Intervals of an evaluation hold the truth as often as they say, on few images too, or say why
there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from benchmarks.intervals import METRICS, NAMES, held, populations
from trustvlm import Queries
from trustvlm.selective.intervals import (
    accuracy_interval,
    aurc_difference_interval,
    aurc_interval,
    auroc_interval,
    coverage_at_risk_interval,
    fpr_at_tpr_interval,
    proportion_interval,
    risk_at_coverage_interval,
)
from trustvlm.selective.metrics import aurc, auroc, coverage_at_risk, fpr_at_tpr, risk_at_coverage
from trustvlm.types.evaluation import Evaluation

POPULATIONS = {population.name: population for population in populations()}
PAIRS = {
    aurc: aurc_interval,
    auroc: auroc_interval,
    fpr_at_tpr: fpr_at_tpr_interval,
    lambda trust, right: risk_at_coverage(trust, right, 0.8): risk_at_coverage_interval,
    lambda trust, right: coverage_at_risk(trust, right, 0.05): coverage_at_risk_interval,
}


def require_held(name: str, images: int, draws: int) -> None:
    """No metric's interval misses the truth in more than 5 % of the samples, but for what the
    simulation itself is off by."""
    margin = 0.01 + 3 * math.sqrt(0.05 * 0.95 / draws)
    for metric, found in held(POPULATIONS[name], images, draws).items():
        if found["with_interval"] > 0.2:
            assert found["held"] >= 0.95 - margin, (metric, images, found)


@pytest.mark.parametrize("name", ["10 % wrong, AUROC 0.90", "eight levels"])
@pytest.mark.parametrize("images", [30, pytest.param(100, marks=pytest.mark.slow)])
def test_intervals_hold_the_truth(name: str, images: int) -> None:
    require_held(name, images, draws=80)


def test_fpr95_where_many_share_the_trust_at_the_threshold() -> None:
    rng = np.random.default_rng(2)
    right = rng.random(100_000) < 0.9
    trust = np.round(1.145 * right + rng.standard_normal(len(right)))
    truth = fpr_at_tpr(trust, right)
    assert (trust[right] >= 0).mean() == pytest.approx(
        0.95, abs=2e-3
    )  # the next threshold is as likely in a sample
    hits = 0
    for _ in range(150):
        rows = rng.integers(0, len(trust), 1_000)
        low, high = fpr_at_tpr_interval(trust[rows], right[rows])
        hits += low <= truth <= high
    assert hits >= 135


@pytest.mark.slow
@pytest.mark.parametrize("name", POPULATIONS)
@pytest.mark.parametrize("images", [30, 100, 1_000])
def test_intervals_hold_the_truth_everywhere(name: str, images: int) -> None:
    require_held(name, images, draws=400)


@pytest.mark.parametrize(
    ("count", "of"), [(20, 20), (0, 20), (19, 20), (1, 1), (3, 7), (970, 1000)]
)
def test_proportions_are_exact(count: int, of: int) -> None:
    exact = binomtest(count, of).proportion_ci(0.95, method="exact")
    assert proportion_interval(count, of) == pytest.approx((exact.low, exact.high), abs=1e-9)
    right = np.arange(of) < count
    assert accuracy_interval(np.zeros(of), right) == pytest.approx(
        (exact.low, exact.high), abs=1e-9
    )


def test_twenty_right_ones_of_twenty() -> None:
    assert accuracy_interval(np.arange(20.0), np.ones(20, bool)) == pytest.approx(
        (0.8316, 1.0), abs=1e-4
    )


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40))
def test_intervals_hold_what_was_seen(pairs: list[tuple[int, bool]]) -> None:
    trust, right = np.array([t for t, _ in pairs], float), np.array([r for _, r in pairs])
    for metric, interval in PAIRS.items():
        low, high = interval(trust, right)
        assert 0 <= low <= high <= 1
        value = metric(trust, right)
        assert math.isnan(value) or low - 1e-9 <= value <= high + 1e-9
        mapped = interval(np.exp(trust), right)
        assert mapped == pytest.approx((low, high), abs=1e-12)
    low, high = aurc_difference_interval(trust, right, -trust, right)
    assert -1 <= low <= aurc(trust, right) - aurc(-trust, right) <= high <= 1


def test_the_coverage_that_is_shown_is_that_of_a_calibration_by_ranks() -> None:
    """1,000 images, the first 700 all right: some of them are shown to have a risk of 5 %, not all
    of the coverage seen."""
    right = np.ones(1_000, bool)
    right[700::3] = False
    low, high = coverage_at_risk_interval(-np.arange(1_000.0), right)
    value = coverage_at_risk(-np.arange(1_000.0), right, 0.05)
    assert 0.65 < low < value < high < 0.95
    assert coverage_at_risk_interval(np.arange(30.0), np.ones(30, bool)) == (0.0, 1.0)


def evaluated(service: trustvlm.TrustService, images: int, wrong: int) -> Evaluation:
    world = World(["airport", "beach", "bridge", "desert"])
    make_space(service)
    service.register("s", world.inputs(3))
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 4, images)
    shown = np.where(
        np.arange(images) < wrong, (truth + 1) % 4, truth
    )  # the wrong ones look like another label
    queries = Queries(
        world.text[shown] + 0.05 * rng.normal(size=(images, TEXT_DIM)),
        world.images[shown] + 0.3 * rng.normal(size=(images, IMAGE_DIM)),
    )
    return service.evaluate(
        "s", queries, [world.names[i] for i in truth], rules=["msp", "posterior"], draws=0
    )


def test_too_few_errors_to_say(service: trustvlm.TrustService) -> None:
    found = evaluated(service, 20, 0)["posterior"]
    assert (found.accuracy.value, found.accuracy.high) == (1.0, 1.0)
    assert found.accuracy.low == pytest.approx(0.8316, abs=1e-4)
    assert found.aurc.low == 0 < found.aurc.high
    for estimate in (found.auroc, found.fpr95, found.versus_msp):
        assert math.isnan(estimate.low)
        assert math.isnan(estimate.high)
        assert estimate.reason == "too few errors (0) to say"
    assert found.coverage_at_risk.reason == "too few images (20) to say"
    assert evaluated_dict(found.auroc) == {
        "value": None,
        "low": None,
        "high": None,
        "reason": found.auroc.reason,
    }


def evaluated_dict(estimate: object) -> dict[str, object]:
    values = dict(vars(estimate))
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in values.items()
    }


def test_two_errors_are_too_few_and_three_are_not(
    service: trustvlm.TrustService, tmp_path: object
) -> None:
    with trustvlm.open(f"{tmp_path}/other", create=True) as other:
        two, three = evaluated(service, 40, 2)["posterior"], evaluated(other, 40, 3)["posterior"]
    assert two.auroc.reason == "too few errors (2) to say"
    assert not math.isnan(two.auroc.value)
    assert three.auroc.reason is None
    assert 0 <= three.auroc.low < three.auroc.value <= three.auroc.high <= 1
    assert three.versus_msp.low <= three.versus_msp.value <= three.versus_msp.high


def test_what_is_measured_is_what_an_evaluation_has() -> None:
    assert set(NAMES) - {"versus_msp"} == set(METRICS)
