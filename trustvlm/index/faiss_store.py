"""One faiss index and its lock: the only module that calls faiss.

An index that needs training begins as an exact one; :meth:`Store.trained` makes what its recipe
says.

Invariants: rows are only appended, so slot i means the same row for the store's life; every faiss
call is made under the store's lock. All stores of one GPU share one resources object, its bounded
scratch memory, and therefore one lock.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from trustvlm.errors import Damaged, InvalidInput
from trustvlm.index.locks import SharedLock
from trustvlm.index.recipe import FLAT, Recipe
from trustvlm.types.arrays import Float32s, Int64s

__all__ = ["EXACT_ERROR", "GPU_SCRATCH_BYTES", "SCAN_ROWS", "Store"]

EXACT_ERROR = 1e-5
"""Largest error of a similarity of an exact index: float32 rounding of a sum over the
dimensions."""

GPU_SCRATCH_BYTES = 256 << 20
"""Scratch memory that faiss may take on a GPU; its own default reserves 1.5 GiB per resources
object."""

SCAN_ROWS = 4096
"""Rows handled at a time where a whole index is walked: 8 MB of float32 at 512 dimensions."""

_log = logging.getLogger("trustvlm")


class Store:
    """A faiss index on CPU or GPU that grows and is searched.

    Args:
        recipe: how it is built.
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:<n>"; without such a GPU (or for an index faiss has no GPU
            form of) one line is logged and the CPU is used. The attribute says what it became.

    Raises:
        InvalidInput: an unknown device, or a recipe that faiss does not understand.
    """

    def __init__(self, recipe: Recipe, dim: int, device: str = "cpu") -> None:
        self.recipe = recipe
        self.dim = dim
        self.device = device
        self.lists = 0
        self._place(_build(recipe, dim, 0))

    @classmethod
    def trained(cls, recipe: Recipe, dim: int, device: str, sample: Float32s, lists: int) -> Store:
        """An empty store with this many lists, trained on the (n, dim) sample; see
        :meth:`Recipe.lists`.

        Raises:
            InvalidInput: a recipe that faiss does not understand, or cannot train on so few rows.
        """
        index = _build(recipe, dim, lists)
        try:
            _train(index, sample)
        except RuntimeError as error:
            raise InvalidInput(
                f"recipe {recipe.name!r}: faiss cannot train on {len(sample)} rows: {error}"
            ) from error
        return cls._around(recipe, dim, device, index, lists)

    def empty(self) -> Store:
        """A store without rows that stores them as this one does."""
        import faiss

        if not self.lists:
            return Store(self.recipe, self.dim, self.device)
        with self._lock.shared():
            index = faiss.clone_index(self._index)
        index.reset()
        return self._around(self.recipe, self.dim, self.device, index, self.lists)

    @classmethod
    def _around(cls, recipe: Recipe, dim: int, device: str, index: Any, lists: int) -> Store:
        store = cls.__new__(cls)
        store.recipe, store.dim, store.device, store.lists = recipe, dim, device, lists
        store._place(index)
        return store

    @classmethod
    def from_bytes(
        cls, recipe: Recipe, dim: int, data: np.ndarray[Any, Any], device: str = "cpu"
    ) -> Store:
        """The store that gave `data` with :meth:`to_bytes`. Only for bytes whose checksum was found
        right.

        Raises:
            Damaged: the bytes are no faiss index, or one of another recipe or dimension.
        """
        import faiss

        kinds = (0, 1) if recipe.training else (0,)
        tags = {_tag(faiss.serialize_index(_build(recipe, dim, lists))) for lists in kinds}
        if _tag(data) not in tags:  # before faiss reads any of it
            raise Damaged(
                f"the stored index is of kind {_tag(data)!r}, recipe {recipe.name!r} asks for "
                f"{' or '.join(sorted(tags))}"
            )
        try:
            index = faiss.deserialize_index(np.ascontiguousarray(data, np.uint8))
        except (RuntimeError, MemoryError) as error:  # MemoryError: it claims to be larger than any
            raise Damaged(
                f"the stored index of recipe {recipe.name!r} is not readable by faiss: {error}"
            ) from error
        trained = recipe.training and not isinstance(index, faiss.IndexFlat)
        lists = int(getattr(index, "nlist", 1)) if trained else 0
        empty = _build(recipe, dim, lists)
        kind, expected = _kind(index, data), _kind(empty, faiss.serialize_index(empty))
        if kind != expected:
            raise Damaged(f"the stored index is {kind}, recipe {recipe.name!r} asks for {expected}")
        _set_search_parameters(index, recipe)
        return cls._around(recipe, dim, device, index, lists)

    def to_bytes(self) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
        """The index as faiss writes it, in its CPU form, and the number of rows in it."""
        import faiss

        with self._lock.shared():
            data: np.ndarray[Any, np.dtype[np.uint8]] = faiss.serialize_index(self._on_cpu())
            total = len(self)
        return data, total

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._index.ntotal)

    @property
    def on_gpu(self) -> bool:
        """Whether it lives on a GPU."""
        return self._gpu is not None

    def add(self, vectors: Float32s) -> None:
        """Append (n, dim) checked vectors; excludes searches for as long as faiss takes."""
        if len(vectors):
            with self._lock.exclusive():
                self._index.add(vectors)

    @property
    def exhaustive(self) -> bool:
        """Whether a search compares every row."""
        return self.recipe.exhaustive or not (self.lists or not self.recipe.training)

    def search(
        self,
        queries: Float32s,
        k: int,
        parameters: Mapping[str, float] | None = None,
        effort: int = 1,
    ) -> tuple[Float32s, Int64s, bool]:
        """The `k` best rows of each query as faiss finds them: scores and slots (−1: no more), best
        first.

        Args:
            parameters: faiss search parameters in place of the recipe's. effort: a factor to the
                number of lists (or steps).

        Returns:
            (n, k') scores, (n, k') slots, and whether that is every row there is; k' = min(k,
            number of rows).
        """
        given = self.recipe.search if parameters is None else parameters
        chosen, every_row = self._parameters(given, effort)
        options = {} if chosen is None else {"params": chosen}
        with self._lock.shared():
            total = len(self)  # in the lock: a row added in between could push another out
            scores, slots = self._index.search(queries, min(k, total), **options)
        return scores, slots, every_row and k >= total

    def _parameters(self, parameters: Mapping[str, float], effort: int) -> tuple[Any, bool]:
        """(faiss's parameters of one search, None for its own; whether it compares every row)."""
        import faiss

        if isinstance(self._index, faiss.IndexIVF):
            lists = self._index.nlist
            probes = min(int(parameters.get("nprobe", self._index.nprobe)) * effort, lists)
            return _parameters_of("SearchParametersIVF", nprobe=probes), probes == lists
        if isinstance(self._index, faiss.IndexHNSW):
            steps = int(parameters.get("efSearch", self._index.hnsw.efSearch)) * effort
            return _parameters_of("SearchParametersHNSW", efSearch=steps), False
        return None, True

    def block(self, start: int, stop: int) -> Float32s:
        """(stop − start, dim) rows as they are stored, decoded to float32."""
        if self.lists:  # an inverted file would walk all its lists for reconstruct_n
            return self.gather(np.arange(start, stop))
        with self._lock.shared():
            rows: Float32s = self._index.reconstruct_n(start, stop - start)
        return rows

    def gather(self, slots: Int64s) -> Float32s:
        """(n, dim) rows of `slots` as they are stored, decoded to float32."""
        with self._lock.shared():
            rows: Float32s = self._index.reconstruct_batch(slots)
        return rows

    def _place(self, index: Any) -> None:
        """Put a CPU index where the device says."""
        gpu = _gpu(self.device)
        if gpu is not None and not self.exhaustive:
            _warn(
                f"recipe {self.recipe.name!r} is searched on the CPU: rows cannot be read back "
                f"from its GPU form"
            )
            gpu = None
        if hasattr(index, "make_direct_map"):
            index.make_direct_map()  # so that rows can be read back by slot
        moved = None if gpu is None else gpu.take(index, self.recipe)
        self._gpu = None if moved is None else gpu
        if gpu is None or moved is None:
            self.device, self._index, self._lock = "cpu", index, SharedLock()
        else:
            self._index, self._lock = moved, gpu.lock

    def _on_cpu(self) -> Any:
        """The index in its CPU form, for a caller that holds the lock."""
        if not self.on_gpu:
            return self._index
        # Not faiss.index_gpu_to_cpu: a 16-bit GPU index comes back from it as a float32 one.
        copy = _build(self.recipe, self.dim, self.lists)
        for start in range(0, len(self), SCAN_ROWS):
            copy.add(self._index.reconstruct_n(start, min(SCAN_ROWS, len(self) - start)))
        return copy


def _build(recipe: Recipe, dim: int, lists: int) -> Any:
    """An empty CPU index of the recipe with this many lists; 0: as it is before training."""
    import faiss

    factory = recipe.factory.replace("{lists}", str(lists))
    if recipe.training and not lists:
        factory = FLAT
    try:
        index = faiss.index_factory(dim, factory, faiss.METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InvalidInput(
            f"recipe {recipe.name!r}: faiss cannot build {factory!r} at {dim} dimensions"
        ) from error
    if not index.is_trained and not lists:
        raise InvalidInput(
            f"recipe {recipe.name!r}: {factory!r} needs training, and the recipe has no "
            f"[training] table"
        )
    _set_search_parameters(index, recipe)
    return index


def _parameters_of(kind: str, **values: int) -> Any:
    """faiss's parameters of one search; its type stubs know only some of them, and not their
    arguments."""
    import faiss

    return getattr(faiss, kind)(**values)


def _train(index: Any, sample: Float32s) -> None:
    """Trains what needs it; clusters may be few rows, which faiss would warn about on stderr."""
    if index.is_trained:
        return
    if hasattr(index, "cp"):
        index.cp.min_points_per_centroid = 1
        index.cp.max_points_per_centroid = max(1, len(sample) // index.nlist + 1)
        index.cp.niter = 10
    index.train(sample)


def _tag(data: np.ndarray[Any, Any]) -> str:
    """The four characters that tell what kind of index follows."""
    return bytes(data[:4]).decode("latin-1")


def _kind(index: Any, data: np.ndarray[Any, Any]) -> tuple[str, int, int, int]:
    """What all indexes of a recipe share: the tag their bytes begin with, dimension, metric, bytes
    a vector."""
    import faiss

    coded = faiss.downcast_index(index.storage) if isinstance(index, faiss.IndexHNSW) else index
    return _tag(data), index.d, index.metric_type, coded.sa_code_size()


def _set_search_parameters(index: Any, recipe: Recipe) -> None:
    import faiss

    if isinstance(index, faiss.IndexFlat) and recipe.training:
        return  # they are for what it becomes
    for name, value in recipe.search.items():
        try:
            faiss.ParameterSpace().set_index_parameter(index, name, value)
        except RuntimeError as error:
            raise InvalidInput(
                f"recipe {recipe.name!r}: {recipe.factory!r} has no search parameter {name!r}"
            ) from error


@dataclass(frozen=True)
class _Gpu:
    """One GPU: what all its stores share."""

    number: int
    resources: Any
    lock: SharedLock

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
    """Log `message` once in a process."""
    _log.warning("%s", message)


_gpus: dict[int, _Gpu] = {}
_opening = threading.Lock()


def _gpu(device: str) -> _Gpu | None:
    """The GPU that `device` names; None for "cpu", and (with a log line) when there is no such
    GPU."""
    kind, _, number = device.partition(":")
    if device == "cpu":
        return None
    if kind != "cuda" or (device != "cuda" and not number.isdecimal()):
        raise InvalidInput(f"device: expected cpu, cuda or cuda:<number>, got {device!r}")
    import faiss

    ordinal = int(number or 0)
    has_gpus = hasattr(faiss, "StandardGpuResources")  # faiss-cpu has no such class
    count = faiss.get_num_gpus() if has_gpus else 0
    if ordinal >= count:
        _warn(f"device {device!r}: faiss sees {count} GPUs: indexes run on the CPU")
        return None
    with _opening:
        if ordinal not in _gpus:
            resources = faiss.StandardGpuResources()
            resources.setTempMemory(GPU_SCRATCH_BYTES)
            _gpus[ordinal] = _Gpu(ordinal, resources, SharedLock(readers=1))
        return _gpus[ordinal]
