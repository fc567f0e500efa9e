"""Recipes that train: exact while small, then searched in part, at every change, and tuned on a
space's own vectors."""

from __future__ import annotations

import logging
import re
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numbered import CLASSIFIER, VERIFIER, label
from thresholds import set_thresholds
from waiting import own_messages, until

import trustvlm
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import Recipe, list_recipes, load_recipe
from trustvlm.service.indexes.suggest import estimate

DIM, ROWS, FROM = 32, 6_000, 2_000
TRAINED = [load_recipe(name) for name in ("hnsw", "ivf-flat", "ivf-sq8")]
every_recipe = pytest.mark.parametrize("recipe", TRAINED, ids=lambda recipe: recipe.name)
ALIKE = ("flat-fp16", "ivf-flat")
"""Recipes that another one of their kind stands for by default."""
every_kind = pytest.mark.parametrize(
    "recipe",
    [pytest.param(recipe, marks=[pytest.mark.slow] * (recipe.name in ALIKE)) for recipe in TRAINED],
    ids=lambda recipe: recipe.name,
)


def small(recipe: Recipe) -> Recipe:
    """The recipe, trained from fewer rows on."""
    return replace(recipe, training=dict(recipe.training) | {"from_rows": FROM})


def clustered(rows: int = ROWS, dim: int = DIM, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(rows // 20, dim))
    found = centres[rng.integers(0, len(centres), rows)] + 0.5 * rng.normal(size=(rows, dim))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def built(recipe: Recipe, rows: np.ndarray) -> LiveIndex:
    return LiveIndex.build(recipe, rows.shape[1], len(rows), lambda: [(np.arange(len(rows)), rows)])


def recall(
    got: np.ndarray, rows: np.ndarray, queries: np.ndarray, alive: np.ndarray | None = None
) -> float:
    similarity = queries @ rows.T
    if alive is not None:
        similarity[:, ~alive] = -np.inf
    truth = np.argsort(-similarity, axis=1)[:, : got.shape[1]]
    return float(
        np.mean([len(np.intersect1d(a, b)) / got.shape[1] for a, b in zip(got, truth, strict=True)])
    )


@every_recipe
def test_exact_until_there_are_enough_rows(recipe: Recipe) -> None:
    rows = clustered()
    index = built(small(recipe), rows[: FROM - 1])
    view = index.view()
    assert (view.exhaustive, view.outgrown, view.lists) == (True, False, 0)
    assert view.max_error == 1e-5
    assert recall(view.search(rows[:50], 10)[0], rows[: FROM - 1], rows[:50]) == 1.0
    index.add([FROM], rows[FROM : FROM + 1])
    assert index.view().outgrown  # time for another one, which whoever has the vectors builds


@every_recipe
def test_trained_it_finds_nearly_all_and_every_similarity_is_right(recipe: Recipe) -> None:
    rows = clustered()
    view = built(small(recipe), rows).view()
    assert not view.exhaustive
    assert not view.outgrown
    queries = clustered(seed=1)[:100]
    ids, similarity = view.search(queries, 10)
    assert recall(ids, rows, queries) > 0.6
    np.testing.assert_allclose(
        similarity, np.einsum("nd,nkd->nk", queries, rows[ids]), atol=view.max_error, rtol=0
    )
    assert (np.diff(similarity) <= 0).all()
    further = view.with_parameters({"nprobe": 64, "efSearch": 512}).search(queries, 10)[0]
    assert recall(further, rows, queries) > 0.97
    assert recall(further, rows, queries) >= recall(ids, rows, queries)


@pytest.mark.parametrize("dim", [12, pytest.param(64, marks=pytest.mark.slow)])
def test_rows_that_come_after_the_training_keep_the_error(dim: int) -> None:
    recipe, rng, trained = load_recipe("ivf-sq8"), np.random.default_rng(7), 20_000
    rows = rng.normal(size=(50_000, dim))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    index = LiveIndex.build(recipe, dim, trained, lambda: [(np.arange(trained), rows[:trained])])
    index.add(np.arange(trained, 50_000), rows[trained:])
    ids, similarity = index.view().with_parameters({"nprobe": 4_096}).search(rows[:50], 2_000)
    expected = np.einsum("nd,nkd->nk", rows[:50], rows[ids])
    np.testing.assert_allclose(similarity, expected, atol=recipe.max_error, rtol=0)


@every_kind
@pytest.mark.parametrize("k", [1, pytest.param(200, marks=pytest.mark.slow), 3_000])
def test_k_live_rows_whatever_is_dead_and_however_many_are_asked_for(
    recipe: Recipe, k: int
) -> None:
    rows = clustered()
    index = built(small(recipe), rows)
    before = index.view()
    index.remove(np.arange(0, 1_400))
    ids, similarity = index.view().search(rows[:40], k)
    assert (ids >= 1_400).all()
    assert all(len(set(row)) == k for row in ids.tolist())
    assert (np.diff(similarity) <= 0).all()
    alive = np.arange(ROWS) >= 1_400
    assert recall(ids, rows, rows[:40], alive) > 0.6
    assert (
        before.search(rows[:40], 1)[0].ravel() == np.arange(40)
    ).mean() > 0.9  # the old view still has them


@every_kind
def test_all_rows_can_be_asked_for(recipe: Recipe) -> None:
    rows = clustered()
    view = built(small(recipe), rows).view()
    ids, _ = view.search(rows[:2], ROWS + 5)
    assert (np.sort(ids[:, :ROWS], axis=1) == np.arange(ROWS)).all()
    assert (ids[:, ROWS:] == -1).all()


@every_kind
def test_compaction_keeps_what_was_learnt(recipe: Recipe) -> None:
    rows = clustered()
    index = built(small(recipe), rows)
    index.remove(np.arange(3_000))
    lists = index.view().lists
    index.compact()
    assert index.dead_share == 0
    assert index.view().lists == lists
    ids, similarity = index.view().search(rows[3_000:3_100], 5)
    assert (ids[:, 0] == np.arange(3_000, 3_100)).mean() > 0.9
    np.testing.assert_allclose(
        similarity,
        np.einsum("nd,nkd->nk", rows[3_000:3_100], rows[ids]),
        atol=2 * recipe.max_error,
        rtol=0,
    )


@every_kind
def test_a_view_as_arrays_leaves_out_what_came_later(recipe: Recipe) -> None:
    rows = clustered()
    index = built(small(recipe), rows[:5_000])
    view = index.view()
    index.add(np.arange(5_000, ROWS), rows[5_000:])
    again = LiveIndex.from_arrays(small(recipe), DIM, view.to_arrays())
    assert len(again.view()) == 5_000
    assert again.view().lists == view.lists
    assert (again.view().search(rows[5_000:5_050], 10)[0] < 5_000).all()
    again.add(np.arange(5_000, ROWS), rows[5_000:])
    same = again.view().search(rows[:50], 10), index.view().search(rows[:50], 10)
    assert recall(same[0][0], rows, rows[:50]) == pytest.approx(
        recall(same[1][0], rows, rows[:50]), abs=0.02
    )


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipe, marks=[pytest.mark.slow] * (recipe.name in ALIKE))
        for recipe in list_recipes()
    ],
    ids=lambda recipe: recipe.name,
)
def test_a_large_index_is_compacted_while_it_is_searched_and_changed(
    recipe: Recipe, caplog: pytest.LogCaptureFixture
) -> None:
    rows = clustered()
    index = built(small(recipe) if recipe.training else recipe, rows)
    index.inline_rows = 1_000
    before = index.view()
    wrong: list[str] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            view = index.view()
            ids, _ = view.search(rows[4_000:4_020], 3)
            if (ids < 0).any() or ids[0, 0] not in (4_000, 10_000):
                wrong.append(str(ids[0]))

    searcher = threading.Thread(target=search)
    searcher.start()
    index.remove(np.arange(2_500))  # due: a thread begins
    for i in range(200):  # meanwhile rows come, go and change
        index.add([20_000 + i], rows[i : i + 1])
        index.remove([2_500 + i])
    index.remove([3_000])
    index.add([3_000], rows[4_500:4_501])
    index.settle()
    stop.set()
    searcher.join()
    assert not wrong
    assert not own_messages(caplog)
    assert len(index.view()) == ROWS - 2_500
    assert index.dead_share < 0.1
    view = index.view()
    ids, _ = view.search(rows[:200], 1)
    assert np.isin(ids.ravel(), 20_000 + np.arange(200)).mean() > 0.9
    found = view.search(rows[4_500:4_501], 2)[0]
    assert set(found.ravel().tolist()) == {3_000, 4_500}
    assert (before.search(rows[:200], 1)[0].ravel() == np.arange(200)).mean() > 0.9


