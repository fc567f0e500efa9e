"""The contract of test_index.py on a GPU: on a stand-in with its restrictions, and, with ``pytest -m
gpu``, on a CUDA device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import ClassVar

import faiss
import numpy as np
import pytest
from test_index import DIM, LISTS, IndexContract, Model, TrainedContract, check, units

from benchmarks.gpu_stand_in import Refused, stand_in
from trustvlm.errors import InvalidInput
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import Recipe, load_recipe


class GpuContract(IndexContract):
    device = "cuda"

    def test_it_is_on_the_gpu(self, recipe: Recipe) -> None:
        index = self.index(recipe)
        assert index.view().on_gpu
        index.add([1], units(np.random.default_rng(0), 1))
        index.compact()
        assert index.view().on_gpu
        assert index.view().on_cpu is None

    def test_from_gpu_to_cpu_and_back(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(0)
        index, rows = self.index(recipe), units(rng, 9000)
        index.add(range(9000), rows)
        model, queries = Model(dict(enumerate(rows))), units(rng, 8)
        on_cpu = LiveIndex.from_arrays(recipe, DIM, index.view().to_arrays())
        assert not on_cpu.view().on_gpu
        check(on_cpu.view(), model, queries, 10)
        back = LiveIndex.from_arrays(recipe, DIM, on_cpu.view().to_arrays(), self.device)
        assert back.view().on_gpu
        check(back.view(), model, queries, 10)
        np.testing.assert_array_equal(
            back.view().to_arrays()["faiss"], index.view().to_arrays()["faiss"]
        )


class ExactOnGpu(GpuContract):
    recipes: ClassVar = [load_recipe(name) for name in ("flat", "flat-fp16")]


class TrainedOnGpu(GpuContract, TrainedContract):
    recipes = TrainedContract.recipes

    @pytest.mark.parametrize("k", [1, 511, 512, 2_047])
    def test_as_many_as_a_gpu_selects_and_one_more(self, recipe: Recipe, k: int) -> None:
        rng, dim = np.random.default_rng(1), 64
        index, model = self.index(recipe, dim), Model()
        model.put(list(range(4_000)), units(rng, 4_000, dim))
        index.add(range(4_000), np.stack(list(model.rows.values())))
        index.remove(range(0, 4_000, 8))
        model.drop(list(range(0, 4_000, 8)))
        check(index.view(), model, units(rng, 3, dim), k)
        assert index.view().on_gpu

    def test_trained_again_for_more_rows(self, recipe: Recipe) -> None:
        rng = np.random.default_rng(2)
        training = {"from_rows": 500, "lists_per_root": 0.4, "rows_per_list": 60}
        recipe = replace(recipe, training=training)
        rows, model = units(rng, 5_000), Model()
        index = LiveIndex(recipe, DIM, device=self.device)
        for start in range(0, 5_000, 500):
            ids = np.arange(start, start + 500)
            index.add(ids, rows[ids])
            model.put(ids.tolist(), rows[ids])
            index.remove(ids[:20])
            model.drop(ids[:20].tolist())
            check(index.view(), model, units(rng, 3), 10)
            if (view := index.view()).outgrown:
                blocks = [(np.array(list(model.rows)), np.stack(list(model.rows.values())))]
                index = LiveIndex.build(
                    recipe, DIM, len(view), lambda blocks=blocks: blocks, device=self.device
                )
                assert index.view().on_gpu
                index.search_with({"nprobe": 4_096})  # of every list there is
                check(index.view(), model, units(rng, 3), 10)
        assert index.view().lists > LISTS


@pytest.fixture
def gpu() -> Iterator[None]:
    with stand_in():
        yield


@pytest.mark.usefixtures("gpu")
class TestExactOnStandIn(ExactOnGpu):
    pass


@pytest.mark.slow  # by default: TestExactOnStandIn, and the same tests on the processor
@pytest.mark.usefixtures("gpu")
class TestTrainedOnStandIn(TrainedOnGpu):
    pass


@pytest.fixture
def card() -> None:
    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss is built without GPU support")
    if not faiss.get_num_gpus():
        pytest.skip("faiss sees no GPU on this machine")


@pytest.mark.gpu
@pytest.mark.usefixtures("card")
class TestExactOnCard(ExactOnGpu):
    pass


@pytest.mark.gpu
@pytest.mark.usefixtures("card")
class TestTrainedOnCard(TrainedOnGpu):
    pass


def some(index: LiveIndex, n: int = 1_000) -> Model:
    rows = units(np.random.default_rng(0), n, index.dim)
    index.add(range(n), rows)
    return Model(dict(enumerate(rows)))


@pytest.mark.usefixtures("gpu")
def test_what_faiss_cannot_put_on_a_gpu_stays_on_the_cpu_and_says_why(
    caplog: pytest.LogCaptureFixture,
) -> None:
    recipe = replace(load_recipe("hnsw"), name="graph", training={})
    sentence = (
        "recipe 'graph' (HNSW32,Flat) is searched on the CPU: faiss has no such index on a GPU"
    )
    index = LiveIndex(recipe, DIM, device="cuda")
    LiveIndex(recipe, DIM, device="cuda")
    assert (index.view().on_gpu, index.view().on_cpu) == (False, sentence)
    assert [record.getMessage() for record in caplog.records] == [sentence]
    some(index)
    index.compact()
    assert (index.view().on_gpu, index.view().on_cpu) == (False, sentence)


def test_a_gpu_without_memory_left_is_left(caplog: pytest.LogCaptureFixture) -> None:
    with stand_in(memory=1_500 * 4 * DIM):
        index = LiveIndex(load_recipe("flat"), DIM, device="cuda")
        model = some(index)
        first = index.view()
        assert first.on_gpu
        rows = units(np.random.default_rng(1), 1_000)
        index.add(range(1_000, 2_000), rows)
        after = Model(model.rows | {1_000 + i: row for i, row in enumerate(rows)})
        assert not index.view().on_gpu
        assert "out of memory" in str(index.view().on_cpu)
        for view, expected in ((first, model), (index.view(), after)):
            check(view, expected, units(np.random.default_rng(2), 5), 10)
        index.remove(range(1_000, 2_000))  # which compacts it: what is left has room again
        assert index.view().on_gpu
        check(index.view(), model, units(np.random.default_rng(3), 5), 10)
    assert len(caplog.records) == 1


@pytest.mark.usefixtures("gpu")
def test_8_bits_beyond_the_dimensions_that_a_gpu_has_room_for() -> None:
    recipe = replace(load_recipe("ivf-sq8"), search={"nprobe": 4})
    rows = units(np.random.default_rng(3), 60, 3_073)

    def built(dim: int) -> LiveIndex:
        blocks = [(np.arange(60), rows[:, :dim] / np.linalg.norm(rows[:, :dim], axis=1)[:, None])]
        return LiveIndex.build(recipe, dim, 60, lambda: blocks, device="cuda", lists=4)

    most, more = built(3_072), built(3_073)
    assert most.view().on_gpu
    assert most.view().search(rows[:2, :3_072], 60)[0].shape == (2, 60)
    assert "up to 3072 dimensions, not 3073" in str(more.view().on_cpu)


@pytest.mark.usefixtures("gpu")
def test_more_lists_than_a_gpu_searches() -> None:
    recipe = replace(load_recipe("ivf-flat"), search={"nprobe": 3_000})
    rows = units(np.random.default_rng(4), 3_000)
    blocks = [(np.arange(3_000), rows)]
    index = LiveIndex.build(recipe, DIM, 3_000, lambda: blocks, device="cuda", lists=2_500)
    assert index.view().on_gpu
    ids, _ = index.view().search(rows[:50], 3)
    assert (ids[:, 0] == np.arange(50)).all()
    ids, _ = index.view().search(rows[:2], 3_000)
    assert (np.sort(ids, axis=1) == np.arange(3_000)).all()


@pytest.mark.usefixtures("gpu")
def test_the_stand_in_refuses_what_a_gpu_cannot_do() -> None:
    cpu = faiss.index_factory(8, "IVF4,SQ8", faiss.METRIC_INNER_PRODUCT)
    rows = units(np.random.default_rng(5), 300, 8)
    cpu.train(rows)
    cpu.add(rows)
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(0)
    options = faiss.GpuClonerOptions()
    options.use_cuvs = False
    index = faiss.index_cpu_to_gpu(resources, 0, cpu, options)
    selector = faiss.SearchParametersIVF(sel=faiss.IDSelectorRange(0, 5))
    plain = faiss.SearchParametersIVF(nprobe=4)
    assert index.search(rows[:2], 5, params=plain)[1].shape == (2, 5)
    for refused in (
        lambda: index.search(rows[:2], 5, params=selector),
        lambda: index.search(rows[:2], 5),
        lambda: index.search(rows[:2], 513, params=plain),
        lambda: index.search(rows[:2], 2_049, params=plain),
        lambda: index.search(rows[:2], 5, params=faiss.SearchParametersIVF(nprobe=2_049)),
        lambda: index.remove_ids(np.arange(3)),
        lambda: index.reconstruct(0),
        lambda: index.reconstruct_batch(np.arange(3)),
    ):
        with pytest.raises(Refused):
            refused()
    with pytest.raises((TypeError, AttributeError, Refused)):
        faiss.serialize_index(index)
    with resources.alone(), pytest.raises(Refused):
        index.search(rows[:2], 5, params=plain)


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
@pytest.mark.usefixtures("gpu")
def test_names_of_a_gpu(device: str) -> None:
    assert LiveIndex(load_recipe("flat"), DIM, device=device).view().on_gpu
    with pytest.raises(InvalidInput, match="device"):
        LiveIndex(load_recipe("flat"), DIM, device="cuda:")
