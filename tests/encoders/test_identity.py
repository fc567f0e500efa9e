"""A space refuses encoders that are not the ones it was made with, in every verb, and says what
differs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import Cli
from PIL import Image
from raw_sql import run_sql

import trustvlm
from trustvlm import LabelInput, Queries, TrustService

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def picture(path: Path, colour: tuple[int, int, int], seed: int) -> Path:
    pixels = np.clip(
        np.random.default_rng(seed).normal(colour, 40, size=(48, 56, 3)), 0, 255
    ).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


class Made:
    """A home whose space "s" was made with the checkpoints in `folder`: an open_clip classifier and
    a timm verifier."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.home, self.clip = folder, folder / "home", folder / "clip"
        self.specs = make_clip(self.clip), make_timm(folder / "verifier.safetensors")
        self.images = {
            name: [picture(folder / name / f"{i}.png", colour, i) for i in range(4)]
            for name, colour in COLOURS.items()
        }
        with self.open(create=True) as service:
            service.create_space("s", classifier=self.specs[0], verifier=self.specs[1])
            service.register(
                "s", [LabelInput(name, images=paths[:2]) for name, paths in self.images.items()]
            )

    def open(self, **options: Any) -> TrustService:
        return trustvlm.open(self.home, **options)

    def configure(self, part: str, **changes: object) -> None:
        """Change the model's config or preprocessing in place."""
        path = self.clip / "open_clip_config.json"
        config = json.loads(path.read_text())
        target = config["model_cfg"]["vision_cfg"] if part == "vision" else config[part]
        target.update(changes)
        path.write_text(json.dumps(config))


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("identity"))


@pytest.fixture
def made(pristine: Made, tmp_path: Path) -> Iterator[Made]:
    """The same home; checkpoints and catalog are put back as they were."""
    backup = shutil.copytree(pristine.folder, tmp_path / "backup")
    yield pristine
    shutil.rmtree(pristine.folder)
    shutil.copytree(backup, pristine.folder)


def verbs(service: TrustService, images: dict[str, list[Path]]) -> dict[str, Callable[[], object]]:
    """Every verb that encodes images (or, the last two, text only)."""
    queries, truth = Queries(images=[paths[3] for paths in images.values()]), list(images)
    return {
        "register": lambda: service.register("s", [LabelInput("red", images=images["red"][2:3])]),
        "add_support": lambda: service.add_support("s", "red", images=images["red"][2:3]),
        "score": lambda: service.score("s", queries),
        "search": lambda: service.search("s", queries),
        "embed": lambda: service.embed("s", images["red"]),
        "evaluate": lambda: service.evaluate("s", queries, truth, draws=0),
        "calibrate": lambda: service.calibrate("s", queries, truth),
        "feedback": lambda: service.feedback("s", queries, truth),
        "search by text": lambda: service.search("s", Queries(text=["red"]), kind="text"),
        "register by name": lambda: service.register("s", [LabelInput("yellow")]),
    }


def other_weights(made: Made) -> None:
    make_clip(made.clip, seed=1)


def other_verifier_weights(made: Made) -> None:
    make_timm(made.folder / "verifier.safetensors", seed=1)


CHANGES: dict[str, tuple[Callable[[Made], None], str]] = {
    "classifier weights": (
        other_weights,
        r"the classifier .* its weights changed \(SHA-256 \w{16}…, expected \w{16}…\);",
    ),
    "verifier weights": (other_verifier_weights, r"the verifier .* its weights changed \(SHA-256"),
    "mean": (
        lambda made: made.configure("preprocess_cfg", mean=[0.5, 0.5, 0.5]),
        r"its preprocessing changed \(mean \[0.5, 0.5, 0.5\], expected mean \[0.48145466, "
        r"0.4578275, 0.40821073\]\);",
    ),
    "std": (
        lambda made: made.configure("preprocess_cfg", std=[0.5, 0.5, 0.5]),
        r"preprocessing changed \(std \[0.5",
    ),
    "interpolation": (
        lambda made: made.configure("preprocess_cfg", interpolation="bilinear"),
        r'preprocessing changed \(interpolation "bilinear", expected interpolation "bicubic"\)',
    ),
    "pooling": (
        lambda made: made.configure("vision", pool_type="avg"),
        r'its pooling changed \(image "avg", expected image "tok"\);',
    ),
    "activation": (
        lambda made: made.configure("model_cfg", quick_gelu=True),
        r"pooling changed \(quick_gelu true, expected",
    ),
    "size": (
        lambda made: run_sql(made.home, "UPDATE spaces SET verifier = verifier || '?size=128'"),
        r"its weights changed \(.*\) and its preprocessing changed \(crop \[128, 128\] .*, "
        r"expected crop \[160, 160\]",
    ),
    "verifier pooling": (
        lambda made: run_sql(
            made.home, "UPDATE spaces SET verifier = verifier || '?pooling=class-token'"
        ),
        r"its pooling changed \(class-token, expected default\);",
    ),
}

