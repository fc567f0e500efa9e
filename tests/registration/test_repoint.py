"""Weights that moved: the message says what to do, only the same ones are taken, and nothing
becomes stale."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import Cli
from PIL import Image

import trustvlm
from trustvlm import LabelInput, Queries


def weights(folder: Path) -> tuple[str, str]:
    """Specs of the encoders in `folder`."""
    verifier = next(path for path in folder.iterdir() if path.suffix == ".safetensors")
    return (
        f"open_clip:local-dir:{folder / 'clip'}",
        f"timm:test_vit@{verifier}?pooling=mean-tokens&size=32",
    )


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[str, str]]:
    """A folder with the models, pictures of two labels, and a home whose space "s" is
    calibrated."""
    folder = tmp_path_factory.mktemp("repoint")
    (folder / "models").mkdir()
    specs = (
        make_clip(folder / "models" / "clip"),
        make_timm(folder / "models" / "verifier.safetensors"),
    )
    for seed, name in enumerate(("red", "blue")):
        (folder / name).mkdir()
        for i in range(3):
            pixels = np.random.default_rng(10 * seed + i).integers(0, 255, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    with trustvlm.open(folder / "home", create=True) as service:
        service.create_space("s", classifier=specs[0], verifier=specs[1])
        service.register(
            "s",
            [
                LabelInput(name, images=sorted((folder / name).glob("[01].png")))
                for name in ("red", "blue")
            ],
        )
        row, rng = service.get_space("s"), np.random.default_rng(0)
        queries = Queries(
            rng.normal(size=(300, row.classifier_dim)), rng.normal(size=(300, row.verifier_dim))
        )
        truth = service.score("s", queries, rule="msp").label.tolist()  # all of it right
        service.calibrate("s", queries, truth, rule="msp", max_risk=0.2, unknown_rate=0.0)
    return folder, specs


@pytest.fixture
def moved(
    template: tuple[Path, tuple[str, str]], tmp_path: Path
) -> tuple[Cli, Path, tuple[str, str]]:
    """A copy of the home, the pictures, and where the models are now: they were moved."""
    folder, specs = template
    shutil.copytree(folder / "home", tmp_path / "home")
    hidden = folder / "models"
    place = tmp_path / "elsewhere"
    shutil.copytree(hidden, place)
    new = tuple(spec.replace(str(hidden), str(place)) for spec in specs)
    away = folder / "away"
    hidden.rename(away)
    yield Cli(tmp_path / "home"), folder, new  # type: ignore[misc]
    away.rename(hidden)


def test_the_way_forward_works_and_nothing_becomes_stale(
    moved: tuple[Cli, Path, tuple[str, str]],
) -> None:
    cli, folder, (classifier, verifier) = moved
    picture = folder / "red" / "2.png"
    said = cli("score", "s", picture, code=5)
    assert "cannot be opened any more" in said
    assert (
        "if its files moved, say where they are: 'trustvlm space repoint s --verifier "
        "timm:MODEL@/path/to/weights'" in said
    )
    with trustvlm.open(cli.home) as service:
        before, (calibration,) = service.get_space("s"), service.list_calibrations("s")

    assert classifier in cli("space", "repoint", "s", "--classifier", classifier)
    assert "--verifier" in cli("score", "s", picture, code=5)  # the other one is still missing
    cli("space", "repoint", "s", "--classifier", classifier, "--verifier", verifier)

    (row,) = cli.rows("score", "s", picture)
    assert row["accepted"] is True
    assert row["stale_since"] is None
    assert "stale" not in row["reason"]
    with trustvlm.open(cli.home) as service:
        after = service.get_space("s")
        assert (after.revision, after.support_count) == (before.revision, before.support_count)
        assert (after.classifier, after.verifier) == (classifier, verifier)
        assert service.list_calibrations("s") == [calibration]
        assert service.verify("s").clean
        assert (
            service.register(
                "s", [LabelInput("red", images=[folder / "red" / "2.png"])]
            ).added_supports
            == 1
        )


def test_other_weights_and_wrong_places_are_refused(
    moved: tuple[Cli, Path, tuple[str, str]], tmp_path: Path
) -> None:
    cli, _, (classifier, verifier) = moved
    other = make_clip(tmp_path / "other", seed=1)
    said = cli("space", "repoint", "s", "--classifier", other, code=4)
    assert "is not the one it was made with: its weights changed" in said
    assert "no folder" in cli(
        "space", "repoint", "s", "--classifier", "open_clip:local-dir:/nowhere", code=3
    )
    assert "Expected --classifier, --verifier or both" in cli("space", "repoint", "s", code=2)
    assert "cannot be repointed" in cli("space", "repoint", "s", "--verifier", "same", code=2)
    assert "no space" in cli("space", "repoint", "t", "--verifier", verifier, code=3)
    assert classifier not in cli("space", "show", "s")
