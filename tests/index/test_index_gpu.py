"""The contract of test_index.py on a CUDA device; run with ``pytest -m gpu``."""

from __future__ import annotations

import numpy as np
import pytest
from test_index import DIM, IndexContract, Model, check, every_recipe, units

from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import Recipe

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    import faiss

    if not hasattr(faiss, "StandardGpuResources"):
        pytest.skip("this faiss is built without GPU support")
    if not faiss.get_num_gpus():
        pytest.skip("faiss sees no GPU on this machine")


class TestOnGpu(IndexContract):
    device = "cuda"

    @every_recipe
    def test_it_is_on_the_gpu(self, recipe: Recipe) -> None:
        index = self.index(recipe)
        assert index.view().on_gpu
        index.compact()
        assert index.view().on_gpu

    @every_recipe
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
