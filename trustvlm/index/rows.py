"""Keyed rows with tombstones: the exact side (text prototypes, prototypes).

A small table is one growable float32 matrix in memory. A large one starts with the rows of a
snapshot, which stay in its file: 16-bit copies of them, mapped and shared between processes, are
what passes over all rows read; the float32 rows of the few that matter are read one by one. What
came since is a float32 tail in memory.

Invariants: appending writes behind the rows that any view knows, growing and compacting copy into
new arrays, and tombstoning copies the mask. So a :class:`RowView` is one whole state for ever, at
no cost to the writer but that mask. One writer at a time; any number of threads may take views.
"""

from __future__ import annotations

from ctypes import c_char
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.index.row_file import RowFile
from trustvlm.index.slot_table import SlotTable, SlotView, with_spare
from trustvlm.index.validate import as_ids, as_vectors
from trustvlm.softmax.leading import ExactRows
from trustvlm.softmax.quantize import Segment
from trustvlm.types.arrays import Bools, Float32s, Int64s


@dataclass(frozen=True, eq=False)
class RowBase:
    """The rows of a snapshot, all of them live then.

    Attributes:
        ids: (n,). segment: their 16-bit copies. exact: their float32 rows, in the file.
    """

    ids: Int64s
    segment: Segment
    exact: RowFile


@dataclass(frozen=True, eq=False)
class RowView:
    """The rows as they were at one moment; every array is read-only.

    Attributes:
        n: number of slots, dead ones included.
        ids: (n,) the id of each slot.
        rows: (n − b, dim) float32 rows in memory, of the slots behind the b of the base (0 without
            one); dead rows still hold what they held.
        alive: (n,) whether the slot is live.
        live: number of live slots.
        base: the rows that lie in a file, None without.
    """

    n: int
    ids: Int64s
    rows: Float32s
    alive: Bools
    live: int
    _slots: SlotView
    base: RowBase | None = None

    @property
    def segments(self) -> list[Segment]:
        """The rows as a pass over all of them reads them."""
        if self.base is None:
            return [Segment(0, self.rows)]
        return [self.base.segment, Segment(len(self.base.ids), self.rows)]

    @property
    def nbytes(self) -> int:
        """Bytes of the matrices that passes read."""
        return sum(segment.rows.nbytes for segment in self.segments)

    def take(self, slots: Int64s) -> Float32s:
        """(n, dim) float32 rows of these slots.

        Raises:
            Damaged: a row in the file does not match its checksum.
        """
        if self.base is None:
            taken: Float32s = self.rows[slots]
            return taken
        return self.exact.take(slots)

    @property
    def exact(self) -> ExactRows:
        """The float32 rows of all slots."""
        if self.base is None:
            return ExactRows.in_memory(self.rows)
        return ExactRows(self.base.exact.mapped, self.rows, self.base.exact.prove)

    def slots(self, ids: npt.ArrayLike) -> Int64s:
        """(n,) slot of each id in this view, −1 for ids that are not live in it."""
        return self._slots.slots(np.asarray(ids, np.int64))

    def late(self) -> None:
        """Sort the ids that came out of order, so that no reader has to."""
        _ = self._slots.late

    def __len__(self) -> int:
        return self.live


_LINE = 64  # bytes of a line of the processor's cache: products with rows across two take longer


def _room(n: int, dim: int) -> Float32s:
    """An (n, dim) array without values, the first row of which begins with a line of the cache.

    It is the `base` of its slices, by which copies on a device are known: NumPy passes over arrays
    that lie in another array, not over those in an object of ctypes.
    """
    memory = np.empty(n * dim * 4 + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    room: Any = (c_char * (n * dim * 4)).from_buffer(memory.data, start)
    return np.ndarray((n, dim), np.float32, buffer=room)


class RowTable:
    """Append-only float32 rows under int64 ids.

    Args:
        dim: length of a row.
        capacity: rows to make room for.
        base: rows of a snapshot to start with.
    """

    def __init__(self, dim: int, capacity: int = 0, base: RowBase | None = None) -> None:
        if dim < 1 or capacity < 0:
            raise InvalidInput(f"expected dim ≥ 1 and capacity ≥ 0, got {dim} and {capacity}")
        self.dim = dim
        self._base = base
        self._first = 0 if base is None else len(base.ids)
        self._table = SlotTable(capacity)
        if base is not None:
            self._table.restore(base.ids, np.ones(len(base.ids), np.bool_))
        self._rows = _room(capacity, dim)
        self._publish()

    def append(self, ids: npt.ArrayLike, rows: npt.ArrayLike) -> range:
        """Appends (n, dim) rows under n ids; returns their slots. O(n) amortised.

        Raises:
            InvalidInput: an id is live already or given twice, or the rows are not finite floats of
                that shape.
        """
        checked = as_ids(ids)
        vectors = as_vectors(rows, self.dim, "rows", count=len(checked))
        self._table.require_new(checked)
        self.reserve(self._table.n + len(checked))
        slots = self._table.append(checked)
        self._rows[slots.start - self._first : slots.stop - self._first] = vectors
        self._publish()
        return slots

    def tombstone(self, ids: npt.ArrayLike) -> None:
        """Marks the rows of `ids` dead. Copies the mask, one byte a slot.

        Raises:
            NotFound: an id is not live.
            InvalidInput: an id is given twice.
        """
        checked = as_ids(ids)
        self._table.kill(checked, self._table.live_slots(checked))
        self._publish()

    def slots(self, ids: npt.ArrayLike) -> Int64s:
        """(n,) slot of each id, −1 for ids that are not live. For the writer; readers ask their
        view."""
        return self._table.slots(as_ids(ids))

    def reserve(self, n: int) -> None:
        """Makes room for `n` slots in all, dead ones included, so that appending up to there copies
        nothing."""
        self._table.reserve(n)
        late, used = n - self._first, self._table.n - self._first
        if late > len(self._rows):
            larger = _room(with_spare(late), self.dim)
            larger[:used] = self._rows[:used]
            self._rows = larger
            self._publish()

    @property
    def dead_share(self) -> float:
        """Dead slots over all slots; 0 when there are none."""
        return self._table.dead_share

    def compact(self) -> Int64s:
        """Drops dead rows and orders the others by id, in new arrays: views taken before stay as
        they are.

        Returns:
            (old n,) the new slot of each old one, −1 for dead ones.

        Raises:
            InvalidInput: the table starts with a snapshot, which only a new snapshot can follow.
        """
        if self._base is not None:
            raise InvalidInput(
                "a table that starts with a snapshot is compacted by writing a new one"
            )
        kept = self._table.kept()
        moved = np.full(self._table.n, -1, np.int64)
        moved[kept] = np.arange(len(kept))
        rows = _room(with_spare(len(kept)), self.dim)
        # The mode "raise" would buffer a second copy.
        np.take(self._rows, kept, axis=0, out=rows[: len(kept)], mode="clip")
        self._table.keep(kept)
        self._rows = rows
        self._publish()
        return moved

    def view(self) -> RowView:
        """The rows as they are now. O(1), but for ids that came out of order since."""
        self._view.late()
        return self._view

    def __len__(self) -> int:
        return self._table.live

    def _publish(self) -> None:
        """Hand the new state to readers in one assignment: they see all of a change or nothing."""
        slots = self._table.view()
        rows = self._rows[: slots.n - self._first]
        rows.flags.writeable = False
        self._view = RowView(slots.n, slots.ids, rows, slots.alive, slots.live, slots, self._base)
