"""A FAISS index of any recipe, on CPU or GPU, that changes while others search.

Invariants: rows are appended; changed and removed rows are tombstoned and never answered again;
compaction builds a new faiss index without them. An :class:`IndexView` is one whole revision: rows
added, removed or compacted away after it was taken never change what it answers. A change is seen
in full by the next :meth:`LiveIndex.view`, or not at all. A large index is compacted by a thread of
its own, from the state of its beginning, and catches up with later changes before it takes over.
Any number of threads may take views and search them while writers, one at a time, change the index.
Answers are best first, equal scores by smaller id, padded with −1 and −inf.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Damaged, InvalidInput
from trustvlm.index.faiss_store import EXACT_ERROR, SCAN_ROWS, Store
from trustvlm.index.live_search import nearest
from trustvlm.index.recall import (
    MEASURED_K,
    MEASURED_ROWS,
    Block,
    Nearest,
    every_row,
    shares_found,
    take_out,
    warn_if_low,
)
from trustvlm.index.recipe import Recipe
from trustvlm.index.slot_table import SlotTable, SlotView
from trustvlm.index.validate import as_ids, as_queries, as_vectors, require_unit
from trustvlm.system.background import Failures
from trustvlm.types.arrays import Bools, Float32s, Int64s

log = logging.getLogger("trustvlm")

COMPACT_SHARE, COMPACT_ROWS = 0.25, 256
"""An index compacts itself when its dead rows exceed both: rebuilding a small one costs more than
skipping them."""

INLINE_ROWS = 20_000
"""Up to this many live rows it is compacted by the change that makes it due: some 10 ms at 768
dimensions."""

ROWS_PER_LIST = 40
"""Rows to train on for each list, where a recipe does not say."""


@dataclass(frozen=True, eq=False)
class IndexView:
    """The index as it was at one moment.

    Attributes:
        recipe: how it is stored; `recipe.max_error` bounds the error of a similarity.
        dim: length of a vector.
        parameters: faiss search parameters in place of the recipe's; None: the recipe's.
        recall: share of the 10 nearest that it finds for rows that it does not hold, with these
            parameters: measured when it was built or tuned; None where every row is compared, or it
            was not measured. built_recall: with the recipe's parameters.
    """

    recipe: Recipe
    dim: int
    _store: Store
    _slots: SlotView
    parameters: Mapping[str, float] | None = None
    recall: float | None = None
    built_recall: float | None = None

    @property
    def exhaustive(self) -> bool:
        """Whether every row is compared: none of the nearest is missed."""
        return self._store.exhaustive

    @property
    def on_gpu(self) -> bool:
        """Whether it is searched on a GPU."""
        return self._store.on_gpu

    @property
    def on_cpu(self) -> str | None:
        """Why it is searched on the CPU although a GPU was given, or None."""
        return self._store.on_cpu

    @property
    def max_error(self) -> float:
        """Largest error of a similarity."""
        untrained = self.recipe.training and not self._store.lists
        return EXACT_ERROR if untrained else self.recipe.max_error

    @property
    def outgrown(self) -> bool:
        """Whether an index built now from as many rows would be another one."""
        return self.recipe.outgrown(self._store.lists, len(self))

    @property
    def lists(self) -> int:
        """How many lists it has: 1 for a graph, 0 for an exact index or one without training."""
        return self._store.lists

    @property
    def slots(self) -> SlotView:
        """Which support image or label each of its rows is."""
        return self._slots

    def among(self, keep: Bools) -> IndexView:
        """The same index with those live rows only that a mask over its slots keeps."""
        return replace(self, _slots=self._slots.among(keep))

    def with_parameters(self, parameters: Mapping[str, float]) -> IndexView:
        """The same rows searched with other parameters."""
        return replace(self, parameters=parameters, recall=None)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The view as arrays for a snapshot: ``faiss`` (uint8), ``ids`` and ``alive``
        by slot, ``recall``.

        Dead rows are left out, as what was removed may have been purged. Without any, rows that
        came after the view are in ``faiss`` too, marked dead.
        """
        slots = self._slots
        if slots.live < slots.n:
            kept = np.flatnonzero(slots.alive)
            data, _ = _copied(self._store, kept, self._store.empty()).to_bytes()
            ids, alive = slots.ids[kept], np.ones(len(kept), np.bool_)
        else:
            data, total = self._store.to_bytes()
            ids, alive = np.zeros(total, np.int64), np.zeros(total, np.bool_)
            ids[: slots.n], alive[: slots.n] = slots.ids, slots.alive
        recall = {} if self.built_recall is None else {"recall": np.array([self.built_recall])}
        return recall | {"faiss": data, "ids": ids, "alive": alive}

    def search(self, queries: npt.ArrayLike, k: int) -> tuple[Int64s, Float32s]:
        """The `k` nearest live rows of each query.

        Args:
            queries: (n, dim) floats, n ≥ 0; unit vectors for similarities to be cosines.
            k: how many, ≥ 1; may exceed the number of rows.

        Returns:
            (n, k) ids and (n, k) float32 similarities, best first, ties by smaller id, padded with
            −1 and −inf.

        Raises:
            InvalidInput: queries of another shape, not finite or of a norm over 10⁶, or k < 1.
        """
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise InvalidInput(f"k: expected an integer ≥ 1, got {k!r}")
        vectors = as_queries(queries, self.dim)
        return nearest(self._store, self._slots, vectors, int(k), self.parameters)

    def blocks(self) -> Iterator[Block]:
        """(ids, rows as they are stored, decoded to float32) of all live rows, piece by piece."""
        slots = np.flatnonzero(self._slots.alive)
        for start in range(0, len(slots), SCAN_ROWS):
            part = slots[start : start + SCAN_ROWS]
            yield self._slots.ids[part], self._store.gather(part)

    def __len__(self) -> int:
        return self._slots.live


