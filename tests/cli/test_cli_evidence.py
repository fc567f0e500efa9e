"""From the command line: calibrating, what is in force, feedback, monitoring, and labels with
further names."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput


def save(
    path: Path, world: World, count: int, seed: int, noise: float = 1.0, **changes: object
) -> Path:
    """An npz of labelled vectors."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(world.names), count)
    arrays: dict[str, object] = {
        "classifier": world.text[truth] + noise * rng.normal(size=(count, TEXT_DIM)),
        "verifier": world.images[truth] + 0.4 * noise * rng.normal(size=(count, IMAGE_DIM)),
        "truth": np.array([world.names[i] for i in truth]),
    }
    np.savez(path, **(arrays | changes))
    return path


@pytest.fixture
def space(tmp_path: Path, world: World) -> Cli:
    """A home with the space "s": six labels with five support images each."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
    return Cli(tmp_path / "home")


def test_calibrate_then_score_then_take_it_back(space: Cli, tmp_path: Path, world: World) -> None:
    labelled, new = (
        save(tmp_path / "labelled.npz", world, 300, 1),
        save(tmp_path / "new.npz", world, 30, 2),
    )
    assert "has no calibration" in space("calibration", "show", "s", code=3)
    made = json.loads(space("calibrate", "s", "--vectors", labelled, "--max-risk", "0.1", "--json"))
    assert (made["images"], made["tuning"] + made["tested"], made["max_risk"]) == (300, 300, 0.1)
    with trustvlm.open(space.home) as service:
        (stored,) = service.list_calibrations("s")
    assert json.loads(json.dumps(stored.to_dict())) == made
    rows = space.rows("score", "s", "--vectors", new)
    assert {row["calibration_id"] for row in rows} == {made["id"]}
    for row in rows:
        assert row["accepted"] == (row["trust"] >= made["threshold"])
        assert row["decision"] == row["reason"].split(":")[0]
        assert row["accepted"] == (row["decision"] == "accept")
        assert 0 < row["probability"] < 1
        assert row["probability_source"] == "calibration"
    listed = next(
        csv.DictReader(io.StringIO(space("score", "s", "--vectors", new, "--format", "csv")))
    )
    assert listed["accepted"] == str(rows[0]["accepted"]).lower()
    table = space("score", "s", "--vectors", new)
    assert "accept" in table
    assert table.startswith(f"probability: calibration {made['id']}\n")
    shown = space("calibration", "show", "s")
    assert "at most 10 % of accepted answers are wrong (90 % confidence)" in shown
    again = json.loads(space("recalibrate", "s", "--json"))
    assert (again["images"], again["threshold"], again["rule"]) == (
        300,
        made["threshold"],
        made["rule"],
    )
    assert [row["id"] for row in space.rows("calibration", "list", "s")] == [
        again["id"],
        made["id"],
    ]
    assert f"{made['id']} of space s" in space("calibration", "show", "s", made["id"])
    assert "no calibration 77" in space("calibration", "show", "s", "77", code=3)
    space("calibration", "remove", "s", again["id"])
    assert "77" in space("calibration", "remove", "s", "77", code=3)
    assert [row["id"] for row in space.rows("calibration", "list", "s")] == [made["id"]]


def test_the_options_of_calibrate_are_used(space: Cli, tmp_path: Path, world: World) -> None:
    labelled = save(tmp_path / "labelled.npz", world, 300, 1, noise=1.3)

    def made(*options: object) -> dict:
        return json.loads(space("calibrate", "s", "--vectors", labelled, "--json", *options))

    loose, strict = (
        made("--max-risk", "0.1", "--rule", "msp"),
        made("--max-risk", "0.05", "--rule", "msp"),
    )
    assert (loose["rule"], strict["rule"]) == ("msp", "msp")
    assert loose["coverage"] > strict["coverage"]
    assert (
        made("--max-risk", "0.1", "--rule", "msp", "--confidence", "0.9999")["coverage"]
        < loose["coverage"]
    )
    noise = np.random.default_rng(0).normal(size=(40, IMAGE_DIM))
    strange = save(tmp_path / "strange.npz", world, 40, 5, noise=0.5, verifier=noise)
    for rate, found in ((0.1, True), (0, False)):
        made("--max-risk", "0.1", "--unknown-rate", rate)
        rows = space.rows("score", "s", "--vectors", strange)
        assert (
            any((row["decision"], row["reason_code"]) == ("unknown", "unknown") for row in rows)
            == found
        )
    for bad in (("--max-risk", "2"), ("--rule", "magic"), ("--unknown-rate", "-1")):
        space("calibrate", "s", "--vectors", labelled, *bad, code=2)


def test_a_stale_calibration_says_so(space: Cli, tmp_path: Path, world: World) -> None:
    labelled = save(tmp_path / "labelled.npz", world, 300, 1)
    few = save(tmp_path / "few.npz", world, 10, 2)
    for policy, code in (("flag", "accepted"), ("abstain", "stale")):
        space("calibrate", "s", "--vectors", labelled, "--max-risk", "0.2", "--on-stale", policy)
        with trustvlm.open(space.home) as service:
            revision = service.add_support(
                "s", "beach", image_vectors=world.supports(1, 1)
            ).revision
        rows = space.rows("score", "s", "--vectors", few)
        assert {row["stale_since"] for row in rows} == {revision}
        assert any(row["reason_code"] == code for row in rows)
        assert all("run 'trustvlm recalibrate s'" in row["reason"] for row in rows)
        assert {row["probability"] for row in rows} == {None}
        assert {row["probability_source"] for row in rows} == {None}
        assert (policy == "flag") == any(row["accepted"] for row in rows)
        shown = space.run("score", "s", "--vectors", few)
        assert re.match(
            rf"no probability: calibration \d+ is stale since revision {revision}; run 'trustvlm "
            rf"recalibrate s'\n",
            shown.stdout,
        )
        assert shown.stderr == ""


def test_feedback_and_monitor(space: Cli, tmp_path: Path, world: World) -> None:
    labelled = save(tmp_path / "labelled.npz", world, 300, 1)
    assert "no calibration" in space("monitor", "s", code=3)
    space("calibrate", "s", "--vectors", labelled, "--max-risk", "0.1")
    told = save(tmp_path / "told.npz", world, 40, 3)
    assert "40 images stored" in space("feedback", "s", "--vectors", told)
    assert json.loads(space("monitor", "s", "--json"))["items"] == 0  # they were chosen, not drawn
    assert "40 stored already" in space("feedback", "s", "--vectors", told, "--sampling", "random")
    kept = json.loads(space("monitor", "s", "--json"))
    assert kept["items"] > 0
    assert not kept["broken"]
    strange = save(tmp_path / "strange.npz", world, 150, 4, truth=np.array(["nothing"] * 150))
    assert "no label 'nothing'" in space("feedback", "s", "--vectors", strange, code=3)
    space("feedback", "s", "--vectors", strange, "--no-label", "nothing", "--sampling", "random")
    broken = space.run("monitor", "s")
    assert "no longer keeps its promise" in broken.stderr
    result = space.run("feedback", "s", "--vectors", told, "--promote")
    assert "40 made support images" in result.stdout
    assert "40 images left out" in space.run("feedback", "s", "--vectors", told).stderr
    space("feedback", "s", code=2)
    space("feedback", "s", "--image", "x.png", code=2)
    space("feedback", "s", "--vectors", told, "--image", "x.png", "--label", "beach", code=2)


def test_aliases(space: Cli, world: World) -> None:
    with trustvlm.open(space.home) as service:
        service.register("s", [LabelInput("shore", world.text[1] + 0.01)])
    (pair,) = space.rows("label", "synonyms", "s")
    assert {pair["label"], pair["other"]} == {"beach", "shore"}
    assert pair["cosine"] > 0.95
    assert "shore is an alias of beach" in space("label", "alias", "s", "shore", "beach")
    assert space.rows("label", "synonyms", "s") == []
    assert [
        row["name"] for row in space.rows("label", "list", "s") if row["alias_of"] == "beach"
    ] == ["shore"]
    assert "alias of beach" in space("label", "list", "s")
    space("label", "alias", "s", "shore", "beach")  # it is one already
    space("label", "alias", "s", "shore", "forest", code=4)
    space("label", "alias", "s", "ghost", "beach", code=3)
    space("label", "alias", "s", "beach", "beach", code=2)
    assert "shore is a label of its own" in space("label", "unalias", "s", "shore")
    space("label", "unalias", "s", "shore", code=4)
    assert len(space.rows("label", "synonyms", "s")) == 1
