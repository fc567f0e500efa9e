"""Which images prove a threshold: all of them for a rule that was fixed before, the others where
some have chosen the rule; and calibrations of earlier versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from raw_sql import run_sql
from served_client import application, client_of
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import DEFAULT_RULE, InvalidInput, LabelInput, Queries

PROMISE = {"max_risk": 0.2, "confidence": 0.9}


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
    return tmp_path / "home"


def test_all_images_prove_unless_some_choose(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        plain = service.calibrate("s", queries, truth, **PROMISE)
        assert (plain.procedure, plain.rule, plain.asked_rule) == ("ranks", DEFAULT_RULE, None)
        assert (plain.tuning, plain.tested, len(plain.candidates)) == (0, 300, 1)
        assert plain.threshold_range is not None
        assert plain.threshold_range[0] <= plain.threshold <= plain.threshold_range[1]
        named = service.calibrate("s", queries, truth, rule=DEFAULT_RULE, **PROMISE)
        assert (named.procedure, named.threshold) == ("ranks", plain.threshold)
        chosen = service.calibrate("s", queries, truth, rule="auto", **PROMISE)
        assert (chosen.procedure, chosen.tuning, chosen.tested) == ("split", 100, 200)
        assert len(chosen.candidates) > 1
        split = service.calibrate(
            "s", queries, truth, rule=DEFAULT_RULE, procedure="split", **PROMISE
        )
        assert (split.procedure, split.tuning, split.rule) == ("split", 100, DEFAULT_RULE)
        again = service.recalibrate("s")
        assert (again.procedure, again.threshold) == ("split", split.threshold)


def test_the_threshold_accepts_what_it_counted(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        made = service.calibrate("s", queries, truth, **PROMISE)
        verdicts = service.score("s", queries)
        accepted = verdicts.decision == "accept"
        wrong = verdicts.label[accepted] != np.array(truth, dtype=object)[accepted]
        assert (int(accepted.sum()), int(wrong.sum())) == (made.accepted, made.errors)


def test_images_that_chose_a_rule_do_not_prove_it(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        chosen = service.calibrate("s", queries, truth, rule="auto", **PROMISE)
        options = {"rules": [chosen.rule, "msp"], "risk": 0.2, "items": True, "draws": 0}
        params = {chosen.rule: chosen.params}
        seen = service.evaluate_stored("s", params=params, **options)
        assert seen[chosen.rule].threshold_range == pytest.approx(chosen.threshold_range, abs=1e-6)
        low, _ = chosen.threshold_range
        mine = service.recalibrate("s", rule=chosen.rule, params=chosen.params, threshold=low)
        assert (mine.procedure, mine.threshold) == ("split", low)
        other = service.recalibrate("s", rule="margin")
        assert (other.procedure, other.tested) == ("ranks", 300)
        # They chose it once, whatever was calibrated, or taken back, since.
        with pytest.raises(InvalidInput, match=f"the stored images chose '{chosen.rule}'"):
            service.recalibrate("s", rule=chosen.rule, procedure="ranks")
        service.remove_calibration("s", chosen.id)
        assert service.recalibrate("s", rule=chosen.rule).procedure == "split"
        assert service.recalibrate("s", rule="auto").procedure == "split"
        fresh, names = images_of(world, 300, 2, noise=1.2)
        assert service.calibrate("s", fresh, names, rule="margin", **PROMISE).procedure == "ranks"
        new = service.recalibrate("s", rule=chosen.rule, procedure="ranks")
        assert (new.procedure, new.tested) == ("ranks", 300)


def test_the_procedure_may_change_where_no_image_has_chosen(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        service.calibrate("s", queries, truth, **PROMISE)
        split = service.recalibrate("s", procedure="split")
        assert (split.procedure, split.tuning, split.tested) == ("split", 100, 200)
        assert len(split.candidates) > 1
        for options in ({}, {"rule": split.rule}, {"rule": "auto"}, {"threshold": 0.5}):
            with pytest.raises(InvalidInput, match="procedure: 'ranks' proves a rule that was"):
                service.recalibrate("s", procedure="ranks", **options)
        other = service.recalibrate("s", rule="margin", procedure="ranks")
        assert (other.procedure, other.tested) == ("ranks", 300)
        with pytest.raises(InvalidInput, match=r"procedure: expected .*ranks.*split.*got 'half'"):
            service.recalibrate("s", procedure="half")
    with application(home) as app, client_of(app) as client:
        assert client.recalibrate("s", procedure="split").procedure == "split"
        with pytest.raises(InvalidInput, match="procedure: 'ranks' proves"):
            client.recalibrate("s", procedure="ranks")
    assert "procedure: 'ranks' proves" in Cli(home)(
        "recalibrate", "s", "--procedure", "ranks", code=2
    )


def test_how_many_images_would_do_counts_those_that_choose(home: Path, world: World) -> None:
    """As many more, divided in the same way, give the proof what it asks for."""
    queries, truth = images_of(world, 30, 1, noise=0.05)
    with trustvlm.open(home) as service:
        for procedure in ("ranks", "split"):
            made = service.calibrate(
                "s", queries, truth, rule=DEFAULT_RULE, procedure=procedure, max_risk=0.05
            )
            assert made.failed
            assert made.needed
            in_all = made.images + made.needed
            more, names = images_of(world, in_all, 2, noise=0.05)
            enough = service.calibrate(
                "s", more, names, rule=DEFAULT_RULE, procedure=procedure, max_risk=0.05
            )
            assert not enough.failed, enough.reason
            if procedure == "split":
                assert f"{made.needed:,} with the third that chooses the rule" in made.reason


def test_a_rule_that_corrects_labels_and_text_alone(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        service.calibrate("s", queries, truth, **PROMISE)
        corrects = service.recalibrate("s", may_correct=True)
        assert (corrects.rule, corrects.procedure) == (f"{DEFAULT_RULE}_star", "ranks")
        make_space(service, "t")
        inputs = [
            LabelInput(name, vector) for name, vector in zip(world.names, world.text, strict=True)
        ]
        service.register("t", inputs)
        text = service.calibrate("t", Queries(queries.classifier), truth, **PROMISE)
        assert (text.procedure, text.asked_rule) == ("split", None)
        assert trustvlm.RULES[text.rule].kind == "text"
        with pytest.raises(InvalidInput, match="procedure: 'ranks' proves a rule that was fixed"):
            service.calibrate("t", Queries(queries.classifier), truth, procedure="ranks")
        with pytest.raises(InvalidInput, match="procedure: 'ranks' proves a rule that was fixed"):
            service.calibrate("s", queries, truth, rule="auto", procedure="ranks")
        with pytest.raises(InvalidInput, match=r"procedure: expected .*ranks.*split.*got 'half'"):
            service.calibrate("s", queries, truth, procedure="half")


def test_a_calibration_of_an_earlier_version_goes_on(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with trustvlm.open(home) as service:
        made = service.calibrate("s", queries, truth, rule="auto", **PROMISE)
        before = service.score("s", queries)
    run_sql(home, "UPDATE calibrations SET content = json_remove(content, '$.procedure')")
    with trustvlm.open(home) as service:
        (old,) = service.list_calibrations("s")
        assert (old.procedure, old.threshold, old.tuning) == ("split", made.threshold, 100)
        assert service.score("s", queries).decision.tolist() == before.decision.tolist()
        again = service.recalibrate("s")
        assert (again.procedure, again.threshold) == ("split", made.threshold)
        assert again.threshold_range == old.threshold_range


def test_over_http_and_on_the_command_line(home: Path, world: World) -> None:
    queries, truth = images_of(world, 300, 1, noise=1.2)
    with application(home) as app, client_of(app) as client:
        assert client.calibrate("s", queries, truth, **PROMISE).procedure == "ranks"
        made = client.calibrate("s", queries, truth, rule="msp", procedure="split", **PROMISE)
        assert (made.procedure, made.rule) == ("split", "msp")
    cli = Cli(home)
    assert "a third, drawn by content, to choose the rule: 100; the others" in cli(
        "recalibrate", "s"
    )
    assert "images:      300 (300 to prove the threshold)" in cli(
        "recalibrate", "s", "--rule", "margin"
    )
    made = json.loads(cli("calibration", "show", "s", "--json"))
    assert made["procedure"] == "ranks"
