"""Copies among labelled images are one observation: they neither shrink an interval nor prove a
promise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import Queries


@pytest.fixture
def world(service: trustvlm.TrustService) -> World:
    made = World(["airport", "beach", "bridge", "desert", "forest"])
    make_space(service)
    service.register("s", made.inputs(3))
    return made


def drawn(world: World, images: int) -> tuple[Queries, np.ndarray]:
    rng = np.random.default_rng(5)
    truth = rng.integers(0, 5, images)
    queries = Queries(
        world.text[truth] + 1.3 * rng.normal(size=(images, TEXT_DIM)),
        world.images[truth] + 0.6 * rng.normal(size=(images, IMAGE_DIM)),
    )
    return queries, np.array(world.names, dtype=object)[truth]


def repeated(queries: Queries, rows: np.ndarray, noise: float = 0.0, scale: float = 1.0) -> Queries:
    """The queries in these rows; a row that came before is off by rounding, and longer."""
    sides = []
    for side in (queries.classifier, queries.verifier):
        if side is None:
            sides.append(None)
            continue
        copies = np.asarray(side)[rows]
        again = np.arange(len(rows)) >= len(side)
        rng = np.random.default_rng(1)
        sides.append(
            np.where(
                again[:, None], scale * copies * (1 + noise * rng.normal(size=copies.shape)), copies
            )
        )
    return Queries(*sides)


@pytest.mark.parametrize(
    ("noise", "scale", "text_only"),
    [(0.0, 1.0, False), (1e-5, 1.0, True), (0.0, 3.0, False)],
    ids=["equal", "rounding", "length"],
)
def test_copies_change_nothing(
    service: trustvlm.TrustService, world: World, noise: float, scale: float, text_only: bool
) -> None:
    queries, truth = drawn(world, 40)
    if text_only:
        queries = Queries(queries.classifier)
    rows = np.concatenate([np.arange(40), np.random.default_rng(2).integers(0, 40, 560)])
    once = service.evaluate("s", queries, list(truth), draws=0)
    often = service.evaluate(
        "s", repeated(queries, rows, noise, scale), list(truth[rows]), draws=0, items=True
    )
    assert (once.images, once.duplicates) == (40, 0)
    assert (often.images, often.duplicates, often.supports) == (40, 560, 0)
    assert [item.index for item in often.items or ()] == list(range(40))
    for outcome in once.rules:
        again = often[outcome.rule]
        assert (again.aurc, again.accuracy, again.auroc, again.fpr95) == (
            outcome.aurc, outcome.accuracy, outcome.auroc, outcome.fpr95,
        )  # fmt: skip


def test_calibrating_counts_them_once(service: trustvlm.TrustService, world: World) -> None:
    queries, truth = drawn(world, 40)
    rows = np.concatenate([np.arange(40), np.arange(40)])
    made = service.calibrate(
        "s", repeated(queries, rows, 1e-5), list(truth[rows]), max_risk=0.9, confidence=0.5
    )
    assert (made.images, made.duplicates, made.tuning + made.tested) == (80, 40, 40)


def test_images_that_are_only_alike_all_count(service: trustvlm.TrustService, world: World) -> None:
    queries, truth = drawn(world, 40)
    rows = np.concatenate([np.arange(40), np.arange(40)])
    assert (
        service.evaluate("s", repeated(queries, rows, 0.02), list(truth[rows]), draws=0).duplicates
        == 0
    )


def test_the_command_and_the_page_say_so(cli: Cli, tmp_path: Path) -> None:
    with trustvlm.open(cli.home, create=True) as service:
        world = World(["airport", "beach", "bridge", "desert", "forest"])
        make_space(service)
        service.register("s", world.inputs(3))
    queries, truth = drawn(world, 40)
    rows = np.concatenate([np.arange(40), np.arange(20)])
    both = repeated(queries, rows)
    np.savez(
        tmp_path / "q.npz",
        classifier=both.classifier,
        verifier=both.verifier,
        truth=truth[rows].astype(str),
    )
    told = cli(
        "evaluate",
        "s",
        "--vectors",
        tmp_path / "q.npz",
        "--draws",
        "0",
        "--report",
        tmp_path / "page.html",
    )
    assert "40 images of 5 labels (left out: 20 copies of others)" in told
    assert "too few images (40) to say what it is on others." in told
    assert "ECE: 15 bins of equal mass" in told
    assert "posterior, with 95 % intervals:" in told
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "20 more were left out: they are copies of others" in page
    assert "15 bins of equal mass" in page


def test_the_command_says_when_errors_are_too_few(cli: Cli, tmp_path: Path) -> None:
    with trustvlm.open(cli.home, create=True) as service:
        world = World(["airport", "beach", "bridge"])
        make_space(service)
        service.register("s", world.inputs(3))
    rng = np.random.default_rng(0)
    truth = np.arange(20) % 3
    classifier, verifier = (
        side[truth] + 0.02 * rng.normal(size=(20, side.shape[1]))
        for side in (world.text, world.images)
    )
    names = np.array(world.names)[truth]
    np.savez(tmp_path / "q.npz", classifier=classifier, verifier=verifier, truth=names)
    told = cli(
        "evaluate",
        "s",
        "--vectors",
        tmp_path / "q.npz",
        "--draws",
        "0",
        "--report",
        tmp_path / "page.html",
    )
    assert "100.0 % [83.2, 100.0]" in told
    assert "too few errors (0) to say" in told
    assert "too few errors (0) to say" in (tmp_path / "page.html").read_text("utf-8")
