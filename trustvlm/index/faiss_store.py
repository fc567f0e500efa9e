"""One faiss index and its lock, with a copy on a GPU where there is one.

An index that needs training begins as an exact one; :meth:`Store.trained` makes what its recipe
says. Rows are read from the index on the CPU and written to a file from it; a copy on a GPU
(:mod:`trustvlm.index.gpu`) only answers searches.

Invariants: rows are only appended, so slot i means the same row for the store's life, in the copy
as well; every faiss call is made under the lock of the index that it is made to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trustvlm.errors import Damaged, InvalidInput
from trustvlm.index.gpu import MOST_PROBES, MOST_ROWS, GpuCopy, find_gpu, warn_once
from trustvlm.index.locks import SharedLock
from trustvlm.index.recipe import FLAT, Recipe
from trustvlm.types.arrays import Float32s, Int64s

EXACT_ERROR = 1e-5
"""Largest error of a similarity of an exact index: float32 rounding of a sum over the
dimensions."""

SPARE_RANGE = 0.2
"""By how much, on each side, 8-bit values reach beyond those that were trained on: a later row that
needs more is cut, which can cost a tenth of similarity."""

SCAN_ROWS = 4096
"""Rows handled at a time where a whole index is walked: 8 MB of float32 at 512 dimensions."""


class Store:
    """A faiss index on CPU or GPU that grows and is searched.

    Args:
        recipe: how it is built.
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:<n>"; without such a GPU, or for an index that it cannot
            have, one line is logged and the CPU is used.
        index: faiss's index on the CPU that it takes over, with this many `lists`; None: a new one.

    Attributes:
        on_cpu: why it is searched on the CPU although the device is a GPU of this machine; None
            where it is not.

    Raises:
        InvalidInput: an unknown device, or a recipe that faiss does not understand.
    """

    def __init__(
        self, recipe: Recipe, dim: int, device: str = "cpu", index: Any = None, lists: int = 0
    ) -> None:
        self.recipe, self.dim, self.device, self.lists = recipe, dim, device, lists
        self._index, self._lock = _build(recipe, dim, 0) if index is None else index, SharedLock()
        if hasattr(self._index, "make_direct_map"):
            self._index.make_direct_map()  # so that rows can be read back by slot
        self._copy: GpuCopy | None = None
        self.on_cpu: str | None = None
        if (gpu := find_gpu(device)) is not None:
            try:
                self._copy = GpuCopy(gpu, self._index)
            except RuntimeError as error:
                self._leave_gpu(error)

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
        return cls(recipe, dim, device, index, lists)

    def empty(self) -> Store:
        """A store without rows that stores them as this one does."""
        import faiss

        if not self.lists:
            return Store(self.recipe, self.dim, self.device)
        with self._lock.shared():
            index = faiss.clone_index(self._index)
        index.reset()
        return Store(self.recipe, self.dim, self.device, index, self.lists)

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
        return cls(recipe, dim, device, index, lists)

    def to_bytes(self) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], int]:
        """The index as faiss writes it, and the number of rows in it."""
        import faiss

        with self._lock.shared():
            data: np.ndarray[Any, np.dtype[np.uint8]] = faiss.serialize_index(self._index)
            total = len(self)
        return data, total

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._index.ntotal)

    @property
    def on_gpu(self) -> bool:
        """Whether it is searched on a GPU."""
        return self._copy is not None

    @property
    def most(self) -> int:
        """Most rows that a search returns for one query."""
        return MOST_ROWS if (copy := self._copy) is None else copy.most

    def add(self, vectors: Float32s) -> None:
        """Append (n, dim) checked vectors; excludes searches for as long as faiss takes."""
        if not len(vectors):
            return
        with self._lock.exclusive():
            self._index.add(vectors)
        if (copy := self._copy) is not None:
            try:
                copy.add(vectors)
            except RuntimeError as error:
                self._leave_gpu(error)

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
        if (copy := self._copy) is not None:
            options, every_row = self._options(given, effort, MOST_PROBES)
            try:
                scores, slots, total = copy.search(queries, k, options)
                return scores, slots, every_row and k >= total
            except RuntimeError as error:
                self._leave_gpu(error)
        options, every_row = self._options(given, effort)
        with self._lock.shared():
            total = len(self)  # in the lock: a row added in between could push another out
            scores, slots = self._index.search(queries, min(k, total), **options)
        return scores, slots, every_row and k >= total

    def _options(
        self, parameters: Mapping[str, float], effort: int, most_probes: int | None = None
    ) -> tuple[dict[str, Any], bool]:
        """(options of one search by faiss, whether it compares every row)."""
        import faiss

        if isinstance(self._index, faiss.IndexIVF):
            lists = self._index.nlist
            wanted = int(parameters.get("nprobe", self._index.nprobe)) * effort
            probes = min(wanted, lists, most_probes or lists)
            return {"params": _parameters_of("SearchParametersIVF", nprobe=probes)}, probes == lists
        if isinstance(self._index, faiss.IndexHNSW):
            steps = int(parameters.get("efSearch", self._index.hnsw.efSearch)) * effort
            return {"params": _parameters_of("SearchParametersHNSW", efSearch=steps)}, False
        return {}, True

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

    def _leave_gpu(self, error: RuntimeError) -> None:
        """Search on the CPU from now on."""
        factory = self.recipe.factory if self.lists or not self.recipe.training else FLAT
        reason = str(error).strip().rpartition("failed: ")[2]
        if "not implemented on GPU" in reason:
            reason = "faiss has no such index on a GPU"
        self.on_cpu = f"recipe {self.recipe.name!r} ({factory}) is searched on the CPU: {reason}"
        self._copy = None
        warn_once(self.on_cpu)


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
    if hasattr(index, "sq"):
        index.sq.rangestat_arg = SPARE_RANGE
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
