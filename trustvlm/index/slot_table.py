"""Which id lives in which slot: the bookkeeping that row tables and live indexes share.

Invariants: a slot holds the same id for ever; slots are only appended, and a slot once dead stays
dead; an id is live in at most one slot; only :meth:`SlotTable.keep` renumbers, into new arrays. So
a :class:`SlotView` that shares the arrays of its time never changes. One writer at a time; views
may be read by any number of threads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.validate import require_unique, some
from trustvlm.types.arrays import Bools, Int64s

Scalar = TypeVar("Scalar", bound=np.generic)


def with_spare(need: int) -> int:
    """The capacity for `need` rows: a quarter more, so that appending stays O(1) amortised.

    Spare rows cost address space only: the pages behind an ``np.empty`` take no memory until they
    are written.
    """
    return need + need // 4 + 16


@dataclass(frozen=True, eq=False)
class SlotView:
    """The slots as they were at one moment.

    Attributes:
        n: number of slots, dead ones included.
        ids: (n,) the id of each slot; read-only.
        alive: (n,) whether the slot is live; read-only.
        live: number of live slots.
        ascending: the first `ascending` ids are strictly ascending.
    """

    n: int
    ids: Int64s
    alive: Bools
    live: int
    ascending: int

    def slots(self, ids: Int64s) -> Int64s:
        """(n,) slot of each id in this view, −1 for ids that are not live in it."""
        slots = _alive_only(_among(ids, self.ids[: self.ascending]), self.alive)
        late_ids, late_slots = self.late
        if len(late_ids):
            missing = np.flatnonzero(slots < 0)
            at = _among(ids[missing], late_ids)
            slots[missing] = np.where(at < 0, -1, late_slots[at])
        return slots

    def among(self, keep: Bools) -> SlotView:
        """The slots; live are those live ones that an (n,) mask keeps."""
        alive = self.alive & keep
        return replace(self, alive=alive, live=int(np.count_nonzero(alive)))

    @cached_property
    def late(self) -> tuple[Int64s, Int64s]:
        """Ids, ascending, and slots of the live slots behind the ascending ones; sorted at the
        first look."""
        slots = self.ascending + np.flatnonzero(self.alive[self.ascending :])
        order = np.argsort(self.ids[slots])
        return self.ids[slots][order], slots[order]


class SlotTable:
    """Growable id → slot table with tombstones."""

    def __init__(self, capacity: int = 0) -> None:
        self._ids = np.empty(capacity, np.int64)
        self._alive = np.empty(capacity, np.bool_)
        self._n = 0
        self._live = 0
        # The catalog numbers rows upwards, so nearly all slots are ascending by id: they are
        # searched by bisection, and only ids that came back after a change or out of order need an
        # entry of about 100 bytes in a dict.
        self._ascending = 0
        self._late: dict[int, int] = {}

    @property
    def n(self) -> int:
        """Number of slots, dead ones included."""
        return self._n

    @property
    def live(self) -> int:
        """Number of live slots."""
        return self._live

    @property
    def dead_share(self) -> float:
        """Dead slots over all slots; 0 when there are none."""
        return (self._n - self._live) / self._n if self._n else 0.0

    def slots(self, ids: Int64s) -> Int64s:
        """(n,) slot of each id, −1 for ids that are not live."""
        slots = _alive_only(_among(ids, self._ids[: self._ascending]), self._alive)
        if self._late:
            for i in np.flatnonzero(slots < 0).tolist():
                slots[i] = self._late.get(int(ids[i]), -1)
        return slots

    def live_slots(self, ids: Int64s) -> Int64s:
        """The slots of `ids`.

        Raises:
            NotFound: an id is not live.
            InvalidInput: an id occurs twice.
        """
        require_unique(ids)
        slots = self.slots(ids)
        if (slots < 0).any():
            raise NotFound(f"no live row with id {some(ids[slots < 0])}")
        return slots

    def require_new(self, ids: Int64s) -> None:
        """Raises InvalidInput when an id is live already or occurs twice in `ids`."""
        require_unique(ids)
        live = self.slots(ids) >= 0
        if live.any():
            raise InvalidInput(f"ids: expected ids that are not live, got {some(ids[live])}")

    def reserve(self, capacity: int) -> None:
        """Makes room for `capacity` slots in all, so that appending up to there copies nothing."""
        if capacity > len(self._ids):
            self._ids = _moved(self._ids, self._n, with_spare(capacity))
            self._alive = _moved(self._alive, self._n, with_spare(capacity))

    def append(self, ids: Int64s) -> range:
        """Appends ids that :meth:`require_new` has passed; returns their slots."""
        start, stop = self._n, self._n + len(ids)
        self.reserve(stop)
        self._ids[start:stop] = ids
        self._alive[start:stop] = True
        follows = self._ascending == start and (
            start == 0 or not len(ids) or ids[0] > self._ids[start - 1]
        )
        if follows and bool(np.all(ids[1:] > ids[:-1])):
            self._ascending = stop
        else:
            self._late.update(zip(ids.tolist(), range(start, stop), strict=True))
        self._n, self._live = stop, self._live + len(ids)
        return range(start, stop)

    def kill(self, ids: Int64s, slots: Int64s) -> None:
        """Marks the `slots` of `ids`, as :meth:`live_slots` gave them, dead; views keep the old
        mask."""
        self._alive = _moved(self._alive, self._n, len(self._alive))
        self._alive[slots] = False
        self._live -= len(slots)
        if self._late:
            for i in ids.tolist():
                self._late.pop(i, None)

    def kept(self) -> Int64s:
        """(live,) the live slots, ordered by id: what to :meth:`keep` in a compaction."""
        slots = np.flatnonzero(self._alive[: self._n])
        return slots[np.argsort(self._ids[slots])]

    def keep(self, slots: Int64s) -> None:
        """Drops all slots but :meth:`kept`'s, which become 0, 1, 2…, in new arrays."""
        n = len(slots)
        self._ids = _moved(self._ids[slots], n, with_spare(n))
        self._alive = np.ones(with_spare(n), np.bool_)
        self._n = self._live = self._ascending = n
        self._late = {}

    def restore(self, ids: Int64s, alive: Bools) -> None:
        """Fills an empty table with the slots of an earlier one.

        Raises:
            InvalidInput: an id is live twice.
        """
        require_unique(ids[alive])
        n = len(ids)
        self.reserve(n)
        self._ids[:n], self._alive[:n] = ids, alive
        rising = ids[1:] > ids[:-1]
        self._ascending = n if rising.all() else int(rising.argmin()) + 1
        late = self._ascending + np.flatnonzero(alive[self._ascending :])
        self._late = dict(zip(ids[late].tolist(), late.tolist(), strict=True))
        self._n, self._live = n, int(alive.sum())

    def view(self) -> SlotView:
        """The slots as they are now."""
        ids, alive = self._ids[: self._n], self._alive[: self._n]
        ids.flags.writeable = alive.flags.writeable = False
        return SlotView(self._n, ids, alive, self._live, self._ascending)


def _among(ids: Int64s, ascending: Int64s) -> Int64s:
    """(n,) position of each id in `ascending`, −1 where it is not there."""
    if not len(ascending):
        return np.full(len(ids), -1, np.int64)
    at = np.minimum(np.searchsorted(ascending, ids), len(ascending) - 1)
    return np.where(ascending[at] == ids, at, -1)


def _alive_only(slots: Int64s, alive: Bools) -> Int64s:
    """`slots` with −1 in place of dead ones."""
    if not len(alive):
        return slots  # all are −1, and there is nothing to index
    return np.where((slots >= 0) & alive[slots], slots, -1)


def _moved(array: npt.NDArray[Scalar], n: int, capacity: int) -> npt.NDArray[Scalar]:
    """The first `n` values of `array` in a new array of `capacity`."""
    new = np.empty(capacity, array.dtype)
    new[:n] = array[:n]
    return new
