"""A stand-in for a GPU of faiss: every restriction of the real one, on the CPU.

What an index on a GPU cannot do is refused here with an error that nothing catches. It computes
with faiss's CPU indexes; similarities are off by what a GPU rounds differently.

    with stand_in():
        LiveIndex(load_recipe("ivf-flat"), 512, device="cuda")
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import faiss
import numpy as np

from trustvlm.index import gpu

__all__ = ["Refused", "stand_in"]

ROUNDING = 2e-7
SHARED_MEMORY = 48 << 10


class Refused(BaseException):
    """A call that a GPU cannot do: a mistake of the caller."""


def require(fine: bool, what: str) -> None:
    if not fine:
        raise Refused(what)


class Resources:
    """A card of `memory` bytes."""

    memory = 0

    def __init__(self) -> None:
        self.process, self.busy, self.taken, self.scratch = os.getpid(), threading.Lock(), 0, -1

    def setTempMemory(self, size: int) -> None:
        self.scratch = size

    @contextmanager
    def alone(self) -> Iterator[None]:
        require(self.process == os.getpid(), "a fork uses the GPU of its parent")
        require(self.busy.acquire(blocking=False), "two threads use one resources object")
        try:
            yield
        finally:
            self.busy.release()

    def take(self, size: int) -> None:
        """Raises RuntimeError as faiss does when the memory does not suffice."""
        if self.taken + size > self.memory:
            raise RuntimeError(
                "Error in virtual void* StandardGpuResourcesImpl::allocMemory at a.cpp:1: Error: "
                f"'err == cudaSuccess' failed: StandardGpuResources: alloc fail size {size} "
                "(cudaMalloc error out of memory [2])\n"
            )
        self.taken += size


class GpuIndex:
    """What remains of `index` on a GPU; anything that it has no attribute for is refused."""

    def __init__(self, resources: Resources, index: Any) -> None:
        self._resources, self._index, self._held = resources, faiss.clone_index(index), 0
        self._eight_bit = isinstance(index, faiss.IndexIVFScalarQuantizer)
        self._half = isinstance(index, faiss.IndexScalarQuantizer)
        self._rng = np.random.default_rng(0)
        self._hold()

    def __getattr__(self, name: str) -> Any:
        raise Refused(f"an index on a GPU has no {name!r}")

    def __del__(self) -> None:
        self._resources.taken -= self._held

    def _hold(self) -> None:
        size = self.ntotal * self._index.sa_code_size() - self._held
        self._resources.take(size)
        self._held += size

    @property
    def ntotal(self) -> int:
        return int(self._index.ntotal)

    def add(self, vectors: np.ndarray) -> None:
        require(vectors.dtype == np.float32 and vectors.flags.c_contiguous, "not float32 rows")
        with self._resources.alone():
            self._index.add(vectors)
            self._hold()

    def search(
        self, queries: np.ndarray, k: int, *, params: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        require(queries.dtype == np.float32 and queries.flags.c_contiguous, "not float32 queries")
        require(0 < k <= 2048, f"k = {k}")
        selecting = 12 * (4 * k if k <= 512 else 4096)
        coding = 8 * self._index.d if self._eight_bit else 0
        require(selecting + coding <= SHARED_MEMORY, f"8 bits, {self._index.d} values, k = {k}")
        if isinstance(self._index, faiss.IndexIVF):
            require(type(params) is faiss.SearchParametersIVF, f"parameters {params!r}")
            require(params.sel is None, "a selector")
            require(0 < params.nprobe <= 2048, f"nprobe = {params.nprobe}")
        else:
            require(params is None, "parameters of a flat index")
        if self._half:
            queries = queries.astype(np.float16).astype(np.float32)
        with self._resources.alone():
            scores, slots = self._index.search(queries, k, params=params)
        lengths = np.maximum(1, np.linalg.norm(queries, axis=1, keepdims=True))
        noise = self._rng.uniform(-ROUNDING, ROUNDING, scores.shape) * lengths
        scores = np.where(slots < 0, np.finfo(np.float32).min, scores + noise).astype(np.float32)
        order = np.argsort(-scores, axis=1, kind="stable")
        return np.take_along_axis(scores, order, 1), np.take_along_axis(slots, order, 1)


def index_cpu_to_gpu(resources: Resources, number: int, index: Any, options: Any) -> GpuIndex:
    require(number == 0 and not options.use_cuvs and resources.scratch >= 0, "the clone")
    kinds = (faiss.IndexFlat, faiss.IndexIVFFlat, faiss.IndexIVFScalarQuantizer)
    half = (
        isinstance(index, faiss.IndexScalarQuantizer)
        and index.sq.qtype == faiss.ScalarQuantizer.QT_fp16
    )
    if not (half or isinstance(index, kinds)):
        raise RuntimeError(
            "Error in clone_Index at a.cpp:1: This index type is not implemented on GPU."
        )
    if isinstance(index, faiss.IndexIVF):
        require(0 < index.nprobe <= 2048, f"nprobe = {index.nprobe}")
    with resources.alone():
        return GpuIndex(resources, index)


@contextmanager
def stand_in(memory: int = 1 << 40) -> Iterator[None]:
    """One such GPU, of `memory` bytes, is what faiss sees."""
    card = type("Card", (Resources,), {"memory": memory})
    with (
        patch.multiple(
            faiss,
            get_num_gpus=lambda: 1,
            StandardGpuResources=card,
            index_cpu_to_gpu=index_cpu_to_gpu,
        ),
        patch.dict(gpu._gpus, clear=True),
    ):
        yield
