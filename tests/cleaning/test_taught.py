"""Feedback teaches: what a corrected image changes as a support image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trustvlm
from tests.support.cli_runner import Cli
from trustvlm.types.calibration import TaughtImages

DIM = 8
AXES = np.eye(DIM)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two labels with images, one without, whose images its text takes for the first; five of them
    wait."""
    rng, home = np.random.default_rng(0), tmp_path / "home"
    home.mkdir()
    (home / "trustvlm.toml").write_text("review_share = 0\n")  # none is drawn at random
    with trustvlm.open(home, create=True) as service:
        service.create_space(
            "s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}", logit_scale=5.0
        )
        service.register("s", [
            trustvlm.LabelInput(name, AXES[i], image_vectors=images)
            for i, (name, images) in enumerate({
                "cat": AXES[0] + 0.1 * rng.normal(size=(6, DIM)),
                "dog": AXES[1] + 0.1 * rng.normal(size=(6, DIM)),
                "fox": None,
            }.items())
        ])  # fmt: skip
        classifier = np.tile(AXES[0] + 0.9 * AXES[2], (5, 1)) + 0.05 * rng.normal(size=(5, DIM))
        verifier = np.tile(AXES[5], (5, 1)) + 0.05 * rng.normal(size=(5, DIM))
        service.score("s", trustvlm.Queries(classifier, verifier), review=True)
    return home


def test_a_correction_says_what_it_changed(home: Path) -> None:
    with trustvlm.open(home) as service:
        queue = service.review("s")
        items = queue.items().items
        before = service.score("s", trustvlm.Queries(AXES[:1], AXES[:1]))
        plain = queue.answer(items[0].id, "fox")
        assert plain.taught is None
        queue.undo(items[0].id)
        taught = queue.answer(items[0].id, "fox", use_as_support=True).taught
        assert taught is not None
        assert taught.label_before == items[0].predicted == "cat"
        assert (taught.label, taught.probability) == ("cat", None)  # the classifier's label stays
        assert taught.waiting == 4
        assert taught.changed == 4
        waiting = queue.question(items[1].id)
        assert waiting.rival == "fox"
        assert queue.question(items[0].id).item.taught is None
        after = service.score("s", trustvlm.Queries(AXES[:1], AXES[:1]))
        assert after.label == before.label
        assert queue.answer(items[0].id, "fox", use_as_support=True).taught is None


def test_an_answer_becomes_a_support_image_later(home: Path) -> None:
    with trustvlm.open(home) as service:
        queue = service.review("s")
        item = queue.items().items[0]
        assert queue.answer(item.id, "fox").support_id is None
        again = queue.answer(item.id, "fox", use_as_support=True)
        assert again.support_id is not None
        assert again.taught is not None


def test_the_command_line_recommends_it_and_says_what_changed(home: Path) -> None:
    cli = Cli(home)
    said = cli.run("review", "answer", "s", 1, "--label", "fox").stderr
    recommended = "trustvlm review answer s 1 --label fox --support"
    assert recommended in said
    said = cli.run(*recommended.split()[1:]).stderr
    assert "this image: cat" in said
    assert "known as fox now" in said
    assert "4 of 4 waiting images get another answer" in said
    assert "recommended" not in cli.run("review", "answer", "s", 2, "--right").stderr


def test_promoted_feedback_says_what_it_changed(home: Path, tmp_path: Path) -> None:
    """As an answer of the queue does; once: what is a support image already teaches nothing."""
    images = np.tile(AXES[5], (2, 1)) + 0.01 * np.eye(2, DIM)
    foxes = trustvlm.Queries(np.tile(AXES[0] + 0.9 * AXES[2], (2, 1)), images)
    with trustvlm.open(home) as service:
        assert service.feedback("s", foxes, ["fox"] * 2).taught is None
        taught = service.feedback("s", foxes, ["fox"] * 2, promote=True).taught
        assert taught == TaughtImages(images=2, corrected=2, waiting=5, changed=5)
        assert service.feedback("s", foxes, ["fox"] * 2, promote=True).taught is None
    file = tmp_path / "more.npz"
    np.savez(file, classifier=AXES[:1], verifier=AXES[:1] + 0.05, truth=["cat"])
    said = Cli(home).run("feedback", "s", "--vectors", file, "--promote").stderr
    assert "1 new support image, 0 labelled wrongly before; " in said
    assert "of 5 waiting images get another answer" in said
