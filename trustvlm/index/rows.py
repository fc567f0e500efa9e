"""Keyed float32 rows in one contiguous growable matrix, with tombstones: the exact side (text prototypes, prototypes).

Invariants: appending writes behind the rows that any view knows, growing and compacting copy into new arrays, and
tombstoning copies the mask. So a :class:`RowView` is one whole state for ever, at no cost to the writer but that mask.
One writer at a time; views are for any number of threads, and :meth:`RowTable.view` may be called by any of them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.index.checks import as_ids, as_vectors
from trustvlm.index.slots import SlotTable, SlotView, with_spare
from trustvlm.types import Bools, Float32s, Int64s

__all__ = ["RowTable", "RowView"]


@dataclass(frozen=True, eq=False)
class RowView:
    """The rows as they were at one moment; every array is read-only.

    Attributes:
        n: number of slots, dead ones included.
        ids: (n,) the id of each slot.
        rows: (n, dim) float32; dead rows still hold what they held.
        alive: (n,) whether the slot is live.
        live: number of live slots.
    """

    n: int
    ids: Int64s
    rows: Float32s
    alive: Bools
    live: int
    _slots: SlotView

    def slots(self, ids: npt.ArrayLike) -> Int64s:
        """(n,) slot of each id in this view, −1 for ids that are not live in it.

        Raises:
            InvalidInput: ids that are not non-negative integers.
        """
        return self._slots.slots(as_ids(ids))

    def __len__(self) -> int:
        return self.live


class RowTable:
    """Append-only float32 rows under int64 ids.

    Args:
        dim: length of a row.
        capacity: rows to make room for.
    """

    def __init__(self, dim: int, capacity: int = 0) -> None:
        if dim < 1 or capacity < 0:
            raise InvalidInput(f"expected dim ≥ 1 and capacity ≥ 0, got {dim} and {capacity}")
        self.dim = dim
        self._table = SlotTable(capacity)
        self._rows = np.empty((capacity, dim), np.float32)
        self._publish()

    def append(self, ids: npt.ArrayLike, rows: npt.ArrayLike) -> range:
        """Appends (n, dim) rows under n ids; returns their slots. O(n) amortised.

        Raises:
            InvalidInput: an id is live already or given twice, or the rows are not finite floats of that shape.
        """
        checked = as_ids(ids)
        vectors = as_vectors(rows, self.dim, "rows", count=len(checked))
        self._table.require_new(checked)
        self.reserve(self._table.n + len(checked))
        slots = self._table.append(checked)
        self._rows[slots.start : slots.stop] = vectors
        self._publish()
        return slots

    def tombstone(self, ids: npt.ArrayLike) -> None:
        """Marks the rows of `ids` dead. Copies the mask, one byte a slot.

        Raises:
            NotFound: an id is not live.
            InvalidInput: an id is given twice.
        """
        checked = as_ids(ids)
        slots = self._table.live_slots(checked)
        self._table.kill(checked, slots)
        self._publish()

    def slots(self, ids: npt.ArrayLike) -> Int64s:
        """(n,) slot of each id, −1 for ids that are not live. For the writer; readers ask their view."""
        return self._table.slots(as_ids(ids))

    def reserve(self, n: int) -> None:
        """Makes room for `n` slots in all, dead ones included, so that appending up to there copies nothing."""
        self._table.reserve(n)
        if n > len(self._rows):
            larger = np.empty((with_spare(n), self.dim), np.float32)
            larger[: self._table.n] = self._rows[: self._table.n]
            self._rows = larger
            self._publish()

    @property
    def dead_share(self) -> float:
        """Dead slots over all slots; 0 when there are none."""
        return self._table.dead_share

    def compact(self) -> Int64s:
        """Drops dead rows and orders the others by id, in new arrays: views taken before stay as they are.

        Returns:
            (old n,) the new slot of each old one, −1 for dead ones.
        """
        kept = self._table.kept()
        moved = np.full(self._table.n, -1, np.int64)
        moved[kept] = np.arange(len(kept))
        rows = np.empty((with_spare(len(kept)), self.dim), np.float32)
        np.take(self._rows, kept, axis=0, out=rows[: len(kept)], mode="clip")  # "raise" would buffer a second copy
        self._table.keep(kept)
        self._rows = rows
        self._publish()
        return moved

    def view(self) -> RowView:
        """The rows as they are now. O(1)."""
        return self._view

    def __len__(self) -> int:
        return self._table.live

    def _publish(self) -> None:
        """Hands the new state to readers in one assignment: they see all of a change or nothing of it."""
        slots = self._table.view()
        rows = self._rows[: slots.n]
        rows.flags.writeable = False
        self._view = RowView(slots.n, slots.ids, rows, slots.alive, slots.live, slots)
