"""A space gets other encoders: nothing is lost, nothing is mixed, and the old embeddings stay until told."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from conftest import assert_same_verdicts
from PIL import Image

import trustvlm
from trustvlm import LabelInput, Queries, TrustService

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200), "yellow": (220, 210, 60)}
TEMPLATES = ["a {} square", "a photo of {}"]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two classifiers and two verifiers: old and new."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "clip": make_clip(folder / "clip"),
        "verifier": make_timm(folder / "verifier.safetensors"),
        "new clip": make_clip(folder / "new-clip", seed=1),
        "new verifier": make_timm(folder / "new-verifier.safetensors", seed=1),
    }


def pictures(folder: Path, name: str, count: int) -> list[Path]:
    """`count` pictures of a colour."""
    rng = np.random.default_rng(sum(map(ord, name)))
    (folder / name).mkdir(parents=True, exist_ok=True)
    found = []
    for i in range(count):
        pixels = np.clip(rng.normal(COLOURS[name], 40, size=(40, 44, 3)), 0, 255).astype(np.uint8)
        found.append(folder / name / f"{i}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Path]]:
    return {name: pictures(tmp_path / "images", name, 4) for name in COLOURS}


@pytest.fixture
def service(tmp_path: Path, specs: dict[str, str]) -> Iterator[TrustService]:
    with trustvlm.open(tmp_path / "home", create=True, batch_size=4) as opened:
        opened.create_space("s", classifier=specs["clip"], verifier=specs["verifier"], templates=["a photo of a {}."])
        yield opened


def fill(service: TrustService, images: dict[str, list[Path]], space: str = "s", **options: bool) -> None:
    inputs = [LabelInput(name, images=images[name][:3]) for name in ("red", "green", "blue")]
    service.register(space, [*inputs, LabelInput("violet", prompt="something violet"), LabelInput("sky")], **options)
    service.alias(space, "sky", "blue")


def held_out(images: dict[str, list[Path]]) -> Queries:
    return Queries(images=[paths[3] for paths in images.values()])


def require_equal_to_fresh(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], **registered: bool
) -> None:
    """The space answers as one that was made with its encoders and filled with the same things."""
    row = service.get_space("s")
    service.create_space(
        "fresh", classifier=row.classifier, verifier=row.verifier, templates=row.templates, logit_scale=row.logit_scale
    )
    fill(service, images, "fresh")
    for rule in ("posterior", "trustvlm", "trustvlm_star", "knn"):
        got, expected = (service.score(space, held_out(images), rule=rule) for space in ("s", "fresh"))
        assert_same_verdicts(got, expected)
    names = [(label.name, label.prompt, label.support_count, label.alias_of) for label in service.list_labels("s")]
    assert sorted(names) == sorted((x.name, x.prompt, x.support_count, x.alias_of) for x in service.list_labels("fresh"))
    for kind in ("support", "prototype", "text"):
        got, expected = (service.search(space, held_out(images), kind=kind, k=5) for space in ("s", "fresh"))
        np.testing.assert_allclose(got.similarity, expected.similarity, atol=1e-5)
    texts = Queries(text=["a red thing"])
    got, expected = (service.search(space, texts, kind="support", k=9) for space in ("s", "fresh"))
    np.testing.assert_allclose(got.similarity, expected.similarity, atol=1e-5)


def new_encoders(specs: dict[str, str]) -> dict[str, object]:
    return {"classifier": specs["new clip"], "verifier": specs["new verifier"], "templates": TEMPLATES}


def test_from_kept_originals_equal_to_a_fresh_space(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    fill(service, images, keep_originals=True)
    shutil.copytree(tmp_path / "images", tmp_path / "queries")
    shutil.rmtree(tmp_path / "images")  # the originals are the home's
    before = service.get_space("s")
    done = service.reembed_space("s", **new_encoders(specs))
    shutil.copytree(tmp_path / "queries", tmp_path / "images")
    assert (done.state, done.labels, done.supports, done.missing) == ("kept", 5, 9, ())
    after = service.get_space("s")
    assert after.revision > before.revision
    assert (after.label_count, after.support_count) == (5, 9)
    assert after.classifier == specs["new clip"]
    assert [row.name for row in service.list_spaces()] == ["s"]
    require_equal_to_fresh(service, specs, images)
