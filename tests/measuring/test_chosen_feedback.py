"""Feedback on images that were picked never calibrates: not even where the same image was drawn at
random before."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runner import Cli
from raw_sql import run_sql
from served_client import application, client_of
from test_corrections import save
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: test_equal_back_ends.py

CALIBRATED, TOLD = 300, 20


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    queries, truth = images_of(world, CALIBRATED, 1, noise=0.5)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
        service.calibrate("s", queries, truth, max_risk=0.2)
    return tmp_path / "home"


def some(world: World) -> tuple[Queries, list[str], list[str]]:
    """Images that calibrate, their labels there, and what a person who picks them says."""
    queries, truth = images_of(world, CALIBRATED, 1, noise=0.5)
    part = Queries(queries.classifier[:TOLD], queries.verifier[:TOLD])
    return (
        part,
        truth[:TOLD],
        [world.names[(world.names.index(name) + 1) % len(world.names)] for name in truth[:TOLD]],
    )


def stored(home: Path) -> list[tuple[str, str, int]]:
    counted = (
        "SELECT origin, sampling, COUNT(*) FROM observations GROUP BY origin, sampling "
        "ORDER BY 1, 2"
    )
    return [tuple(row) for row in run_sql(home, counted)]


@pytest.mark.parametrize(
    "way", ["library", "http", pytest.param("command line", marks=pytest.mark.slow)]
)
def test_what_is_said_of_a_picked_calibration_image_stands_apart(
    home: Path, world: World, tmp_path: Path, way: str
) -> None:
    queries, _, other = some(world)
    with trustvlm.open(home) as service:
        before = service.recalibrate("s")
        service.remove_calibration("s", before.id)
    for _ in range(2):  # saying it again changes nothing
        if way == "library":
            with trustvlm.open(home) as service:
                told = service.feedback("s", queries, other)
            assert (told.added, told.updated, told.apart) == (0, TOLD, TOLD)
        elif way == "http":
            with application(home) as app, client_of(app) as client:
                assert client.feedback("s", queries, other).apart == TOLD
        else:
            done = Cli(home).run(
                "feedback", "s", "--vectors", save(tmp_path / "told.npz", queries, other)
            )
            assert f"{TOLD} images drawn at random before" in done.stderr
    assert stored(home) == [("calibration", "random", CALIBRATED), ("feedback", "chosen", TOLD)]
    with trustvlm.open(home) as service:
        counts = service.count_observations("s")
        assert (counts.calibration, counts.random, counts.chosen, counts.usable) == (
            CALIBRATED,
            0,
            TOLD,
            CALIBRATED,
        )
        again = service.recalibrate("s")
        assert (again.images, again.accepted, again.errors, again.knots) == (
            CALIBRATED,
            before.accepted,
            before.errors,
            before.knots,
        )


def test_random_feedback_corrects_what_calibrates(home: Path, world: World) -> None:
    queries, truth, other = some(world)
    with trustvlm.open(home) as service:
        before = service.recalibrate("s")
        assert service.feedback("s", queries, other, sampling="random").apart == 0
        assert service.recalibrate("s").knots != before.knots
        service.feedback("s", queries, other, sampling="chosen")
        service.feedback("s", queries, truth, sampling="random")
        assert service.recalibrate("s").knots == before.knots
    assert stored(home)[-2:] == [("feedback", "chosen", TOLD), ("feedback", "random", TOLD)]


def test_an_image_is_known_by_its_embedding_whichever_way_it_comes(
    home: Path, world: World
) -> None:
    queries, truth, other = some(
        world
    )  # the same as 'calibrate SPACE DIR' and 'feedback SPACE --image FILE': other hashes
    again = Queries(2 * queries.classifier, 2 * queries.verifier)
    with trustvlm.open(home) as service:
        before = service.recalibrate("s")
        assert service.feedback("s", again, other).apart == TOLD
        told = service.feedback("s", again, other, sampling="random")
        assert (told.added, told.updated) == (0, TOLD)
        assert service.recalibrate("s").knots != before.knots
        service.feedback("s", queries, truth, sampling="random")
        assert service.recalibrate("s").knots == before.knots
        assert service.feedback("s", again, truth, sampling="chosen", promote=True).promoted == TOLD
        assert service.count_observations("s").usable == CALIBRATED - TOLD


def test_a_picked_image_that_is_calibrated_on_later(home: Path, world: World) -> None:
    queries, truth = images_of(world, 100, 7, noise=0.5)
    wrong = [world.names[(world.names.index(name) + 1) % len(world.names)] for name in truth]
    with trustvlm.open(home) as service:
        service.feedback("s", queries, wrong)
        made = service.calibrate("s", queries, truth, max_risk=0.2)
        assert stored(home) == [("calibration", "random", 100), ("feedback", "chosen", 100)]
        assert service.recalibrate("s").knots == made.knots
        queries, truth = images_of(world, CALIBRATED, 8, noise=0.5)
        service.calibrate("s", queries, truth, max_risk=0.2)
    assert stored(home) == [("calibration", "random", CALIBRATED), ("feedback", "chosen", 100)]


def test_a_promoted_picked_image_calibrates_no_more(home: Path, world: World) -> None:
    queries, truth, _ = some(world)
    with trustvlm.open(home) as service:
        service.feedback("s", queries, truth, sampling="random")
        assert (
            service.feedback("s", queries, truth, sampling="chosen", promote=True).promoted == TOLD
        )
        assert service.count_observations("s").usable == CALIBRATED - TOLD
        assert service.recalibrate("s").images == CALIBRATED - TOLD