OF_VERIFIER = ("verifier weights", "size", "verifier pooling")
TEXT_ONLY = ("search by text", "register by name")


@pytest.mark.parametrize("change", CHANGES)
def test_another_encoder_is_refused_and_what_differs_is_said(made: Made, change: str) -> None:
    alter, message = CHANGES[change]
    alter(made)
    with made.open() as service:
        revision = service.get_space("s").revision
        for verb, call in verbs(service, made.images).items():
            if verb in TEXT_ONLY and change in OF_VERIFIER:
                continue  # the verifier has no part in it
            with pytest.raises(trustvlm.Conflict, match=message) as refused:
                call()
            assert "is not the one it was made with" in str(refused.value), verb
            assert "space reembed s" in str(refused.value), verb
        assert service.get_space("s").revision == revision


def test_the_unchanged_encoder_goes_through_every_verb(made: Made) -> None:
    with made.open() as service:
        for call in verbs(service, made.images).values():
            call()


def test_a_space_without_recorded_parts_says_what_it_may_be(made: Made) -> None:
    run_sql(made.home, "UPDATE spaces SET classifier_parts = NULL, verifier_parts = NULL")
    queries = Queries(images=made.images["red"])
    with made.open() as service:
        assert len(service.score("s", queries)) == 4
    other_weights(made)
    with (
        made.open() as service,
        pytest.raises(trustvlm.Conflict, match="its weights, preprocessing or pooling changed"),
    ):
        service.score("s", queries)


def drift(made: Made, side: str, cosine: float) -> None:
    """As if another library version had embedded the golden image when the space was made."""
    ((blob,),) = run_sql(made.home, f"SELECT {side}_golden FROM spaces")
    golden = np.frombuffer(blob, "<f4").astype(np.float64)
    away = np.random.default_rng(0).normal(size=len(golden))
    away -= golden * (away @ golden) / (golden @ golden)
    moved = cosine * golden / np.linalg.norm(golden) + np.sqrt(
        1 - cosine**2
    ) * away / np.linalg.norm(away)
    run_sql(made.home, f"UPDATE spaces SET {side}_golden = ?", moved.astype("<f4").tobytes())


@pytest.mark.parametrize(
    ("cosine", "outcome"), [(0.9995, "fine"), (0.995, "warned"), (0.95, "refused")]
)
@pytest.mark.parametrize("side", ["classifier", "verifier"])
def test_a_drifted_golden_embedding(
    made: Made, caplog: pytest.LogCaptureFixture, side: str, cosine: float, outcome: str
) -> None:
    drift(made, side, cosine)
    with made.open() as service:
        call = verbs(service, made.images)["score"]
        if outcome == "refused":
            with pytest.raises(
                trustvlm.Conflict,
                match=rf"the {side} .* cosine {cosine:.5f} .* where 0.99 is needed",
            ) as refused:
                call()
            assert "weights, preprocessing and pooling are the same" in str(refused.value)
            assert "torch" in str(refused.value)
            assert "on cpu at fp32" in str(refused.value)
            return
        call()
        call()
    warnings = [record.message for record in caplog.records if "golden image" in record.message]
    assert len(warnings) == (outcome == "warned"), "once a process, not at each call"
    assert all(f"cosine {cosine:.5f}" in warning for warning in warnings)


def test_device_and_precision_are_recorded_and_not_refused(made: Made) -> None:
    with made.open(precision="bf16") as service:
        assert len(service.score("s", Queries(images=made.images["red"]))) == 4
        service.create_space("low", classifier=made.specs[0])
    recorded = {
        name: json.loads(parts)
        for name, parts in run_sql(made.home, "SELECT name, classifier_parts FROM spaces")
    }
    assert {name: (parts["device"], parts["precision"]) for name, parts in recorded.items()} == {
        "s": ("cpu", "fp32"),
        "low": ("cpu", "bf16"),
    }
    assert "torch" in recorded["s"]["libraries"]


def test_the_command_line_says_it_on_stderr_with_the_code_of_a_conflict(made: Made) -> None:
    other_verifier_weights(made)
    said = Cli(made.home)("score", "s", made.images["red"][0], code=4)
    assert "its weights changed" in said
    assert "space reembed s" in said
