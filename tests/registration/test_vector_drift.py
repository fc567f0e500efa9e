"""New vectors that point elsewhere, or have other lengths, than those that are there: said, and
registered all the same."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli

import trustvlm
from trustvlm import LabelInput
from trustvlm.selective.vector_drift import FALSE_ALARMS, baseline_of, departures

DATA = Path(
    os.environ.get("TRUSTVLM_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)
DIM = 48
real = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"evaluation data not found at {DATA} (set TRUSTVLM_EVAL_DATA)"
)


class Model:
    """A made-up encoder: everything it gives lies in a cone around its own direction; norms are
    about `norm`."""

    def __init__(self, seed: int, norm: float = 10.0) -> None:
        self._rng = np.random.default_rng(seed)
        self._cone, self._norm = self._rng.normal(size=DIM), norm

    def label(self, images: int) -> np.ndarray:
        """(images, DIM) embeddings of one more label."""
        own = self._cone + 0.5 * self._rng.normal(size=DIM)
        found = own + 0.5 * self._rng.normal(size=(images, DIM))
        lengths = self._norm * np.exp(0.05 * self._rng.normal(size=(images, 1)))
        return found / np.linalg.norm(found, axis=1, keepdims=True) * lengths


def fill(
    service: trustvlm.TrustService,
    model: Model,
    labels: int = 10,
    images: int = 6,
    name: str = "label",
) -> tuple[str, ...]:
    """Register labels; what is said of their vectors."""
    inputs = [
        LabelInput(f"{name} {i}", text_vector=model.label(1)[0], image_vectors=model.label(images))
        for i in range(labels)
    ]
    return list(service.register("s", inputs).drift)


@pytest.fixture
def filled(service: trustvlm.TrustService) -> tuple[trustvlm.TrustService, Model]:
    service.create_space("s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}:dino")
    model = Model(0)
    assert fill(service, model) == [], "there was nothing to depart from"
    return service, model


def test_more_of_the_same_is_not_remarked_on(filled: tuple[trustvlm.TrustService, Model]) -> None:
    service, model = filled
    assert fill(service, model, name="more") == []
    assert service.add_support("s", "label 0", image_vectors=model.label(16)).drift == ()


def test_vectors_of_another_model_point_elsewhere(
    filled: tuple[trustvlm.TrustService, Model],
) -> None:
    service, _ = filled
    texts, images = fill(service, Model(1), name="other")
    assert texts.startswith(
        f"the text vectors do not look like those of 'precomputed:{DIM}' in space 's': "
        f"their mean direction"
    )
    assert images.startswith(
        f"the image vectors do not look like those of 'precomputed:{DIM}:dino' in space 's'"
    )
    assert service.get_space("s").label_count == 20, "registered all the same"


def test_normalised_vectors_among_raw_ones_and_the_other_way(
    filled: tuple[trustvlm.TrustService, Model],
) -> None:
    service, model = filled
    raw = model.label(8)
    (said,) = service.add_support(
        "s", "label 0", image_vectors=raw / np.linalg.norm(raw, axis=1, keepdims=True)
    ).drift
    assert said.endswith("their norms are about 1, where the stored ones are about 9.99")
    service.create_space("unit", classifier=f"precomputed:{DIM}")
    for i in range(6):
        own = Model(0).label(4)
        service.register(
            "unit",
            [
                LabelInput(
                    f"{i}", own[0], image_vectors=own / np.linalg.norm(own, axis=1, keepdims=True)
                )
            ],
        )
    (said,) = service.add_support("unit", "0", image_vectors=Model(0).label(9)[1:]).drift
    assert "where the stored ones are about 1" in said


def test_fewer_than_eight_vectors_say_nothing(filled: tuple[trustvlm.TrustService, Model]) -> None:
    service, model = filled
    other = Model(1, norm=1).label(8)
    (said,) = service.add_support(
        "s", "label 0", image_vectors=other[:8]
    ).drift  # by direction and by length
    assert said.count("mean direction") == said.count("norms") == 1
    service.create_space("few", classifier=f"precomputed:{DIM}")
    service.register(
        "few",
        [
            LabelInput(f"{i}", row, image_vectors=model.label(4))
            for i, row in enumerate(model.label(6))
        ],
    )
    assert service.add_support("few", "0", image_vectors=other[:7]).drift == ()


def test_classifier_embeddings_of_images_are_compared_with_their_own_kind(
    service: trustvlm.TrustService,
) -> None:
    service.create_space("s", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}")
    verifier, classifier = Model(0), Model(1)
    for i in range(8):
        item = LabelInput(f"{i}", classifier.label(1)[0], image_vectors=verifier.label(4))
        service.register(
            "s",
            [
                LabelInput(
                    item.name, item.text_vector, None, item.image_vectors, classifier.label(4)
                )
            ],
        )
    swapped = service.add_support(
        "s", "0", image_vectors=classifier.label(8), classifier_image_vectors=verifier.label(8)
    ).drift
    assert [said.split(" do not")[0] for said in swapped] == [
        "the image vectors",
        "the classifier image vectors",
    ]


def test_vectors_without_a_common_direction_are_judged_by_length_only() -> None:
    rng = np.random.default_rng(0)
    baseline = baseline_of(rng.normal(size=(200, DIM)), np.arange(200) // 10)
    assert departures(baseline, rng.normal(size=(50, DIM))) == []
    assert departures(baseline, -rng.normal(size=(50, DIM))) == []
    (said,) = departures(baseline, 3 * rng.normal(size=(50, DIM)))
    assert "norms" in said


def test_false_alarms_are_as_rare_as_promised() -> None:
    """Batches of one more label of the same model, in which labels differ a lot."""
    alarms, draws = 0, 2_000
    for seed in range(draws):
        model = Model(seed)
        stored = np.concatenate([model.label(4) for _ in range(6)])
        alarms += bool(departures(baseline_of(stored, np.arange(24) // 4), model.label(8)))
    assert alarms <= draws * FALSE_ALARMS + 3 * np.sqrt(draws * FALSE_ALARMS)


def test_said_on_stderr(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    model = Model(0)
    for number, maker in enumerate((model, Model(1))):
        images = np.concatenate([maker.label(4) for _ in range(6)])
        names = np.array([f"{number} {i}" for i in range(6)])
        texts = np.concatenate([model.label(1) for _ in range(6)])
        arrays = {
            "label_names": names,
            "text_vectors": texts,
            "image_vectors": images,
            "image_labels": np.arange(24) // 4,
        }
        np.savez(tmp_path / f"{number}.npz", **arrays)
    cli(
        "space",
        "create",
        "s",
        "--classifier",
        f"precomputed:{DIM}",
        "--verifier",
        f"precomputed:{DIM}:v",
    )
    assert "warning" not in cli.run("register", "s", "--vectors", tmp_path / "0.npz").stderr
    said = cli.run("register", "s", "--vectors", tmp_path / "1.npz").stderr
    assert (
        f"warning: the image vectors do not look like those of 'precomputed:{DIM}:v' in space 's'"
        in said
    )


def load(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(DATA / name) as file:
        kind = "train" if "train_vectors" in file.files else "image"
        labels = file["train_labels" if kind == "train" else "labels"]
        return (
            file[f"{kind}_vectors"].astype(np.float64),
            labels,
            file["text_vectors"].astype(np.float64),
        )


@real
def test_on_real_embeddings() -> None:
    """Another subject in the same model is not another model; a rotation, a shuffle, or texts as
    images are."""
    sets = {name: load(f"{name}_clip_vit_b32.npz") for name in ("whurs19", "food10", "cifar10")}
    rng = np.random.default_rng(0)
    rotation, shuffle = np.linalg.qr(rng.normal(size=(512, 512)))[0], rng.permutation(512)
    for name, (images, owner, texts) in sets.items():
        baseline = baseline_of(images, owner)
        for other, (foreign, labels, _) in sets.items():
            for label in np.unique(labels):
                batch = foreign[labels == label][:16]
                assert departures(baseline, batch) == [], (name, other)
                assert len(departures(baseline, batch @ rotation)) == 1, (name, other)
                assert len(departures(baseline, batch[:, shuffle])) == 1, (name, other)
                assert len(departures(baseline, 10 * batch)) == 1, (name, other)
        usable = texts[np.isfinite(texts).all(axis=1)]
        assert "mean direction" in departures(baseline, usable)[0]
