"""Registering and support images from the command line: folders, files, names, vectors, and what is wrong with them."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import NAMES, Cli, save_labels
from PIL import Image


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return make_clip(folder / "clip"), make_timm(folder / "verifier.safetensors")


@pytest.fixture
def vectors(tmp_path: Path) -> Cli:
    """A home with a space "s" of precomputed encoders."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    return cli


@pytest.fixture
def images(tmp_path: Path, specs: tuple[str, str]) -> Cli:
    """A home with a space "s" of real encoders."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", specs[0], "--verifier", specs[1])
    return cli


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def counts(cli: Cli) -> dict[str, int]:
    return {row["name"]: row["support_count"] for row in cli.rows("label", "list", "s")}


# Image folders and files


def test_image_folder(images: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for seed, name in enumerate(["red/1.png", "red/2.png", "[bold]blue/1.PNG", "red/nested/3.png", ".hidden/1.png", "here.png"]):
        picture(folder / name, seed)
    picture(folder / "[bold]blue" / ".thumb.png", 9)
    (folder / "red" / "notes.txt").write_text("not an image")
    (folder / "red" / "Thumbs.db").write_bytes(b"x")
    (folder / "red" / "bad[/].jpg").write_bytes(b"not an image")
    (folder / "empty").mkdir()
    (folder / "link").symlink_to(folder / "red")

    first = images.run("register", "s", folder)
    assert first.stdout == "registered 2 labels (2 new), 3 support images, 1 unreadable; revision 1\n"
    said = first.stderr
    assert "passed over 4 files: hidden, or no image suffix" not in said
    assert "passed over 3 files" in said  # the two without a suffix and the hidden one
    assert "passed over 3 folders" in said
    assert "nested" in said
    assert "passed over 1 folder without images" in said
    assert f"could not be read: {folder}/red/bad[/].jpg: not an image" in said
    assert counts(images) == {"[bold]blue": 1, "red": 2}
    again = images("register", "s", folder)
    assert again == "nothing new: all 3 support images were there already, 1 unreadable; revision 1\n"
    picture(folder / "red" / "4.png", 77)
    assert images("register", "s", folder) == (
        "registered 2 labels (0 new), 1 support image, 3 duplicates skipped, 1 unreadable; revision 2\n"
    )
