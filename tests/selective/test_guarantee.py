"""The promise holds: calibrations on samples of populations whose true risk is known
(benchmarks.populations).

The bar is 1 − confidence + 2 standard errors of the number of calibrations. Coverage is held
against the oracle's where the exact binomial can get there at all: `benchmarks.guarantee.ceiling`
says how far anybody could.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest

from benchmarks.guarantee import (
    CONFIDENCE,
    SIZES,
    allowed,
    by_split,
    calibrated,
    ceiling,
    draws,
    summary,
)
from benchmarks.populations import Population, real, synthetic

DATA = Path(
    os.environ.get("TRUSTVLM_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
SYNTHETIC = (
    "well separated", "gradual", "weak", "eight levels", "waves in 40 levels", "heavy tail",
    "overconfident top",
)  # fmt: skip
SETS = ("WHU b32", "WHU b32, seen by l14", "WHU l14", "Food", "CIFAR")
REAL = tuple(
    f"{name}, {rule}"
    for name in SETS
    for rule in ("msp", "trustvlm", "posterior", "best of 3 rules")
)
# Where the risk creeps up on 5 % so slowly that no exact test of 2,000 images can tell 4 % from 5 %.
OUT_OF_REACH = ("gradual", "weak", "heavy tail", "overconfident top")
# Where the risk crosses 5 % more than once: a search by ranks ends at the first hump, a split names
# its own start (docs/guarantee.md, "Where the ranks are weak": 5 % and 30 % of 80 %).
HUMPED = "waves in 40 levels"


@lru_cache
def populations(kind: str) -> dict[str, Population]:
    return {
        population.name: population
        for population in (synthetic() if kind == "synthetic" else real(DATA))
    }


def population(name: str) -> Population:
    if name in SYNTHETIC:
        return populations("synthetic")[name]
    if not DATA.is_dir():
        pytest.skip(f"evaluation data not found at {DATA} (set TRUSTVLM_EVAL_DATA)")
    return populations("real")[name]


def test_every_population_is_tested() -> None:
    assert tuple(populations("synthetic")) == SYNTHETIC


def test_the_truth_is_counted() -> None:
    three = Population(
        "three", np.array([[1.0, 2.0, 3.0, 3.0]]), np.array([[False, True, True, True]])
    )
    assert three.truth(3.0) == (0.5, 0.0)
    assert three.truth(0.0) == (1.0, 0.25)
    assert three.truth(9.0) == (0.0, 0.0)
    assert (three.oracle(), replace(three, max_risk=0.25).oracle()) == (0.75, 1.0)


@pytest.mark.parametrize(
    "name", ["well separated", "eight levels", "waves in 40 levels", "overconfident top"]
)
@pytest.mark.parametrize("n", [100, pytest.param(500, marks=pytest.mark.slow)])
def test_the_promise_holds_in_short(name: str, n: int) -> None:
    people = population(name)
    figures = summary([calibrated(people, rows) for rows in draws(people, n, 60)], people)
    assert figures["violations"] <= allowed(60)


def test_the_promise_would_not_hold_without_a_test() -> None:
    """The bar can tell: the largest coverage whose risk looks low enough breaks the promise far
    more often than allowed."""
    people = population("eight levels")
    broken = []
    for rows in draws(people, 500, 60):
        sample = Population("sample", people.trust[:, rows], people.right[:, rows])
        levels = np.unique(sample.trust)
        naive = next(
            (level for level in levels if sample.truth(level)[1] <= people.max_risk), np.inf
        )
        broken.append(people.truth(naive)[1] > people.max_risk)
    assert np.mean(broken) > 2 * (1 - CONFIDENCE)


def test_a_hundred_images_are_enough_on_real_embeddings() -> None:
    """The bar for two hundred images is tested, too; with five hundred, in the slow tests."""
    for n, least in ((100, 0.68), (200, 0.88)):
        shares = []
        for name in SETS:
            people = population(f"{name}, posterior")
            outcomes = [calibrated(people, rows) for rows in draws(people, n, 60)]
            figures = summary(outcomes, people)
            assert figures["violations"] <= allowed(60), (name, n, figures)
            shares.append(figures["of_oracle"])
        assert np.mean(shares) >= least - 0.02, (n, shares)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SYNTHETIC, *REAL])
def test_the_promise_holds(name: str) -> None:
    people = population(name)
    oracle = people.oracle()
    figures = {
        n: summary([calibrated(people, rows) for rows in draws(people, n, 500)], people)
        for n in SIZES
    }
    for n, found in figures.items():
        assert found["violations"] <= allowed(500), (n, found)
    best = figures[2000]["coverage"]
    if name == HUMPED:
        divided = summary([by_split(people, rows) for rows in draws(people, 2000, 500)], people)
        assert divided["violations"] <= allowed(500)
        assert divided["coverage"] >= 0.3 * oracle >= best >= 0.04
    elif name in OUT_OF_REACH:
        assert best >= 0.5 * ceiling(people, 2000)
    else:
        assert best >= 0.9 * oracle


@pytest.mark.slow
@pytest.mark.parametrize(("n", "least"), [(100, 0.68), (200, 0.88), (500, 0.96)])
def test_the_share_of_the_oracles_coverage(n: int, least: float) -> None:
    people = [population(f"{name}, posterior") for name in SETS]
    figures = [
        summary([calibrated(one, rows) for rows in draws(one, n, 500)], one) for one in people
    ]
    assert np.mean([one["of_oracle"] for one in figures]) >= least
