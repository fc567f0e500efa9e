"""A FAISS index of any recipe, on CPU or GPU, that rows are added to, changed in and removed from while others search.

Invariants: rows are appended; changed and removed rows are tombstoned and never answered again; compaction builds a new
faiss index without them. An :class:`IndexView` is one whole revision: rows added, removed or compacted away after it was
taken never change what it answers. A change is seen in full by the next :meth:`LiveIndex.view`, or not at all: replacing
a row shows neither both versions nor none. Any number of threads may take views and search them while writers, one at a
time, change the index. Answers are best first, equal scores by smaller id, padded with −1 and −inf.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Damaged, InvalidInput
from trustvlm.index.checks import as_ids, as_queries, as_vectors, require_unit
from trustvlm.index.nearest import nearest
from trustvlm.index.recipe import Recipe
from trustvlm.index.slots import SlotTable, SlotView
from trustvlm.index.store import SCAN_ROWS, Store
from trustvlm.types import Float32s, Int64s

__all__ = ["COMPACT_ROWS", "COMPACT_SHARE", "IndexView", "LiveIndex"]

COMPACT_SHARE = 0.25
"""Share of dead rows beyond which an index compacts itself."""

COMPACT_ROWS = 256
"""Dead rows below which it never does: rebuilding a small index costs more than skipping them."""


@dataclass(frozen=True, eq=False)
class IndexView:
    """The index as it was at one moment.

    Attributes:
        recipe: how it is stored; `recipe.max_error` bounds the error of a similarity.
        dim: length of a vector.
    """

    recipe: Recipe
    dim: int
    _store: Store
    _slots: SlotView

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[Int64s, Float32s]:
        """The `k` nearest live rows of each query.

        Args:
            queries: (n, dim) floats, n ≥ 0; unit vectors for similarities to be cosines.
            k: how many, ≥ 1; may exceed the number of rows.

        Returns:
            (n, k) ids and (n, k) float32 similarities, best first, ties by smaller id, padded with −1 and −inf.

        Raises:
            InvalidInput: queries of another shape, not finite or of a norm over 10⁶, or k < 1.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise InvalidInput(f"k: expected an integer ≥ 1, got {k!r}")
        return nearest(self._store, self._slots, as_queries(queries, self.dim), int(k))

    def __len__(self) -> int:
        return self._slots.live


class LiveIndex:
    """A searchable set of unit vectors under int64 ids.

    Args:
        recipe: how the vectors are stored and searched.
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:<n>"; without that GPU one line is logged and the CPU is used.

    Raises:
        InvalidInput: an unknown device, dim < 1, or a recipe that faiss does not understand.
        Unavailable: a recipe that needs training.
    """

    def __init__(self, recipe: Recipe, dim: int, *, device: str = "cpu") -> None:
        if dim < 1:
            raise InvalidInput(f"dim: expected ≥ 1, got {dim}")
        self.recipe = recipe
        self.dim = dim
        self._start(Store(recipe, dim, device), SlotTable())

    def add(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Appends (n, dim) unit vectors under n new ids.

        Raises:
            InvalidInput: an id is live already or given twice, or the vectors are not finite unit vectors of that shape.
        """
        checked, rows = self._checked(ids, vectors)
        with self._writing:
            self._table.require_new(checked)
            self._store.add(rows)
            self._table.append(checked)
            self._publish()

    def remove(self, ids: npt.ArrayLike) -> None:
        """Tombstones the rows of `ids`.

        Raises:
            NotFound: an id is not live; nothing is removed then.
            InvalidInput: an id is given twice.
        """
        checked = as_ids(ids)
        with self._writing:
            self._table.kill(checked, self._table.live_slots(checked))
            self._tidy()

    def replace(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Changes the vectors of live `ids`: the old rows are tombstoned, the new ones appended, both at once to readers.

        Raises:
            NotFound: an id is not live; nothing is changed then.
            InvalidInput: an id is given twice, or the vectors are not finite unit vectors of shape (n, dim).
        """
        checked, rows = self._checked(ids, vectors)
        with self._writing:
            slots = self._table.live_slots(checked)
            self._store.add(rows)  # before the old ones die: if faiss runs out of memory, nothing has happened
            self._table.kill(checked, slots)
            self._table.append(checked)
            self._tidy()

    def compact(self) -> None:
        """Rebuilds the index from its live rows; views taken before keep the old one, and its memory, alive."""
        with self._writing:
            self._compact()
            self._publish()

    def view(self) -> IndexView:
        """The index as it is now. O(1)."""
        return self._view

    def __len__(self) -> int:
        return len(self._view)

    @property
    def dead_share(self) -> float:
        """Dead rows over all rows."""
        return self._table.dead_share

    @property
    def on_gpu(self) -> bool:
        """Whether searches run on a GPU."""
        return self._store.on_gpu

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The whole index as arrays for a snapshot: ``faiss`` (uint8, in CPU form), ``ids`` and ``alive`` by slot."""
        with self._writing:
            slots = self._table.view()
            return {"faiss": self._store.to_bytes(), "ids": slots.ids, "alive": slots.alive}

    @classmethod
    def from_arrays(cls, recipe: Recipe, dim: int, arrays: Mapping[str, npt.NDArray[Any]], device: str = "cpu") -> LiveIndex:
        """The index that gave `arrays` with :meth:`to_arrays`. Only for arrays whose checksums were found right.

        Raises:
            Damaged: the arrays do not belong together, or to another recipe or dimension.
        """
        try:
            data, ids, alive = arrays["faiss"], arrays["ids"], arrays["alive"]
        except KeyError as error:
            raise Damaged(f"the stored index lacks the array {error.args[0]!r}") from error
        store = Store.from_bytes(recipe, dim, data, device)
        if ids.shape != (len(store),) or alive.shape != ids.shape or alive.dtype != np.bool_:
            raise Damaged(f"the stored index has {len(store)} rows, {ids.shape} ids and {alive.shape} marks")
        table = SlotTable()
        try:
            table.restore(as_ids(ids), alive)
        except InvalidInput as error:
            raise Damaged(f"the stored index has wrong ids: {error}") from error
        index = cls.__new__(cls)
        index.recipe, index.dim = recipe, dim
        index._start(store, table)
        return index

    def _start(self, store: Store, table: SlotTable) -> None:
        self._writing = threading.Lock()
        self.device = store.device  # "cpu" where the GPU that was asked for is not there
        self._store = store
        self._table = table
        self._publish()

    def _checked(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> tuple[Int64s, Float32s]:
        checked = as_ids(ids)
        rows = as_vectors(vectors, self.dim, count=len(checked))
        require_unit(rows)
        return checked, rows

    def _tidy(self) -> None:
        """Compacts when too much is dead, and shows readers the change."""
        if self._table.n - self._table.live > COMPACT_ROWS and self._table.dead_share > COMPACT_SHARE:
            self._compact()
        self._publish()

    def _compact(self) -> None:
        store = Store(self.recipe, self.dim, self.device)
        kept = self._table.kept()
        for start in range(0, len(kept), SCAN_ROWS):
            store.add(self._store.gather(kept[start : start + SCAN_ROWS]))
        self._table.keep(kept)  # last: if memory runs out above, table and store still belong together
        self._store = store

    def _publish(self) -> None:
        """Hands the new state to readers in one assignment: they see all of a change or nothing of it."""
        self._view = IndexView(self.recipe, self.dim, self._store, self._table.view())