class LiveIndex:
    """A searchable set of unit vectors under int64 ids.

    Args:
        recipe: how the vectors are stored and searched.
        dim: length of a vector.
        device: "cpu", "cuda" or "cuda:<n>"; without that GPU one line is logged and the CPU is
            used.

    Raises:
        InvalidInput: an unknown device, dim < 1, or a recipe that faiss does not understand.
    """

    def __init__(self, recipe: Recipe, dim: int, *, device: str = "cpu") -> None:
        if dim < 1:
            raise InvalidInput(f"dim: expected ≥ 1, got {dim}")
        self._start(Store(recipe, dim, device), SlotTable())

    def _start(self, store: Store, table: SlotTable, built_recall: float | None = None) -> None:
        self.recipe, self.dim = store.recipe, store.dim
        self.device = store.device if store.on_gpu else "cpu"
        self.inline_rows = INLINE_ROWS
        self._writing = threading.Lock()
        self._compaction: threading.Thread | None = None
        self._failures = Failures(log, "compacting an index")
        self._parameters: Mapping[str, float] | None = None
        self._tuned_recall: float | None = None
        self._built_recall = built_recall
        self._store, self._table = store, table
        self._publish()

    @classmethod
    def build(
        cls,
        recipe: Recipe,
        dim: int,
        count: int,
        blocks: Callable[[], Iterable[Block]],
        *,
        device: str = "cpu",
        lists: int | None = None,
    ) -> LiveIndex:
        """An index of about `count` vectors, trained on a sample of them where the recipe asks for
        it.

        One that does not compare every row is measured: some rows come last, after the others were
        asked for their nearest.

        Args:
            blocks: gives all of them, piece by piece; called again for each thing to do, so that
                memory stays bounded.
            lists: how many lists; None: as the recipe says. With a number, nothing is measured.

        Raises:
            InvalidInput: as the constructor and :meth:`add`.
        """
        index = cls(recipe, dim, device=device)
        measured = lists is None
        lists = recipe.lists(count) if lists is None else lists
        if lists:
            rows = max(1, round(lists * recipe.training.get("rows_per_list", ROWS_PER_LIST)))
            sample = every_row(max(1, count // rows), blocks(), dim)
            index._start(Store.trained(recipe, dim, device, sample, lists), SlotTable())
        if not lists or not measured:
            for ids, vectors in blocks():
                index.add(ids, vectors)
            return index
        out = take_out(blocks, count, MEASURED_ROWS)
        truth = Nearest(out.vectors, MEASURED_K)
        for ids, vectors in out.rest():
            index.add(ids, vectors)
            truth.show(ids, vectors)
        answers, _ = index.view().search(out.vectors, MEASURED_K)
        index._built_recall = float(shares_found(answers, truth.ids).mean())
        index.add(out.ids, out.vectors)
        warn_if_low(recipe.name, len(index.view()), index._built_recall)
        return index

    @classmethod
    def from_arrays(
        cls, recipe: Recipe, dim: int, arrays: Mapping[str, npt.NDArray[Any]], device: str = "cpu"
    ) -> LiveIndex:
        """The index that gave `arrays` with :meth:`IndexView.to_arrays`. Only for arrays whose
        checksums were found right.

        Raises:
            Damaged: the arrays do not belong together, or to another recipe or dimension.
        """
        try:
            data, ids, alive = arrays["faiss"], arrays["ids"], arrays["alive"]
        except KeyError as error:
            raise Damaged(f"the stored index lacks the array {error.args[0]!r}") from error
        store, table = Store.from_bytes(recipe, dim, data, device), SlotTable()
        if ids.shape != (len(store),) or alive.shape != ids.shape or alive.dtype != np.bool_:
            raise Damaged(
                f"the stored index has {len(store)} rows, {ids.shape} ids and {alive.shape} marks"
            )
        try:
            table.restore(as_ids(ids), alive)
        except InvalidInput as error:
            raise Damaged(f"the stored index has wrong ids: {error}") from error
        index = cls.__new__(cls)
        index._start(store, table, float(arrays["recall"][0]) if "recall" in arrays else None)
        return index

    def add(self, ids: npt.ArrayLike, vectors: npt.ArrayLike) -> None:
        """Append (n, dim) unit vectors under n new ids.

        Raises:
            InvalidInput: an id is live already or given twice, or the vectors are not finite unit
                vectors of that shape.
        """
        checked = as_ids(ids)
        rows = as_vectors(vectors, self.dim, count=len(checked))
        require_unit(rows)
        with self._writing:
            self._table.require_new(checked)
            self._store.add(rows)
            self._table.append(checked)
            self._publish()

    def remove(self, ids: npt.ArrayLike) -> None:
        """Tombstone the rows of `ids`.

        Raises:
            NotFound: an id is not live; nothing is removed then.
            InvalidInput: an id is given twice.
        """
        checked = as_ids(ids)
        with self._writing:
            table = self._table
            table.kill(checked, table.live_slots(checked))
            if table.n - table.live > COMPACT_ROWS and table.dead_share > COMPACT_SHARE:
                if table.live <= self.inline_rows:
                    self._compact()
                elif not (self._failures.pause_s or self._is_compacting()):
                    self._compaction = threading.Thread(
                        target=self._compact_behind, name="trustvlm-compaction"
                    )
                    self._compaction.start()
            self._publish()

    def compact(self) -> None:
        """Rebuild the index from its live rows; views taken before keep the old one, and its
        memory, alive."""
        with self._writing:
            self._compact()
            self._publish()

    def _is_compacting(self) -> bool:
        return self._compaction is not None and self._compaction.is_alive()

    def settle(self) -> None:
        """Wait for a compaction that is under way."""
        if (thread := self._compaction) is not None:
            thread.join()

    def live(self, ids: Int64s) -> Int64s:
        """Those of `ids` that are live. For the writer; readers ask their view."""
        return ids[self._table.slots(ids) >= 0]

    def view(self) -> IndexView:
        """The index as it is now. O(1)."""
        return self._view

    @property
    def dead_share(self) -> float:
        """Dead rows over all rows."""
        return self._table.dead_share

    def search_with(self, parameters: Mapping[str, float] | None) -> None:
        """Search with these faiss parameters in place of the recipe's from the next view on; None:
        the recipe's. "recall" among them is the share of the nearest that was found with them."""
        with self._writing:
            given = dict(parameters or {})
            self._tuned_recall = given.pop("recall", None)
            self._parameters = given or None
            self._publish()

    def _compact(self) -> None:
        kept = self._table.kept()
        store = _copied(self._store, kept, self._store.empty())
        # Last: if memory runs out above, table and store still belong together.
        self._table.keep(kept)
        self._store = store

    def _compact_behind(self) -> None:
        """Compact the present state while changes go on, then catch up with these."""
        with self._writing:
            old, table = self._store, self._table.view()
        with self._failures.logged():  # such as too little memory
            kept = np.flatnonzero(table.alive)
            kept = kept[np.argsort(table.ids[kept])]
            store = _copied(old, kept, old.empty())
            with self._writing:
                if self._store is not old:  # another thread compacted it
                    return
                now = self._table.view()
                late = np.arange(table.n, now.n)
                slots = np.concatenate([kept, late])
                fresh = SlotTable()
                fresh.restore(now.ids[slots], now.alive[slots])
                self._store, self._table = _copied(old, late, store), fresh
                self._publish()

    def _publish(self) -> None:
        """Hand the new state to readers in one assignment: they see all of a change or nothing of
        it."""
        recall = self._built_recall if self._parameters is None else self._tuned_recall
        self._view = IndexView(
            self.recipe,
            self.dim,
            self._store,
            self._table.view(),
            self._parameters,
            recall,
            self._built_recall,
        )


def _copied(store: Store, slots: Int64s, into: Store) -> Store:
    for start in range(0, len(slots), SCAN_ROWS):
        into.add(store.gather(slots[start : start + SCAN_ROWS]))
    return into
