"""LiveIndex against brute force: the contract of every recipe, on the CPU here and on a GPU in
test_index_gpu.py."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from trustvlm.errors import Damaged, InvalidInput, NotFound
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.locks import SharedLock
from trustvlm.index.recipe import Recipe, list_recipes, load_recipe

DIM, LISTS, TRAINED = 12, 9, 2_000
RECIPES = list_recipes()
ALIKE = ("flat-fp16", "ivf-flat")
"""Recipes that another one of their kind stands for by default."""
every_recipe = pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.name)


def units(rng: np.random.Generator, n: int, dim: int = DIM) -> np.ndarray:
    rows = rng.normal(size=(n, dim))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def put_in_place(index: LiveIndex, ids: npt.ArrayLike, vectors: np.ndarray) -> None:
    """A changed row is a tombstone and a new row."""
    index.remove(ids)
    index.add(ids, vectors)


@dataclass
class Model:
    """What the index should hold, as a plain dict."""

    rows: dict[int, np.ndarray] = field(default_factory=dict)

    def copy(self) -> Model:
        return Model(dict(self.rows))

    def put(self, ids: list[int], vectors: np.ndarray) -> None:
        self.rows.update(zip(ids, vectors, strict=True))

    def drop(self, ids: list[int]) -> None:
        for i in ids:
            del self.rows[i]


def check(view: IndexView, model: Model, queries: np.ndarray, k: int) -> None:
    """The view answers as brute force over the model does, up to what the recipe's rounding may
    swap."""
    ids, scores = view.search(queries, k)
    assert ids.shape == scores.shape == (len(queries), k)
    assert (ids.dtype, scores.dtype) == (np.int64, np.float32)
    assert len(view) == len(model.rows)
    found = min(k, len(model.rows))
    assert (ids[:, found:] == -1).all()
    assert (scores[:, found:] == -np.inf).all()
    if not found:
        return
    known = np.array(sorted(model.rows))
    rows = np.stack([model.rows[i] for i in known.tolist()])
    copies: dict[bytes, list[int]] = {}
    for i, row in zip(known.tolist(), rows, strict=True):
        copies.setdefault(row.tobytes(), []).append(i)
    truth = queries.astype(np.float64) @ rows.astype(np.float64).T
    slack = 2 * view.recipe.max_error if not view.recipe.exact else 2e-6
    for got, score, true in zip(ids[:, :found], scores[:, :found], truth, strict=True):
        assert len(set(got.tolist())) == found
        at = np.searchsorted(known, got)
        assert (known[at] == got).all()
        assert (np.diff(score) <= 0).all()
        np.testing.assert_allclose(score, true[at], atol=view.recipe.max_error, rtol=0)
        best = np.lexsort((known, -true))[:found]
        # The same ids, but where the true similarities are as near as rounding: there ranks may be
        # swapped.
        np.testing.assert_allclose(true[at], true[best], atol=slack, rtol=0)
        # Of equal vectors the smaller ids come first, and no larger one is there without them.
        seen: dict[bytes, int] = {}
        for i in got.tolist():
            key = model.rows[i].tobytes()
            assert copies[key][seen.get(key, 0)] == i
            seen[key] = seen.get(key, 0) + 1


operations = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "replace", "remove", "churn", "compact", "view", "reload"]),
        st.integers(0, 2**32 - 1),
    ),
    min_size=1,
    max_size=25,
)


class IndexContract:
    """What every recipe must do on every device; subclasses name both."""

    device = "cpu"
    recipes = RECIPES

    @classmethod
    def pytest_generate_tests(cls, metafunc: pytest.Metafunc) -> None:
        if "recipe" in metafunc.fixturenames:
            recipes = [
                pytest.param(one, marks=[pytest.mark.slow] * (one.name in ALIKE), id=one.name)
                for one in cls.recipes
            ]
            metafunc.parametrize("recipe", recipes)

    def index(self, recipe: Recipe, dim: int = DIM) -> LiveIndex:
        return LiveIndex(recipe, dim, device=self.device)

    @given(steps=operations)
    @settings(max_examples=5, suppress_health_check=[HealthCheck.differing_executors])
    def test_random_changes_with_views_on_the_way(
        self, recipe: Recipe, steps: list[tuple[str, int]]
    ) -> None:
        index, model = self.index(recipe), Model()
        pool = units(np.random.default_rng(1), 8)  # few vectors that many rows share
        views: list[tuple[IndexView, Model]] = []
        for step, seed in steps:
            rng = np.random.default_rng(seed)
            some = list(model.rows)[: int(rng.integers(0, 1 + len(model.rows)))]
            if step == "add":
                new = sorted(
                    {int(i) for i in rng.integers(0, 10_000, rng.integers(0, 60))} - set(model.rows)
                )
                rng.shuffle(new)
                vectors = np.where(
                    rng.random((len(new), 1)) < 0.5,
                    pool[rng.integers(0, 8, len(new))],
                    units(rng, len(new)),
                )
                index.add(new, vectors)
                model.put(new, vectors)
            elif step == "replace":
                vectors = units(rng, len(some))
                put_in_place(index, some, vectors)
                model.put(some, vectors)
            elif step == "churn" and some:
                for _ in range(300):  # enough dead rows for compaction to start by itself
                    vectors = units(rng, 1)
                    put_in_place(index, some[:1], vectors)
                model.put(some[:1], vectors)
            elif step == "remove":
                index.remove(some)
                model.drop(some)
            elif step == "compact":
                index.compact()
                assert index.dead_share == 0
            elif step == "reload":
                index = LiveIndex.from_arrays(recipe, DIM, index.view().to_arrays(), self.device)
            views.append((index.view(), model.copy()))
        queries = np.concatenate([pool[:3], units(np.random.default_rng(2), 2)])
        for view, then in views:
            for k in (1, 7, 200):
                check(view, then, queries, k)

    def test_a_thousand_replacements_of_the_nearest_row(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(3)
        index, model = self.index(recipe), Model()
        model.put(list(range(500)), units(rng, 500))
        index.add(list(range(500)), np.stack(list(model.rows.values())))
        query = units(rng, 1)
        for turn in range(1000):
            near = query + 0.05 * rng.normal(size=(1, DIM))
            near = (near / np.linalg.norm(near)).astype(np.float32)
            put_in_place(index, [77], near)
            model.put([77], near)
            if turn % 100 == 0:
                check(index.view(), model, query, 5)
        check(index.view(), model, query, 5)
        assert index.view().search(query, 1)[0].tolist() == [[77]]
        assert index.dead_share <= 0.5

    def test_dead_rows_before_the_live_ones_are_more_than_can_be_fetched(
        self, recipe: Recipe
    ) -> None:
        rng = np.random.default_rng(4)
        index, model = self.index(recipe), Model()
        query = units(rng, 1)
        model.put(list(range(12_000)), units(rng, 12_000))
        index.add(list(model.rows), np.stack(list(model.rows.values())))
        best = np.argsort(-(np.stack(list(model.rows.values())) @ query[0]))[:2900].tolist()
        index.remove(
            best
        )  # 2,900 of 12,000 stay under the share at which the index would compact itself
        model.drop(best)
        assert index.dead_share > 0.2
        check(index.view(), model, query, 10)
        check(index.view(), model, np.concatenate([query, units(rng, 3)]), 10)

    def test_rows_added_after_the_view_do_not_push_its_rows_out(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(5)
        index, model = self.index(recipe), Model()
        model.put(list(range(50)), units(rng, 50))
        index.add(list(model.rows), np.stack(list(model.rows.values())))
        query, view = units(rng, 1), index.view()
        index.add(range(100, 4100), np.repeat(query, 4000, axis=0))
        check(view, model, query, 10)
        assert index.view().search(query, 3)[0].tolist() == [[100, 101, 102]]

    def test_k_beyond_what_faiss_returns_and_beyond_the_rows(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(6)
        index, model = self.index(recipe), Model()
        model.put(list(range(5000)), units(rng, 5000))
        index.add(list(model.rows), np.stack(list(model.rows.values())))
        index.remove(list(range(0, 5000, 10)))
        model.drop(list(range(0, 5000, 10)))
        for k in (2047, 2048, 2049, 4500, 6000):
            check(index.view(), model, units(rng, 2), k)

    @pytest.mark.parametrize(
        "n", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (20, 200)), 1030]
    )
    def test_equal_vectors_by_id_in_batches_of_any_size(self, recipe: Recipe, n: int) -> None:
        # faiss rounds the scores of equal vectors differently in a large batch, from about this
        # dimension on.
        rng, dim = np.random.default_rng(n), 512
        index, model = self.index(recipe, dim), Model()
        ids = rng.permutation(1037).tolist()
        model.put(ids, units(rng, 60, dim)[rng.integers(0, 60, 1037)])
        index.add(ids, np.stack(list(model.rows.values())))
        check(index.view(), model, units(rng, n, dim), 25)

    def test_many_copies_of_one_vector(self, recipe: Recipe) -> None:
        row = units(np.random.default_rng(7), 1)
        index, model = self.index(recipe), Model()
        ids = np.random.default_rng(8).permutation(9000).tolist()
        model.put(ids, np.repeat(row, 9000, axis=0))
        index.add(ids, np.repeat(row, 9000, axis=0))
        assert index.view().search(row, 5)[0].tolist() == [[0, 1, 2, 3, 4]]
        check(index.view(), model, row, 2100)

    def test_nothing_to_search_and_nothing_to_ask(self, recipe: Recipe) -> None:
        index = self.index(recipe)
        check(index.view(), Model(), units(np.random.default_rng(0), 2), 3)
        assert index.view().search(np.empty((0, DIM), np.float32), 3)[0].shape == (0, 3)
        index.add([], np.empty((0, DIM), np.float32))
        index.add([5], units(np.random.default_rng(0), 1))
        index.remove([5])
        check(index.view(), Model(), units(np.random.default_rng(0), 2), 3)
        index.compact()
        check(index.view(), Model(), units(np.random.default_rng(0), 2), 3)
        assert len(index.view()) == 0

    def test_reload_and_go_on(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(9)
        index, model = self.index(recipe), Model()
        ids = rng.permutation(400).tolist()
        model.put(ids, units(rng, 400))
        index.add(ids, np.stack([model.rows[i] for i in ids]))
        index.remove(ids[:50])
        model.drop(ids[:50])
        again = LiveIndex.from_arrays(recipe, DIM, index.view().to_arrays(), self.device)
        queries = units(rng, 5)
        np.testing.assert_array_equal(
            again.view().search(queries, 20)[0], index.view().search(queries, 20)[0]
        )
        vectors = units(rng, 60)
        again.add(ids[:50], vectors[:50])
        put_in_place(again, ids[50:60], vectors[50:])
        model.put(ids[:60], vectors)
        check(again.view(), model, queries, 30)
        again.compact()
        check(again.view(), model, queries, 30)

    def test_threads_search_while_one_changes(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(10)
        index, model = self.index(recipe), Model()
        model.put(list(range(300)), units(rng, 300))
        index.add(list(range(300)), np.stack(list(model.rows.values())))
        states = [(index.view(), model.copy())]
        failures: list[BaseException] = []
        stop = threading.Event()

        def search(seed: int) -> None:
            own = np.random.default_rng(seed)
            try:
                while not stop.is_set():
                    view, then = states[int(own.integers(max(0, len(states) - 5), len(states)))]
                    check(
                        view, then, units(own, int(own.integers(1, 30))), int(own.integers(1, 40))
                    )
                    # Row 0 is replaced all the time: no view may show both of its versions.
                    newest = index.view()
                    ids = newest.search(units(own, 1), len(newest))[0]
                    assert (ids == 0).sum() <= 1
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=search, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        try:
            end = time.monotonic() + 0.15
            new = 1000
            while (time.monotonic() < end or len(states) <= 3) and not failures:
                for _ in range(25):
                    vector = units(rng, 1)
                    put_in_place(index, [0], vector)
                    model.put([0], vector)
                vectors = units(rng, 20)
                index.add(range(new, new + 20), vectors)
                model.put(list(range(new, new + 20)), vectors)
                new += 20
                gone = rng.choice([i for i in model.rows if i], 20, replace=False).tolist()
                index.remove(gone)
                model.drop(gone)
                if rng.random() < 0.2:
                    index.compact()
                states.append((index.view(), model.copy()))
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not failures
        assert len(states) > 3

    def test_bad_input_changes_nothing(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(11)
        index, model = self.index(recipe), Model()
        model.put([1, 2, 3], units(rng, 3))
        index.add([1, 2, 3], np.stack(list(model.rows.values())))
        good = units(rng, 2)
        bad_vectors = [
            good[0],
            good[:, :5],
            good[:1],
            np.zeros_like(good),
            good * 2,
            good.astype(int),
            good.astype(str),
        ]
        for value in (np.nan, np.inf, -np.inf):
            bad_vectors.append(good.copy())
            bad_vectors[-1][1, 4] = value
        bad_vectors.append(good.astype(np.float64) * 1e300)
        for vectors in bad_vectors:
            with pytest.raises(InvalidInput):
                index.add([8, 9], vectors)
        for ids in (
            [8, 8],
            [3, 9],
            [-1, 9],
            [0.5, 9.0],
            [[8, 9]],
            ["a", "b"],
            [True, False],
            [8, 2**63],
        ):
            with pytest.raises(InvalidInput):
                index.add(ids, good)
        with pytest.raises(InvalidInput):
            index.remove([1, 1])
        with pytest.raises(NotFound, match="9"):
            index.remove([1, 9])
        for queries, k in [
            (good[0], 1),
            (good[:, :5], 1),
            (good * np.nan, 1),
            (good * 1e30, 1),
            (good, 0),
            (good, -1),
            (good, 1.5),
        ]:
            with pytest.raises(InvalidInput):
                index.view().search(queries, k)
        check(index.view(), model, good, 5)

    def test_other_floats_are_converted(self, recipe: Recipe) -> None:
        index, rows = self.index(recipe), units(np.random.default_rng(12), 4)
        index.add(np.arange(2, dtype=np.uint16), rows[:2].astype(np.float64))
        index.add((2, 3), np.asfortranarray(rows[2:]))
        model = Model(dict(enumerate(rows)))
        check(index.view(), model, rows.astype(np.float64), 3)


class TestOnCpu(IndexContract):
    pass


class TrainedContract(IndexContract):
    """The contract of indexes that are trained, all of whose lists are searched: they compare every
    row, as an exact one does."""

    recipes: ClassVar = [
        replace(
            load_recipe(name),
            search={"nprobe": LISTS},
            training={"from_rows": 0, "lists_per_root": 0, "rows_per_list": TRAINED / LISTS},
        )
        for name in ("ivf-flat", "ivf-sq8")
    ]

    def index(self, recipe: Recipe, dim: int = DIM) -> LiveIndex:
        sample, ids = units(np.random.default_rng(14), TRAINED, dim), np.arange(TRAINED)
        blocks = [(ids, sample)]
        index = LiveIndex.build(
            recipe, dim, TRAINED, lambda: blocks, device=self.device, lists=LISTS
        )
        index.remove(ids)
        index.compact()
        assert index.view().lists == LISTS
        return index


class TestTrainedOnCpu(TrainedContract):
    pass


def test_importing_the_package_imports_neither_faiss_nor_torch() -> None:
    code = "import sys, trustvlm.index; assert not {'faiss', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_gpu_that_is_not_there_is_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "trustvlm"):
        index = LiveIndex(load_recipe("flat"), DIM, device="cuda:99")
        rows = units(np.random.default_rng(0), 5)
        index.add(range(5), rows)
        index.compact()
        LiveIndex.from_arrays(index.recipe, DIM, index.view().to_arrays(), "cuda:99")
    assert [record.name for record in caplog.records] == ["trustvlm"]
    assert "cuda:99" in caplog.text
    assert (index.device, index.view().on_gpu) == ("cpu", False)
    check(index.view(), Model(dict(enumerate(rows))), rows, 3)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cuda0", ""])
def test_unknown_device(device: str) -> None:
    with pytest.raises(InvalidInput, match="device"):
        LiveIndex(load_recipe("flat"), DIM, device=device)


def test_recipes_faiss_cannot_build() -> None:
    flat = load_recipe("flat")
    with pytest.raises(InvalidInput, match="Nonsense"):
        LiveIndex(replace(flat, factory="Nonsense"), DIM)
    with pytest.raises(InvalidInput, match="nprobe"):
        LiveIndex(replace(flat, search={"nprobe": 4}), DIM)
    with pytest.raises(InvalidInput, match="training"):
        LiveIndex(replace(flat, factory="IVF4,Flat"), DIM)
    with pytest.raises(InvalidInput, match="dim"):
        LiveIndex(flat, 0)


def test_an_approximate_recipe_with_search_parameters_answers_k_live_rows() -> None:
    graph = replace(
        load_recipe("flat"), name="graph", factory="HNSW16", exact=False, search={"efSearch": 32}
    )
    rng = np.random.default_rng(13)
    rows = units(rng, 2000)
    index = LiveIndex(graph, DIM)
    index.add(range(2000), rows)
    index.remove(range(400))
    queries = units(rng, 20)
    ids, scores = index.view().search(queries, 50)
    truth = np.argsort(-(queries @ rows[400:].T))[:, :50] + 400
    recall = np.mean([len(np.intersect1d(a, b)) / 50 for a, b in zip(ids, truth, strict=True)])
    assert recall > 0.9
    assert (np.diff(scores) <= 0).all()
    assert (ids >= 400).all()
    assert (index.view().search(queries, 1600)[0] >= 400).all()


@every_recipe
def test_arrays_that_do_not_belong_together(recipe: Recipe) -> None:
    index = LiveIndex(recipe, DIM)
    index.add(range(5), units(np.random.default_rng(0), 5))
    arrays = index.view().to_arrays()
    other = load_recipe("flat" if recipe.name == "flat-fp16" else "flat-fp16")
    wrong = [
        {name: array for name, array in arrays.items() if name != "alive"},
        arrays | {"ids": arrays["ids"][:4]},
        arrays | {"ids": np.zeros(5, np.int64)},
        arrays | {"ids": np.full(5, -1)},
        arrays | {"alive": arrays["alive"].astype(np.uint8)},
        arrays | {"faiss": arrays["faiss"][:20]},
        arrays | {"faiss": np.zeros(100, np.uint8)},
        arrays | {"faiss": np.zeros(0, np.uint8)},
    ]
    for damaged in wrong:
        with pytest.raises(Damaged):
            LiveIndex.from_arrays(recipe, DIM, damaged)
    with pytest.raises(Damaged):
        LiveIndex.from_arrays(other, DIM, arrays)
    with pytest.raises(Damaged):
        LiveIndex.from_arrays(recipe, DIM + 4, arrays)


def test_a_stream_of_readers_does_not_starve_the_writer() -> None:
    lock, stop, order = SharedLock(), threading.Event(), []
    inside = [0]

    def read() -> None:
        while not stop.is_set():
            with lock.shared():
                assert inside[0] == 0
                time.sleep(0.002)

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    start = time.monotonic()
    for turn in range(50):
        with lock.exclusive():
            inside[0] += 1
            order.append(turn)
            inside[0] -= 1
    waited = time.monotonic() - start
    stop.set()
    for reader in readers:
        reader.join()
    assert order == list(range(50))
    assert waited < 10


def test_readers_do_not_wait_for_each_other() -> None:
    lock, both = SharedLock(), threading.Barrier(2, timeout=10)

    def read() -> None:
        with lock.shared():
            both.wait()  # passes only when two are inside at once

    other = threading.Thread(target=read)
    other.start()
    read()
    other.join()
