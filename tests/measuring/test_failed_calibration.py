"""A calibration that proves nothing is listed as failed; what was in force stays so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from served_client import application, client_of
from test_corrections import save
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.selective.risk import find_threshold, threshold_grid

FEW = 40


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    """Two spaces: "s" is calibrated, "t" is not."""
    queries, truth = images_of(world, 300, 1, noise=0.5)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        for name in ("s", "t"):
            make_space(service, name)
            service.register(name, world.inputs(5))
        service.calibrate("s", queries, truth, max_risk=0.2)
    return tmp_path / "home"


def test_it_is_never_in_force_and_costs_nothing(home: Path, world: World) -> None:
    queries, truth = images_of(world, FEW, 2, noise=0.5)
    with trustvlm.open(home) as service:
        (working,) = service.list_calibrations("s")
        before = service.score("s", queries)
        failed = service.calibrate("s", queries, truth, max_risk=0.01)
        assert failed.failed
        assert failed.threshold is None
        assert failed.to_dict()["failed"] is True
        assert (
            "about 230 accepted images without an error are needed; 40 are available for the proof"
            in failed.reason
        )
        after = service.score("s", queries)
        assert list(after.reason) == list(before.reason)
        assert after.calibration_id == working.id
        assert service.monitor("s").calibration_id == working.id
        assert [(one.id, one.failed) for one in service.list_calibrations("s")] == [
            (failed.id, True),
            (working.id, False),
        ]
        again = service.recalibrate(
            "s"
        )  # on the images of the one in force, for what that promises
        assert (again.images, again.max_risk, again.failed) == (300, 0.2, False)
        service.remove_calibration("s", again.id)
        service.remove_calibration("s", working.id)
        assert {*service.score("s", queries).reason_code} == {"not_calibrated"}
        with pytest.raises(trustvlm.NotFound):
            service.monitor("s")


def test_the_first_attempt_keeps_its_images(home: Path, world: World) -> None:
    queries, truth = images_of(world, FEW, 2, noise=0.5)
    with trustvlm.open(home) as service:
        assert service.calibrate("t", queries, truth, max_risk=0.02, confidence=0.95).failed
        assert {*service.score("t", queries).accepted} == {None}
        more, truths = images_of(world, 300, 3, noise=0.1)
        service.feedback("t", more, truths, sampling="random")
        again = service.recalibrate("t")
        assert (again.images, again.max_risk, again.confidence, again.failed) == (
            FEW + 300,
            0.02,
            0.95,
            False,
        )


def test_from_the_command_line(home: Path, world: World, tmp_path: Path) -> None:
    file, cli = save(tmp_path / "few.npz", *images_of(world, FEW, 2, noise=0.5)), Cli(home)
    asked = ["calibrate", "--vectors", file, "--max-risk", "0.001"]
    for space, stays in (
        ("s", "calibration 1 stays in force"),
        ("t", "no calibration is in force"),
    ):
        done = cli.run(asked[0], space, *asked[1:], code=1)
        assert (done.exit_code, done.stdout) == (1, "")
        assert "about 2,300 accepted images without an error are needed; 40 are" in done.stderr
        assert done.stderr.rstrip().endswith(stays)
        assert len(done.stderr.splitlines()) == 1
    done = cli.run(asked[0], "s", *asked[1:], "--json", code=1)
    made = json.loads(done.stdout)
    assert (done.exit_code, made["failed"], made["threshold"]) == (1, True, None)
    states = {row["id"]: row["state"] for row in cli.rows("calibration", "list", "s")}
    assert states == {1: "in force", 2: "failed", 4: "failed"}
    assert "1 of space s, revision 1: in force" in cli("calibration", "show", "s")
    assert "promise:     none: it failed" in cli("calibration", "show", "s", "2")
    assert "no calibration in force" in cli("calibration", "show", "t", code=3)
    done = cli.run("recalibrate", "t", code=1)
    assert (done.exit_code, "failed" in done.stderr) == (1, True)
    with trustvlm.open(home) as service:
        service.add_support("s", "beach", image_vectors=world.supports(1, 1))
    assert {row["id"]: row["state"] for row in cli.rows("calibration", "list", "s")}[
        1
    ] == "in force, stale"
    shown = cli("calibration", "show", "s")
    assert "at most" not in shown.split("promise:")[1].splitlines()[0]
    assert "run 'trustvlm recalibrate s'" in shown
    assert "the risk is at most" not in shown
    assert "when it was made" in shown.split("outcome:")[1].splitlines()[0]


def test_the_kind_that_is_not_in_force_is_named(home: Path, world: World, tmp_path: Path) -> None:
    """Calibrations of predictions and of claims are in force side by side."""
    queries, truth = images_of(world, 300, 4, noise=0.5)
    few, few_truth = images_of(world, FEW, 2, noise=0.5)
    claims = replace(queries, claimed=truth)
    with trustvlm.open(home) as service:
        assert not service.calibrate("t", claims, truth, max_risk=0.2).failed
        service.calibrate("s", replace(few, claimed=few_truth), few_truth, max_risk=0.001)
    file, cli = save(tmp_path / "few.npz", few, few_truth), Cli(home)
    done = cli.run("calibrate", "t", "--vectors", file, "--max-risk", "0.001", code=1)
    assert done.stderr.rstrip().endswith("Now no calibration of predictions is in force")
    done = cli.run("recalibrate", "s", "--claims", code=1)
    assert done.stderr.rstrip().endswith("Now no calibration of claims is in force")


def test_over_http(home: Path, world: World) -> None:
    queries, truth = images_of(world, FEW, 2, noise=0.5)
    with application(home) as app, client_of(app) as client:
        failed = client.calibrate("s", queries, truth, max_risk=0.001)
        assert failed.failed
        assert [(one.id, one.failed) for one in client.list_calibrations("s")] == [
            (2, True),
            (1, False),
        ]
        told = client._wire.ask("GET", "/v1/spaces/s/calibrations")["calibrations"]
        assert [(one["id"], one["failed"], one["in_force"]) for one in told] == [
            (2, True, False),
            (1, False, True),
        ]
        assert (
            client.score("s", Queries(queries.classifier[:1], queries.verifier[:1])).calibration_id
            == 1
        )


@pytest.mark.parametrize(
    ("max_risk", "confidence", "needed"),
    [(0.001, 0.9, "2,300"), (0.05, 0.9, "45"), (0.02, 0.99, "230")],
)
def test_how_many_would_do_is_the_exact_binomial(
    max_risk: float, confidence: float, needed: str
) -> None:
    trust, right = np.linspace(0, 1, 40), np.ones(40, bool)
    grid = threshold_grid(trust, right, 40, max_risk=max_risk, confidence=confidence)
    found = find_threshold(trust, right, grid, max_risk=max_risk, confidence=confidence)
    assert found.threshold is None
    assert (
        f"about {needed} accepted images without an error are needed; 40 are available"
        in found.reason
    )
    exact = int(needed.replace(",", ""))
    assert (
        (1 - max_risk) ** (0.97 * exact) > (1 - confidence) > (1 - max_risk) ** (1.03 * exact + 1)
    )
