"""One faiss index and its lock: the only module that calls faiss.

Invariants: rows are only appended, so slot i means the same row for the store's life; every faiss call is made under the
store's lock. All stores of one GPU share one resources object, its bounded scratch memory, and therefore one lock.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from trustvlm.errors import Damaged, InvalidInput, Unavailable
from trustvlm.index.locks import AccessLock, OwnerLock, SharedLock
from trustvlm.index.recipe import Recipe
from trustvlm.types import Float32s, Int64s

__all__ = ["GPU_SCRATCH_BYTES", "SCAN_ROWS", "Store"]

GPU_SCRATCH_BYTES = 256 << 20
"""Scratch memory that faiss may take on a GPU; its own default reserves 1.5 GiB per resources object."""

SCAN_ROWS = 4096
"""Rows handled at a time where a whole index is walked: 8 MB of float32 at 512 dimensions."""

_log = logging.getLogger("trustvlm")


class Store:
    """A faiss index on CPU or GPU that grows and is searched.

    Args:
        recipe: how it is built.
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:<n>"; without such a GPU (or for an index faiss has no GPU form of) one line is
            logged and the CPU is used. The attribute says what it became.

    Raises:
        InvalidInput: an unknown device, or a recipe that faiss does not understand.
        Unavailable: a recipe that needs training.
    """

    def __init__(self, recipe: Recipe, dim: int, device: str = "cpu") -> None:
        self.recipe = recipe
        self.dim = dim
        self.device = device
        self._place(_build(recipe, dim))

    @classmethod
    def from_bytes(cls, recipe: Recipe, dim: int, data: np.ndarray[Any, Any], device: str = "cpu") -> Store:
        """The store that gave `data` with :meth:`to_bytes`. Only for bytes whose checksum was found right.

        Raises:
            Damaged: the bytes are no faiss index, or one of another recipe or dimension.
        """
        import faiss

        try:
            index = faiss.deserialize_index(np.ascontiguousarray(data, np.uint8))
        except RuntimeError as error:
            raise Damaged(f"the stored index of recipe {recipe.name!r} is not readable by faiss: {error}") from error
        empty = _build(recipe, dim)
        found, expected = _kind(index, data), _kind(empty, faiss.serialize_index(empty))
        if found != expected:
            raise Damaged(f"the stored index is {found}, recipe {recipe.name!r} asks for {expected}")
        _set_search_parameters(index, recipe)
        store = cls.__new__(cls)
        store.recipe, store.dim, store.device = recipe, dim, device
        store._place(index)
        return store

    def to_bytes(self) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """The index as faiss writes it, in its CPU form wherever it lives."""
        import faiss

        with self._lock.shared():
            data: np.ndarray[Any, np.dtype[np.uint8]] = faiss.serialize_index(self._on_cpu())
        return data

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._index.ntotal)

    @property
    def on_gpu(self) -> bool:
        """Whether it lives on a GPU."""
        return isinstance(self._lock, OwnerLock)

    def add(self, vectors: Float32s) -> None:
        """Appends (n, dim) checked vectors; excludes searches for as long as faiss takes."""
        if len(vectors):
            with self._lock.exclusive():
                self._index.add(vectors)

    def search(self, queries: Float32s, k: int) -> tuple[Float32s, Int64s, bool]:
        """The `k` best rows of each query as faiss finds them: scores and slots (−1: no more), best first.

        Returns:
            (n, k') scores, (n, k') slots, and whether that is every row there is; k' = min(k, number of rows).
        """
        with self._lock.shared():
            total = len(self)  # inside the lock: a row added in between could push another out of the k best
            scores, slots = self._index.search(queries, min(k, total))
        return scores, slots, k >= total

    def block(self, start: int, stop: int) -> Float32s:
        """(stop − start, dim) rows as they are stored, decoded to float32."""
        with self._lock.shared():
            rows: Float32s = self._index.reconstruct_n(start, stop - start)
        return rows

    def gather(self, slots: Int64s) -> Float32s:
        """(n, dim) rows of `slots` as they are stored, decoded to float32."""
        with self._lock.shared():
            rows: Float32s = self._index.reconstruct_batch(slots)
        return rows

    def _place(self, index: Any) -> None:
        """Puts a CPU index where the device says."""
        gpu = _gpu(self.device)
        moved = None if gpu is None else gpu.take(index, self.recipe)
        self._lock: AccessLock = SharedLock()
        if gpu is None or moved is None:
            self.device, self._index = "cpu", index
        else:
            self._lock, self._index = gpu.lock, moved

    def _on_cpu(self) -> Any:
        """The index in its CPU form, for a caller that holds the lock."""
        if not self.on_gpu:
            return self._index
        # Not faiss.index_gpu_to_cpu: a 16-bit GPU index comes back from it as a float32 one.
        copy = _build(self.recipe, self.dim)
        for start in range(0, len(self), SCAN_ROWS):
            copy.add(self._index.reconstruct_n(start, min(SCAN_ROWS, len(self) - start)))
        return copy


def _build(recipe: Recipe, dim: int) -> Any:
    """An empty CPU index of the recipe."""
    import faiss

    try:
        index = faiss.index_factory(dim, recipe.factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InvalidInput(f"recipe {recipe.name!r}: faiss cannot build {recipe.factory!r} at {dim} dimensions") from error
    if not index.is_trained:
        raise Unavailable(f"recipe {recipe.name!r} needs training, which this version does not do: choose flat or flat-fp16")
    _set_search_parameters(index, recipe)
    return index


def _kind(index: Any, data: np.ndarray[Any, Any]) -> tuple[str, int, int, int]:
    """What all indexes of a recipe share: the tag their bytes begin with, dimension, metric, bytes a vector."""
    return bytes(data[:4]).decode("latin-1"), index.d, index.metric_type, index.sa_code_size()


def _set_search_parameters(index: Any, recipe: Recipe) -> None:
    import faiss

    for name, value in recipe.search.items():
        try:
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        except RuntimeError as error:
            raise InvalidInput(f"recipe {recipe.name!r}: {recipe.factory!r} has no search parameter {name!r}") from error


@dataclass(frozen=True)
class _Gpu:
    """One GPU: what all its stores share."""

    number: int
    resources: Any
    lock: OwnerLock

    def take(self, index: Any, recipe: Recipe) -> Any | None:
        """`index` on this GPU, or None (and a log line) when faiss has no GPU form of it."""
        import faiss

        options = faiss.GpuClonerOptions()
        options.use_cuvs = False  # cuVS has no 16-bit flat index
        try:
            with self.lock.exclusive():
                return faiss.index_cpu_to_gpu(self.resources, self.number, index, options)
        except RuntimeError as error:
            if "not implemented on GPU" not in str(error):
                raise
            _warn(f"recipe {recipe.name!r} has no GPU form in faiss: its index runs on the CPU")
            return None


@cache
def _warn(message: str) -> None:
    """Logs `message` once in a process, however many indexes and compactions meet the same lack."""
    _log.warning("%s", message)


_gpus: dict[int, _Gpu] = {}
_opening = threading.Lock()


def _gpu(device: str) -> _Gpu | None:
    """The GPU that `device` names; None for "cpu", and (with a log line) when there is no such GPU."""
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (device != "cuda" and not number.isdecimal()):
        raise InvalidInput(f"device: expected cpu, cuda or cuda:<number>, got {device!r}")
    import faiss

    ordinal = int(number or 0)
    count = faiss.get_num_gpus() if hasattr(faiss, "StandardGpuResources") else 0  # faiss-cpu has no such class
    if ordinal >= count:
        _warn(f"device {device!r}: faiss sees {count} GPUs: indexes run on the CPU")
        return None
    with _opening:
        if ordinal not in _gpus:
            resources = faiss.StandardGpuResources()
            resources.setTempMemory(GPU_SCRATCH_BYTES)
            _gpus[ordinal] = _Gpu(ordinal, resources, OwnerLock())
        return _gpus[ordinal]
