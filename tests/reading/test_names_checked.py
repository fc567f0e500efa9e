"""Names are checked before anything is encoded, and the error says which label was probably
meant."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image
from served_client import application, client_of
from worlds import World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.catalog.rows.likeness import SCANNED
from trustvlm.types.messages.meant import likest

LABELS = (
    "seven",
    "golden retriever",
    "crème brûlée",
    "001.Black_footed_Albatross",
    "buses",
    "AnnualCrop",
)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("Seven", "seven"),
        ("SEVEN ", "seven"),
        ("golden_retriever", "golden retriever"),
        ("Golden-Retriever", "golden retriever"),
        ("goldenretriever", "golden retriever"),
        ("golden retreiver", "golden retriever"),
        ("golden retrievers", "golden retriever"),
        ("creme brulee", "crème brûlée"),
        ("black footed albatross", "001.Black_footed_Albatross"),
        ("bus", "buses"),
        ("annual crop", "AnnualCrop"),
        ("sevn", "seven"),
        ("zebra", None),
        ("東京", None),
    ],
)
def test_the_label_that_was_meant(name: str, meant: str | None) -> None:
    assert likest(name, LABELS) == meant


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labels of two images each, in folders whose names are spelt otherwise than the labels."""
    folder = tmp_path_factory.mktemp("names")
    for seed, name in enumerate(["seven/1.png", "seven/2.png", "nine/1.png", "nine/2.png"]):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)).save(
            path
        )
    return folder / "photos"


@pytest.fixture(scope="module")
def weightless(photos: Path) -> Cli:
    """A home whose space "s" has these labels, and whose model is gone: whatever encodes an image
    fails."""
    cli = Cli(photos.parent / "home")
    cli("space", "create", "s", "--classifier", make_clip(photos.parent / "clip"))
    cli("register", "s", photos)
    shutil.rmtree(photos.parent / "clip")
    return cli


@pytest.mark.parametrize("verb", ["evaluate", "calibrate", "feedback"])
def test_a_folder_named_otherwise_is_refused_before_a_model_is_loaded(
    weightless: Cli, tmp_path: Path, verb: str
) -> None:
    for name in ("Seven", "nine", "other"):
        shutil.copytree(weightless.home.parent / "photos" / "nine", tmp_path / "held-out" / name)
    said = weightless(verb, "s", tmp_path / "held-out", code=3)
    assert (
        "no label 'Seven' in space 's' (and 1 more name without a label); did you mean "
        "'seven' for 'Seven'?" in said
    )
    assert "--no-label Seven counts its images as images of no label" in said
    said = weightless(
        verb, "s", tmp_path / "held-out", "--no-label", "Seven", "--no-label", "Other", code=2
    )
    assert "--no-label Other: no images have this name; did you mean other?" in said
    said = weightless(
        verb, "s", tmp_path / "held-out", "--no-label", "Seven", "--no-label", "other", code=5
    )
    assert "cannot be opened any more" in said  # it went on to encode


def test_feedback_on_one_image(weightless: Cli, photos: Path) -> None:
    said = weightless(
        "feedback", "s", "--image", photos / "nine" / "1.png", "--label", "Nine", code=3
    )
    assert "no label 'Nine' in space 's'; did you mean 'nine'?" in said


def test_every_verb_of_the_command_line_that_takes_a_label(weightless: Cli, photos: Path) -> None:
    picture = photos / "nine" / "1.png"
    for words in (
        ("label", "update", "s", "Seven", "--prompt", "x"),
        ("label", "remove", "s", "Seven"),
        ("label", "alias", "s", "Seven", "nine"),
        ("label", "alias", "s", "nine", "Seven"),
        ("label", "unalias", "s", "Seven"),
        ("support", "list", "s", "Seven"),
        ("support", "add", "s", "Seven", picture),
        ("score", "s", picture, "--only", "Seven"),
    ):
        said = weightless(*words, code=3)
        assert "no label 'Seven'" in said, words
        assert "did you mean 'seven'?" in said, words
    assert "no space 'S' (spaces: s); did you mean 's'?" in weightless("label", "list", "S", code=3)


def test_what_was_removed(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("pets", classifier="precomputed:2")
        service.register("pets", [LabelInput("Cat", text_vector=[1.0, 0.0])])
        service.remove_label("pets", "Cat")
        with pytest.raises(trustvlm.NotFound, match="to restore: did you mean 'Cat'"):
            service.restore_label("pets", "cat")
        service.remove_space("pets")
        with pytest.raises(trustvlm.NotFound, match="to restore: did you mean 'pets'"):
            service.restore_space("Pets")


def test_several_names_are_of_no_label(tmp_path: Path, world: World) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
    cli, rng = Cli(tmp_path / "home"), np.random.default_rng(0)
    truth = np.array([*world.names[:2] * 10, "kite", "boat"])
    places = np.array([*[0, 1] * 10, 0, 1])
    text = world.text[places] + 0.1 * rng.normal(size=(22, world.text.shape[1]))
    images = world.images[places] + 0.1 * rng.normal(size=(22, world.images.shape[1]))
    np.savez(tmp_path / "l.npz", classifier=text, verifier=images, truth=truth)
    assert "no label 'boat'" in cli(
        "evaluate", "s", "--vectors", tmp_path / "l.npz", "--no-label", "kite", code=3
    )
    none = ("--no-label", "kite", "--no-label", "boat")
    said = cli(
        "evaluate", "s", "--vectors", tmp_path / "l.npz", *none, "--draws", 0, "--rules", "msp"
    )
    assert "22 images of 2 labels" in said
    assert "90.9 %" in said  # 20 of 22


def test_the_library_and_the_service_refuse_before_they_encode(
    weightless: Cli, photos: Path
) -> None:
    queries = Queries(images=[photos / "nine" / "1.png"])

    def refuses(service: Any) -> None:
        for call in (
            lambda: service.evaluate("s", queries, ["Seven"]),
            lambda: service.calibrate("s", queries, ["Seven"]),
            lambda: service.feedback("s", queries, ["Seven"]),
            lambda: service.score("s", queries, labels=["nine", "Seven"]),
            lambda: service.remove_label("s", "Seven"),
            lambda: service.add_support("s", "Seven", images=[photos / "nine" / "1.png"]),
        ):
            with pytest.raises(trustvlm.NotFound, match="did you mean 'seven'"):
                call()

    with trustvlm.open(weightless.home) as service:
        refuses(service)
        with pytest.raises(trustvlm.WeightsMissing):
            service.evaluate("s", queries, ["seven"])
    with application(weightless.home) as app, client_of(app) as client:
        refuses(client)


def test_a_space_too_large_to_compare_every_name(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier="precomputed:2")
        names = [*(f"n{i:06}" for i in range(SCANNED + 10)), "golden_retriever"]
        vectors = np.random.default_rng(0).normal(size=(len(names), 2))
        service.register(
            "s",
            [LabelInput(name, text_vector=row) for name, row in zip(names, vectors, strict=True)],
        )
        for name in ("Golden Retriever", "golden-retrievers", "goldenRetriever"):
            with pytest.raises(trustvlm.NotFound, match="did you mean 'golden_retriever'"):
                service.remove_label("s", name)
