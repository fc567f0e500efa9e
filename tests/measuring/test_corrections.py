"""Rules that correct labels: they say so, and a calibration takes one only when asked to."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from served_client import application, client_of
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.scoring.rules import RULES

pytestmark = pytest.mark.both_back_ends(slow=True)


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
    return tmp_path / "home"


def save(path: Path, queries: Queries, truth: list[str]) -> Path:
    np.savez(path, classifier=queries.classifier, verifier=queries.verifier, truth=np.array(truth))
    return path


def test_a_verdict_says_what_it_corrected(home: Path, world: World, tmp_path: Path) -> None:
    queries, _ = images_of(world, 60, 1, noise=1.0)
    with trustvlm.open(home) as service:
        own = service.score("s", queries, rule="msp").label
        for rule in RULES:
            verdicts = service.score("s", queries, rule=rule)
            changed = verdicts.label != own
            assert changed.any() == RULES[rule].relabels
            assert list(verdicts.corrected_from) == [
                was if differs else None for was, differs in zip(own, changed, strict=True)
            ]
        expected = list(service.score("s", queries, rule="posterior_star").corrected_from)
    cli = Cli(home)
    asked = [
        "score",
        "s",
        "--vectors",
        save(tmp_path / "q.npz", queries, ["beach"] * 60),
        "--rule",
        "posterior_star",
    ]
    assert [row["corrected_from"] for row in cli.rows(*asked)] == expected
    rows = csv.DictReader(io.StringIO(cli(*asked, "--format", "csv")))
    assert [row["corrected_from"] or None for row in rows] == expected
    table = cli(*asked).splitlines()[2:]
    assert [
        f"corrected from {was}" in line if was else "corrected" not in line
        for was, line in zip(expected, table, strict=True)
    ]
    with application(home) as app, client_of(app) as client:
        assert list(client.score("s", queries, rule="posterior_star").corrected_from) == expected


def test_calibrate_keeps_labels_unless_asked(home: Path, world: World, tmp_path: Path) -> None:
    queries, truth = images_of(world, 300, 2, noise=1.0)
    with trustvlm.open(home) as service:
        keeping = service.calibrate("s", queries, truth, max_risk=0.3)
        assert not any(RULES[row["rule"]].relabels for row in keeping.candidates)
        star = service.score("s", queries, rule="posterior_star")
        changed = np.array([was is not None for was in star.corrected_from])
        counts = (
            "posterior_star", int(changed.sum()), int((changed & (star.label == truth)).sum()),
            int((changed & (star.corrected_from == np.array(truth, object))).sum()),
        )  # fmt: skip
        found = (
            keeping.correcting_rule,
            keeping.corrected,
            keeping.corrected_rightly,
            keeping.corrected_wrongly,
        )
        assert found == counts
        assert counts[1] >= counts[2] > counts[3]
        with pytest.raises(trustvlm.InvalidInput, match="may_correct=True"):
            service.calibrate("s", queries, truth, rule="posterior_star", max_risk=0.3)
        with pytest.raises(trustvlm.InvalidInput, match="may_correct=True"):
            service.recalibrate("s", rule="posterior_star")
        assert not service.recalibrate("s").may_correct
        asked = service.recalibrate("s", may_correct=True)
        assert any(RULES[row["rule"]].relabels for row in asked.candidates)
        assert RULES[asked.rule].relabels
        assert asked.correcting_rule == asked.rule
        assert service.recalibrate("s").may_correct  # it asks for the same
        assert [one.may_correct for one in service.list_calibrations("s")] == [
            True,
            True,
            False,
            False,
        ]


def test_a_rule_that_was_named_gives_way_to_its_form_that_corrects(
    home: Path, world: World
) -> None:
    queries, truth = images_of(world, 300, 2, noise=1.0)
    with trustvlm.open(home) as service:
        service.calibrate("s", queries, truth, max_risk=0.3)
        own = service.recalibrate("s", threshold=0.9)
        assert (own.asked_rule, own.threshold) == ("posterior", 0.9)
        chosen = service.recalibrate("s", may_correct=True)
        assert (chosen.rule, chosen.asked_threshold) == ("posterior_star", None)
        service.recalibrate("s", rule="posterior", may_correct=False)
        both = service.recalibrate("s", may_correct=True, threshold=0.9)
        assert (both.rule, both.threshold) == ("posterior_star", 0.9)
        service.recalibrate("s", rule="image", may_correct=False)
        with pytest.raises(trustvlm.InvalidInput, match="'image', which has no form that corrects"):
            service.recalibrate("s", may_correct=True)


def test_the_same_from_the_command_line_and_over_http(
    home: Path, world: World, tmp_path: Path
) -> None:
    queries, truth = images_of(world, 300, 2, noise=1.0)
    cli, file = Cli(home), save(tmp_path / "labelled.npz", queries, truth)
    given = ["calibrate", "s", "--vectors", file, "--max-risk", "0.3"]
    assert "add --may-correct" in cli(*given, "--rule", "trustvlm_star", code=2)
    with trustvlm.open(home) as service:
        assert not service.list_calibrations("s")
    said = cli(*given)
    made = json.loads(cli("calibration", "show", "s", "--json"))
    assert (
        f"posterior_star would correct {made['corrected']} of 300 labels: "
        f"{made['corrected_rightly']} rightly" in said
    )
    corrected = json.loads(cli(*given, "--may-correct", "--json"))
    assert RULES[corrected["rule"]].relabels
    assert f"corrections: {corrected['corrected']} of 300 labels" in cli("calibration", "show", "s")
    with application(home) as app, client_of(app) as client:
        with pytest.raises(trustvlm.InvalidInput, match="may_correct"):
            client.calibrate("s", queries, truth, rule="trustvlm_star")
        assert (
            client.calibrate("s", queries, truth, max_risk=0.3).correcting_rule == "posterior_star"
        )
        assert RULES[
            client.calibrate("s", queries, truth, max_risk=0.3, may_correct=True).rule
        ].relabels
        assert RULES[client.recalibrate("s").rule].relabels
        assert not client.recalibrate("s", may_correct=False).may_correct
