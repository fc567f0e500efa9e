"""--hold-out: register leaves out the images that evaluate and calibrate use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from test_folders import picture

SPLIT = ("--hold-out", "0.3", "--seed", "5")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A home with a space "s" of a real encoder, and beside it a folder "set" of images."""
    folder = tmp_path_factory.mktemp("hold-out")
    cli = Cli(folder / "home")
    cli("space", "create", "s", "--classifier", make_clip(folder / "clip"))
    for number in range(24):
        picture(folder / "set" / ["cat", "grüner Hund"][number % 2] / f"{number} ä.png", number)
    picture(folder / "set" / "lone" / "one.png", 100)
    return cli


def test_the_sides_fit_together(cli: Cli) -> None:
    folder = cli.home.parent / "set"
    first = cli.run("register", "s", folder, *SPLIT, "--dry-run", "--json")
    registered = cli.run("register", "s", folder, *SPLIT, "--json")
    added = json.loads(registered.stdout)["added_supports"]
    assert 12 <= added <= 22
    assert sum(number for _, number in json.loads(first.stdout)["to_add"]) == added
    said = f"{25 - added} of 25 images are held out (seed 5): "
    assert said + "they are not registered\n" in registered.stderr
    quick = ("--draws", "0", "--rules", "msp", "--json")
    evaluated = cli.run("evaluate", "s", folder, *SPLIT, *quick)
    assert said + "only they are used\n" in evaluated.stderr
    evaluation = json.loads(evaluated.stdout)
    assert (evaluation["images"], evaluation["supports"]) == (25 - added, 0)
    failed = cli.run("calibrate", "s", folder, *SPLIT, "--rule", "msp", "--json", code=1)
    made = json.loads(failed.stdout)
    assert (made["images"], made["supports"]) == (25 - added, 0)
    counts = {row["name"]: row["support_count"] for row in cli.rows("label", "list", "s")}
    assert counts["lone"] == 1


def test_the_way_out_of_a_folder_that_is_registered(cli: Cli) -> None:
    folder = cli.home.parent / "set"
    cli("register", "s", folder)
    for verb in ("evaluate", "calibrate"):
        refused = cli(verb, "s", folder, code=2)
        assert "'trustvlm register s FOLDER --sync --hold-out 0.3' holds 30 %" in refused
        assert "'trustvlm start FOLDER'" in refused
    cli("register", "s", folder, "--sync", *SPLIT)
    quick = ("--draws", "0", "--rules", "msp", "--json")
    assert json.loads(cli("evaluate", "s", folder, *SPLIT, *quick))["supports"] == 0


def test_vectors_are_divided_like_files(cli: Cli, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 30)
    np.savez(
        tmp_path / "v.npz",
        label_names=np.array(["a", "b"]),
        text_vectors=np.eye(2, 4),
        image_labels=labels,
        image_vectors=np.eye(2, 6)[labels] + 0.1 * rng.normal(size=(60, 6)),
        classifier_image_vectors=np.eye(2, 4)[labels] + 0.1 * rng.normal(size=(60, 4)),
    )
    cli("space", "create", "v", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    given = ("--vectors", tmp_path / "v.npz", *SPLIT)
    added = json.loads(cli("register", "v", *given, "--json"))["added_supports"]
    evaluation = json.loads(cli("evaluate", "v", *given, "--draws", "0", "--json"))
    assert (evaluation["images"], evaluation["supports"]) == (60 - added, 0)
    assert 5 < evaluation["images"] < 30


def test_what_cannot_be_held_out(cli: Cli, tmp_path: Path) -> None:
    folder = cli.home.parent / "set"
    for share in ("0", "1", "1.5", "nan", "-0.3", "many"):
        for verb in ("register", "evaluate", "calibrate"):
            refused = cli(verb, "s", folder, "--hold-out", share, code=2)
            assert "Invalid value for '--hold-out': " in refused
    assert "--seed is for the split" in cli("register", "s", folder, "--seed", "1", code=2)
    assert "--hold-out is for images" in cli("register", "s", "--label", "x", *SPLIT, code=2)
    picture(tmp_path / "few" / "cat" / "1.png", 200)
    refused = cli("evaluate", "s", tmp_path / "few", *SPLIT, code=2)
    assert "Error: --hold-out: none of 1 images can be held out" in refused


def test_a_label_whose_images_moved_in_part_was_not_renamed(tmp_path: Path) -> None:
    """The hint on another name needs all images of the other label, not only those registered."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", make_clip(tmp_path / "clip"))
    for number in range(12):
        picture(tmp_path / "set" / "cat" / f"{number}.png", number)
        picture(tmp_path / "set" / "dog" / f"{number}.png", 50 + number)
        if number < 8:
            picture(tmp_path / "some" / "kitten" / f"{number}.png", number)
        picture(tmp_path / "all" / "feline" / f"{number}.png", number)
    cli("register", "s", tmp_path / "set")
    for folder, renamed in (("some", False), ("all", False)):
        said = cli.run("register", "s", tmp_path / folder, *SPLIT).stderr
        assert "are support images of cat, too" in said
        assert ("if cat was renamed: " in said) is renamed
    said = cli.run("register", "s", tmp_path / "all").stderr
    assert "if cat was renamed: trustvlm label remove s feline && " in said
