"""A space whose indexes live on a GPU (a stand-in with its restrictions) against brute force, for
every recipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numbered import CLASSIFIER, VERIFIER, label

import trustvlm
from benchmarks.gpu_stand_in import stand_in
from trustvlm.index.recipe import load_recipe
from trustvlm.system import resources

LABELS, SHOTS = 300, 3


def units(rng: np.random.Generator, *shape: int) -> np.ndarray:
    rows = rng.normal(size=shape)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A GPU that only FAISS sees, and recipes that train from 200 rows on and search every list."""
    folder, shipped = tmp_path / "indexes", resources.folder("indexes")
    folder.mkdir()
    for path in shipped.glob("*.toml"):
        text = re.sub("from_rows = .*", "from_rows = 200", path.read_text(encoding="utf-8"))
        text = re.sub("rows_per_list = .*", "rows_per_list = 100", text)
        (folder / path.name).write_text(re.sub("nprobe = .*", "nprobe = 2048", text))
    others = resources.folder
    monkeypatch.setattr(
        resources, "folder", lambda name: folder if name == "indexes" else others(name)
    )
    monkeypatch.setattr("trustvlm.settings._on_this_machine", lambda *given: given)
    monkeypatch.setattr("trustvlm.encoders.open._check_compute", lambda *given: None)
    with stand_in():
        yield


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    "recipe",
    [
        "flat",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("flat-fp16", "ivf-flat")),
        "ivf-sq8",
        "hnsw",
    ],
)
def test_search_and_score_are_those_of_brute_force(tmp_path: Path, recipe: str) -> None:
    rng = np.random.default_rng(0)
    texts, images = units(rng, LABELS, CLASSIFIER), units(rng, LABELS, SHOTS, VERIFIER)
    inputs = [
        trustvlm.LabelInput(f"label {i}", text, image_vectors=shots)
        for i, (text, shots) in enumerate(zip(texts, images, strict=True))
    ]
    asked = trustvlm.Queries(units(rng, 20, CLASSIFIER), units(rng, 20, VERIFIER))
    tolerance = 2 * load_recipe(recipe).max_error

    def compare(on_gpu: trustvlm.TrustService, live: list[int]) -> None:
        hits = on_gpu.search("space", asked, kind="support", k=7)
        exact = np.sort((asked.verifier @ images[live].reshape(-1, VERIFIER).T), axis=1)[:, ::-1]
        np.testing.assert_allclose(hits.similarity, exact[:, :7], atol=tolerance)
        found = on_gpu.score("space", asked, rule="trustvlm")
        shots = images[live].astype(np.float64).mean(axis=1)
        shots /= np.linalg.norm(shots, axis=1, keepdims=True)
        names, similarity = np.array([f"label {i}" for i in live]), asked.verifier @ shots.T
        best = names[np.argmax(asked.classifier.astype(np.float64) @ texts[live].T, axis=1)]
        assert found.label.tolist() == best.tolist()
        nearest = [live.index(int(name.split()[1])) for name in found.nearest_prototype.tolist()]
        reached = similarity[np.arange(20), nearest]
        np.testing.assert_allclose(reached, similarity.max(axis=1), atol=tolerance)

    with trustvlm.open(tmp_path / "home", create=True, device="cuda") as service:
        service.create_space(
            "space",
            classifier=f"precomputed:{CLASSIFIER}",
            verifier=f"precomputed:{VERIFIER}",
            recipe=recipe,
        )
        service.register("space", inputs[:250])
        compare(service, list(range(250)))
        service.register("space", inputs[250:])
        for i in range(0, 250, 5):
            service.remove_label("space", f"label {i}")
        live = [i for i in range(LABELS) if i % 5 or i >= 250]
        compare(service, live)
        stats = service.rebuild_index("space")
        assert stats.device == "cuda"
        if recipe == "hnsw":
            reason = "(HNSW32,Flat) is searched on the CPU: faiss has no such index on a GPU"
            assert reason in stats.on_cpu["support"]
        else:
            assert stats.on_cpu == {}
        compare(service, live)
        service.register("space", [replace(label(9_000), image_vectors=-images[7])])
        opposite = trustvlm.Queries(verifier=-images[7, :1])
        assert service.search("space", opposite, kind="support", k=1).labels.ravel().tolist() == [
            label(9_000).name
        ]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize("device", ["cuda", pytest.param("cpu", marks=pytest.mark.slow)])
@pytest.mark.parametrize("recipe", ["flat", "ivf-sq8", "hnsw"])
def test_filtered_search_returns_k_where_k_fit(tmp_path: Path, recipe: str, device: str) -> None:
    """Of many that fit by asking the index for more, of few by comparing all of them."""
    rng = np.random.default_rng(0)
    images = units(rng, LABELS, SHOTS, VERIFIER)
    inputs = [
        trustvlm.LabelInput(
            f"label {i}",
            units(rng, CLASSIFIER),
            image_vectors=images[i],
            attributes={"part": i % 3, "rare": i % 75},
        )
        for i in range(LABELS)
    ]
    asked = trustvlm.Queries(verifier=units(rng, 5, VERIFIER))
    with trustvlm.open(tmp_path / "home", create=True, device=device) as service:
        encoders = {
            "classifier": f"precomputed:{CLASSIFIER}",
            "verifier": f"precomputed:{VERIFIER}",
        }
        service.create_space("space", **encoders, recipe=recipe)
        service.register("space", inputs)
        for chosen, live in (
            ({"part": 1}, [i for i in range(LABELS) if i % 3 == 1]),
            ({"rare": 7}, [i for i in range(LABELS) if i % 75 == 7]),
            ({"part": 1, "rare": 7}, [i for i in range(LABELS) if i % 3 == 1 and i % 75 == 7]),
        ):
            exact = np.asarray(asked.verifier) @ images[live].reshape(-1, VERIFIER).T
            exact = np.sort(exact, axis=1)[:, ::-1]
            for k in (7, 60, 400):
                hits = service.search("space", asked, k=k, filter=chosen)
                count = min(k, exact.shape[1])
                assert ((hits.ids >= 0).sum(axis=1) == count).all()
                if k == 7 or recipe != "hnsw":
                    tolerance = 0.2 if recipe == "hnsw" else 2 * load_recipe(recipe).max_error
                    nearest = hits.similarity[:, :count]
                    np.testing.assert_allclose(nearest, exact[:, :count], atol=tolerance)