# A space

SUPPORTS = 20_200


def supports(count: int = SUPPORTS) -> np.ndarray:
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(count // 40, VERIFIER)) * 2
    return (np.repeat(centres, 40, axis=0) + rng.normal(size=(count, VERIFIER))).astype(np.float32)


def inputs(first: int, end: int) -> list[trustvlm.LabelInput]:
    vectors = supports()
    return [
        replace(label(i), image_vectors=vectors[40 * i : 40 * i + 40]) for i in range(first, end)
    ]


@pytest.fixture(scope="module")
def untrained_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """19,600 support images: too few to train an index with."""
    folder = tmp_path_factory.mktemp("trained") / "untrained"
    with trustvlm.open(folder, create=True) as service:
        service.create_space(
            "space",
            classifier=f"precomputed:{CLASSIFIER}",
            verifier=f"precomputed:{VERIFIER}",
            recipe="ivf-flat",
        )
        service.register("space", inputs(0, 490))
    return folder


@pytest.fixture(scope="module")
def home(untrained_home: Path) -> Path:
    folder = shutil.copytree(untrained_home, untrained_home.with_name("home"))
    with trustvlm.open(folder) as service:
        service.register("space", inputs(490, SUPPORTS // 40))
    return folder


@pytest.mark.slow  # by default: test_the_commands
@pytest.mark.parametrize("recipe", ["ivf-sq8", "ivf-flat", "hnsw"])
def test_a_space_changes_to_the_recipe_and_is_tuned(home: Path, recipe: str) -> None:
    asked = trustvlm.Queries(verifier=supports()[::2_000])
    with trustvlm.open(home) as other, trustvlm.open(home) as service:
        service.rebuild_index("space", recipe="flat")
        exact = other.search("space", asked, kind="support", k=10)
        service.rebuild_index("space", recipe=recipe)
        files = [path.name for path in home.rglob("*.snapshot")]
        assert "1.verifier-supports.snapshot" in files
        (tuned,) = [row for row in service.tune_index("space", recall=0.9) if row.kind == "support"]
        assert tuned.rows == SUPPORTS
        assert tuned.recall >= 0.9
        assert tuned.value is not None
        assert service.index_stats("space").search == {"support": {tuned.parameter: tuned.value}}
        for which in (service, other):  # `other` has the space open all along
            hits = which.search("space", asked, kind="support", k=10)
            assert (hits.ids[:, 0] == exact.ids[:, 0]).mean() >= 0.8
            np.testing.assert_allclose(hits.similarity[:, 0], exact.similarity[:, 0], atol=0.03)
        if recipe == "ivf-sq8":
            with pytest.raises(
                Conflict,
                match=r"recipe 'ivf-sq8' finds 0\.9\d+ of the 10 nearest supports at most, not 1",
            ):
                service.tune_index("space", recall=1.0)
        # What is registered now is found by both at once, and with the recipe of another one
        # nothing is left of the tuning.
        new = replace(label(9_000), image_vectors=np.eye(VERIFIER, dtype=np.float32)[:1])
        service.register("space", [new])
        for which in (service, other):
            found = which.search(
                "space", trustvlm.Queries(verifier=np.eye(VERIFIER)[:1]), kind="support", k=1
            )
            assert found.labels[0, 0] == new.name
        service.remove_label("space", new.name, purge=True)
        assert "1.verifier-supports.snapshot" not in [
            path.name for path in home.rglob("*.snapshot")
        ]
        service.rebuild_index("space", recipe="flat")
        assert service.index_stats("space").search == {}


def test_an_index_that_grows_is_trained_behind_the_queries(
    untrained_home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    home = shutil.copytree(untrained_home, tmp_path / "home")
    with trustvlm.open(home) as service, caplog.at_level(logging.WARNING, "trustvlm"):
        asked = trustvlm.Queries(verifier=supports()[:8])
        small_hits = service.search("space", asked, kind="support", k=5)  # 19,600 rows: exact
        service.register("space", inputs(490, 505))
        hits = service.search(
            "space", asked, kind="support", k=5
        )  # 20,200: still the exact one, and training begins
        assert hits.ids[:, 0].tolist() == small_hits.ids[:, 0].tolist()
        snapshot = home / "snapshots" / "1.verifier-supports.snapshot"
        until(snapshot.exists)
        assert (
            service.search("space", asked, kind="support", k=5).ids[:, 0].tolist()
            == small_hits.ids[:, 0].tolist()
        )
        (tuned,) = [row for row in service.tune_index("space") if row.kind == "support"]
        assert tuned.parameter == "nprobe"
    assert not own_messages(caplog)
    with trustvlm.open(home) as service:  # another process would start from the file
        assert (
            service.search("space", asked, kind="support", k=1).ids.ravel().tolist()
            == small_hits.ids[:, 0].tolist()
        )


@pytest.mark.slow  # by default: test_the_commands, of support images
@pytest.mark.parametrize("half_from", ["1000", pytest.param("1000000000", marks=pytest.mark.slow)])
def test_prototypes_are_searched_in_part_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_from: str
) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", half_from)
    set_thresholds(tmp_path, dense_labels=1)  # so few are all compared, else
    count, rng = 5_200, np.random.default_rng(2)
    texts, images = clustered(count, CLASSIFIER, seed=3), clustered(count, VERIFIER, seed=4)
    chosen = rng.integers(0, count, 40)
    asked = trustvlm.Queries(
        texts[chosen] + 0.02 * rng.normal(size=(40, CLASSIFIER)),
        images[chosen] + 0.02 * rng.normal(size=(40, VERIFIER)),
    )
    with trustvlm.open(tmp_path, create=True) as service:
        service.create_space(
            "space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}"
        )
        service.register(
            "space",
            [
                trustvlm.LabelInput(f"label {i}", text, image_vectors=image[np.newaxis])
                for i, (text, image) in enumerate(zip(texts, images, strict=True))
            ],
        )
        exact = service.score("space", asked, rule="trustvlm")
        service.rebuild_index("space", recipe="hnsw")
        found = service.score("space", asked, rule="trustvlm")
        assert found.approximate
        assert found.error_bound <= 1e-3
        assert (found.label == exact.label).all()
        np.testing.assert_allclose(found.trust, exact.trust, atol=2e-3)
        assert (found.nearest_prototype == exact.nearest_prototype).mean() > 0.9
        tuned = {row.kind: row for row in service.tune_index("space", recall=0.95)}
        assert tuned["prototype"].recall >= 0.95
        assert (
            service.score("space", asked).nearest_prototype == exact.nearest_prototype
        ).mean() > 0.9
        service.register(
            "space", [trustvlm.LabelInput("new", texts[0] * -1, image_vectors=images[:1] * -1)]
        )
        new = service.score("space", trustvlm.Queries(texts[:1] * -1, images[:1] * -1))
        assert (new.label[0], new.nearest_prototype[0]) == ("new", "new")
        service.remove_label("space", "new")
        assert (
            service.score("space", trustvlm.Queries(texts[:1] * -1, images[:1] * -1)).label[0]
            != "new"
        )


def test_nothing_to_tune_and_too_much_asked_for(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path, create=True) as service:
        service.create_space(
            "space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}"
        )
        with pytest.raises(InvalidInput, match="nothing to search"):
            service.tune_index("space")
        service.register("space", [label(i) for i in range(20)])
        assert {row.parameter for row in service.tune_index("space")} == {None}
        assert all(row.recall == 1.0 for row in service.tune_index("space", recall=1.0))
        for bad in (0.0, 1.1, "0.9", True, float("nan")):
            with pytest.raises(InvalidInput, match="recall"):
                service.tune_index("space", recall=bad)
        for k in (0, 2.0, 10_000):
            with pytest.raises(InvalidInput, match="k:"):
                service.tune_index("space", k=k)
        with pytest.raises(trustvlm.NotFound):
            service.tune_index("other")


def test_suggestions_follow_size_and_patience() -> None:
    recipes = list_recipes()

    def taken(rows: int, budget: float = 25.0, dim: int = 768) -> str:
        (chosen,) = [row for row in estimate(recipes, rows, dim, budget) if row.chosen]
        return chosen.recipe

    assert taken(0) == taken(1_000) == taken(20_000) == "flat"
    assert taken(10_000_000) == "ivf-sq8"
    assert taken(1_000_000, budget=1e9) == "flat"
    order = [taken(rows) for rows in (1_000, 100_000, 200_000, 400_000, 1_000_000, 5_000_000)]
    assert [name for i, name in enumerate(order) if name not in order[:i]] in (
        ["flat", "ivf-sq8"],
        ["flat", "flat-fp16", "ivf-sq8"],
    )
    rows = {row.recipe: row for row in estimate(recipes, 1_000_000, 768, 25.0, "flat")}
    assert rows["flat"].megabytes == pytest.approx(3_072)
    assert (
        rows["ivf-sq8"].megabytes
        < rows["flat-fp16"].megabytes
        < rows["flat"].megabytes
        < rows["hnsw"].megabytes
    )
    assert [name for name, row in rows.items() if row.current] == ["flat"]
    assert rows["ivf-sq8"].milliseconds < rows["flat"].milliseconds / 4
    tiny = {row.recipe: row for row in estimate(recipes, 1_000, 768, 25.0)}
    assert "exact index up to 5,000 rows" in tiny["hnsw"].why
    with pytest.raises(InvalidInput, match="measured"):
        estimate([replace(recipe, measured={}) for recipe in recipes], 1_000, 768, 25.0)


def test_the_commands(cli, home: Path) -> None:
    cli("--home", str(home), "index", "rebuild", "space", "--recipe", "flat")
    suggested = cli("--home", str(home), "index", "suggest", "space")
    assert re.search(r"^(keep|take) ", suggested, re.MULTILINE)
    fast = cli("--home", str(home), "index", "suggest", "space", "--ms", "0.001")
    assert re.search(r" index rebuild space --recipe \S+$", fast, re.MULTILINE)
    assert "index tune space --recall 0.95" in fast
    assert "'--ms'" in cli("--home", str(home), "index", "suggest", "space", "--ms", "0", code=2)
    assert "nothing to tune" in cli("--home", str(home), "index", "tune", "space")
    cli("--home", str(home), "index", "rebuild", "space", "--recipe", "ivf-flat")
    tuned = cli("--home", str(home), "index", "tune", "space", "--recall", "0.9", "-k", "5")
    assert re.search(r"^support +20,200 +nprobe = \d+ +(0\.9\d\d|1\.000) ", tuned, re.MULTILINE)
    assert "nprobe" in cli("--home", str(home), "index", "stats", "space")
    assert "no space" in cli("--home", str(home), "index", "tune", "other", code=3)
