"""A threshold of one's own: proved or refused, over Python, HTTP, the client and the command
line; kept in the history."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from served_client import application, client_of
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import InvalidInput
from trustvlm.scoring.rules import RULES

PROMISE = {"max_risk": 0.2, "confidence": 0.9}


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    """The space "s", calibrated with the default rule."""
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
        made = service.calibrate("s", queries, truth, rule="posterior", **PROMISE)
        assert made.threshold_range is not None
        assert made.asked_threshold is None
    return tmp_path / "home"


def test_proved_refused_and_in_the_history(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        first = service.list_calibrations("s")[0]
        low, high = first.threshold_range
        middle = (low + high) / 2
        mine = service.recalibrate("s", threshold=middle)
        assert (mine.threshold, mine.asked_threshold, mine.failed) == (middle, middle, False)
        assert (mine.rule, dict(mine.params)) == (first.rule, dict(first.params))
        assert (mine.threshold_range, mine.max_risk) == (first.threshold_range, 0.2)
        assert mine.reason.startswith(f"accepts {mine.accepted} of {mine.tested} images, ")
        verdicts = service.score("s", queries)
        assert verdicts.calibration_id == mine.id
        certain = (verdicts.trust >= middle) & (verdicts.reason_code == "accepted")
        np.testing.assert_array_equal(verdicts.decision == "accept", certain)
        # Refused: what is in force stays so, and the reason says what was seen and what is proved.
        refused = service.recalibrate("s", threshold=low / 2)
        assert refused.failed
        assert (refused.threshold, refused.asked_threshold) == (None, low / 2)
        assert refused.accepted > mine.accepted
        said = re.search(
            r"Proved are the thresholds from (\S+) to (\S+?)\.?(?: |$)", refused.reason
        )
        assert said is not None, refused.reason
        typed = (float(said[1]), float(said[2]))
        assert low <= typed[0] <= typed[1] <= high
        assert typed == pytest.approx((low, high), rel=1e-5)
        assert service.score("s", queries).calibration_id == mine.id
        # It is requested again until a rule is named, and survives the space's changes.
        service.register("s", [trustvlm.LabelInput("new", text_vector=-world.text[0])])
        again = service.recalibrate("s")
        assert (again.asked_threshold, again.failed) == (middle, False)
        free = service.recalibrate("s", rule="posterior")
        assert free.asked_threshold is None
        # The same images given again are split alike: the same range.
        given = service.calibrate(
            "s", queries, truth, rule="posterior", params=first.params, threshold=middle, **PROMISE
        )
        assert given.threshold_range == pytest.approx(again.threshold_range, abs=1e-6)
        assert [one.id for one in service.list_calibrations("s")][:2] == [given.id, free.id]


def test_an_evaluation_says_the_range_before(home: Path, world: World) -> None:
    """So that a page can say while the threshold moves what calibrating will say."""
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        first = service.list_calibrations("s")[0]
        options = {"rules": ["posterior", "msp"], "risk": 0.2, "items": True}
        stored = service.evaluate_stored("s", params={"posterior": first.params}, **options)
        assert stored["posterior"].threshold_range == pytest.approx(first.threshold_range, abs=1e-6)
        low, high = stored["msp"].threshold_range or (np.inf, np.inf)
        made = service.recalibrate("s", rule="msp", threshold=min(high, 0.99999))
        assert made.failed is (low == np.inf)
        fresh = service.evaluate("s", queries, truth, draws=0, **options)
        assert fresh["msp"].threshold_range == pytest.approx(
            stored["msp"].threshold_range, abs=1e-6
        )
        without = service.evaluate_stored("s", rules=["msp"])
        assert without["msp"].threshold_range is None
        certain = service.evaluate_stored("s", rules=["msp"], risk=1.0, items=True)
        assert certain["msp"].threshold_range is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.5}, "threshold: name the rule whose trust it is compared with"),
        ({"threshold": float("nan"), "rule": "msp"}, "threshold: expected a number"),
        ({"threshold": "0.5", "rule": "msp"}, "threshold: expected a number"),
        ({"threshold": True, "rule": "msp"}, "threshold: expected a number"),
        ({"threshold": float("inf"), "rule": "msp"}, "threshold: expected a number"),
        ({"threshold": 95, "rule": "msp"}, "trust of rule 'msp' lies between 0 and 1; got 95"),
        ({"threshold": -0.1, "rule": "ratio"}, "trust of rule 'ratio' is 0 or more; got -0.1"),
        ({"threshold": 1, "rule": "entropy"}, "trust of rule 'entropy' is 0 or less; got 1"),
        (
            {"threshold": 3.1, "rule": "trustvlm", "params": {"lambda": 2.0}},
            "trust of rule 'trustvlm' lies between -2 and 3; got 3.1",
        ),
    ],
)
def test_bad_thresholds(home: Path, world: World, options: dict, message: str) -> None:
    queries, truth = images_of(world, 20, 2)
    with trustvlm.open(home) as service:
        before = service.list_calibrations("s")
        with pytest.raises(InvalidInput, match=message):
            service.calibrate("s", queries, truth, **options)
        make_space(service, "empty")
        with pytest.raises(InvalidInput, match="no calibration images yet"):
            service.recalibrate("empty", threshold=0.5)
        assert service.list_calibrations("s") == before


@pytest.mark.parametrize("rule", list(RULES))
def test_the_trust_of_a_rule_lies_in_its_range(home: Path, world: World, rule: str) -> None:
    queries, _ = images_of(world, 60, 3, noise=3.0)
    with trustvlm.open(home) as service:
        for params in ({}, {"lambda": 4.0}) if "lambda" in RULES[rule].parameters else ({},):
            low, high = RULES[rule].trust_range(dict(RULES[rule].parameters) | params)
            trust = service.score("s", queries, rule=rule, params=params).trust
            assert low - 1e-9 <= trust.min() <= trust.max() <= high + 1e-9


def test_the_client_and_the_command_line(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with application(home) as app, client_of(app) as client:
        first = client.list_calibrations("s")[0]
        low, high = first.threshold_range
        mine = client.calibrate(
            "s", queries, truth, rule="posterior", threshold=high, params=first.params, **PROMISE
        )
        assert (mine.threshold, mine.asked_threshold) == (high, high)
        refused = client.recalibrate("s", threshold=low / 10)
        assert (refused.failed, refused.asked_threshold) == (True, low / 10)
        with pytest.raises(InvalidInput, match="threshold: name the rule"):
            client.calibrate("s", queries, truth, threshold=0.5)
    cli = Cli(home)
    made = json.loads(cli("recalibrate", "s", "--threshold", str(low), "--json"))
    assert made["asked_threshold"] == made["threshold"] == low
    shown = cli("calibration", "show", "s")
    assert ", of your own (--threshold may be " in shown
    said = cli("recalibrate", "s", "--threshold", str(low / 10), code=1)
    assert "Proved are the thresholds from" in said
    assert f"calibration {made['id']} stays in force" in said
    assert "asked_threshold" in cli("calibration", "list", "s", "--format", "jsonl")
    assert ", of your own" not in cli("recalibrate", "s", "--rule", "auto")
    assert "add --rule NAME" in cli("calibrate", "s", "x", "--threshold", "0.5", code=2)
    assert "expected a number from" in cli("recalibrate", "s", "--threshold", "nan", code=2)
