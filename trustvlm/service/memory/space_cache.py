"""What a process keeps in memory of a label space, following the catalog by revision, and one
call's reading of it.

A cache at revision r reads the rows changed since r and applies them: that costs what was changed,
at any size of the space. Readers hold a :class:`SpaceView`, one complete revision, which later
changes never touch. Everything here can be thrown away: it comes back from the catalog, or faster
from a snapshot file and the rows since.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import label_changes
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recipe import Recipe, load_recipe
from trustvlm.index.rows import RowTable, RowView
from trustvlm.index.string_table import NameTable
from trustvlm.service.memory.aliases import Aliases
from trustvlm.service.memory.passes import pass_device
from trustvlm.service.memory.snapshots import Loaded
from trustvlm.system.fault_points import reached
from trustvlm.types.arrays import Int64s

COMPACT_SHARE, COMPACT_ROWS = 0.25, 1024
"""Dead rows are dropped when they exceed both."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SpaceView:
    """A label space at one revision. Readers write nothing that can be reached from it.

    Attributes:
        space: its row. epoch: of the catalog. revision: the view's. recipe: of its indexes.
        names: label name of each text slot (it may go on beyond text.n; those belong to later
            revisions).
        text: text prototypes by label id. prototypes: prototypes by label id.
        index: FAISS over the prototypes; None where a pass over their rows is as exact, and as
            fast.
        device: of torch, where products with many rows are made; None: the processor.
        aliases: which labels are further names of others.
    """

    space: SpaceRecord
    epoch: str
    revision: int
    recipe: Recipe
    names: NameTable
    text: RowView
    prototypes: RowView
    index: IndexView | None
    device: str | None
    aliases: Aliases


@dataclass(eq=False)
class SpaceMemo:
    """Each value names its revision; a reader that needs another one computes it and puts it here.
    The modules that compute values own their classes, and none of these is named here.

    Attributes:
        epoch, recipe: of the catalog and the space, which the values belong to.
        lock: guards the indexes over support images and their prints. fitting: guards the
            discriminant.
        newest: the last value of each kind that :meth:`once` made, with its key.
    """

    epoch: str
    recipe: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    fitting: threading.Lock = field(default_factory=threading.Lock)
    newest: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)
    _making: dict[str, threading.RLock] = field(default_factory=dict)
    _latest: dict[type, Any] = field(default_factory=dict)

    def latest(self, kind: type[T]) -> T | None:
        """The value of this class that :meth:`keep` was given last; None: there was none."""
        value: T | None = self._latest.get(kind)
        return value

    def keep(self, value: object) -> None:
        """Keep a value in place of the one of its class."""
        self._latest[type(value)] = value

    def once(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `make()` for this key; the last one of its kind is kept. Calls that need one
        at the same time wait for the first of them. `make` may need values of other kinds."""
        with self._making.setdefault(kind, threading.RLock()):
            kept = self.newest.get(kind)
            if kept is None or kept[0] != key:
                kept = self.newest[kind] = key, make()
            value: T = kept[1]
            return value


@dataclass(frozen=True, eq=False)
class KeptState:
    """A space at one state of the catalog.

    Attributes:
        name: the space's name as the call spelled it. version: of the catalog, see
            :meth:`Catalog.version`; None where it is not comparable.
        view: the space. memo: what was computed of it, at any revision.
        values: what was computed from this state, by the name of the value.
    """

    name: str
    version: Hashable
    view: SpaceView
    memo: SpaceMemo
    values: dict[str, Any] = field(default_factory=dict)


class Reading:
    """What one call reads, all of it at one state of the catalog. Used by one thread.

    Args:
        state: the space. begin: gives a transaction at exactly that state.
    """

    def __init__(self, state: KeptState, begin: Callable[[], Connection]) -> None:
        self.view, self.memo = state.view, state.memo
        self._values, self._begin = state.values, begin
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The call's transaction, begun when it is first asked for."""
        if self._connection is None:
            self._connection = self._begin()
        return self._connection

    def once(self, what: str, read: Callable[[], T]) -> T:
        """The value of `read()` for this state, kept under the name `what` for all calls that read
        this state; the first one that needs it calls `read`."""
        if what not in self._values:
            self._values[what] = read()
        value: T = self._values[what]
        return value


class SpaceCache:
    """The derived state of one space: text prototypes, prototypes, their index, and the labels'
    names.

    Attributes:
        revision: the one it has reached. mapped: it starts with the mapped rows of a snapshot.
        replayed: labels read from the catalog since the last snapshot.
        state: what calls are given while nothing is committed to the catalog; None: nothing is.
    """

    def __init__(
        self, space: SpaceRecord, epoch: str, device: str, loaded: Loaded | None = None
    ) -> None:
        self.space_id, self.epoch, self.recipe = space.id, epoch, load_recipe(space.recipe)
        self.revision, self.replayed = 0 if loaded is None else loaded.revision, 0
        self.mapped = loaded is not None and loaded.mapped
        self._device = pass_device(device)
        self._view: SpaceView | None = None
        self.state: KeptState | None = None
        if loaded is None:
            dim = space.verifier_dim
            needed = not self.recipe.exact or device != "cpu"
            self._names, self._aliases = NameTable(), Aliases()
            self._text, self._prototypes = RowTable(space.classifier_dim), RowTable(dim)
            self._index = LiveIndex(self.recipe, dim, device=device) if needed else None
        else:
            self._names, self._aliases = loaded.names, loaded.aliases
            self._text, self._prototypes = loaded.text, loaded.prototypes
            self._index = loaded.index

    def reserve(self, labels: int, prototypes: int) -> None:
        """Make room for these numbers of labels and prototypes, so that adding them copies
        nothing."""
        self._text.reserve(labels)
        self._prototypes.reserve(prototypes)

    def follow(self, connection: Connection, space: SpaceRecord) -> None:
        """Apply the rows changed since this cache's revision."""
        if self.revision == space.revision:
            return
        since, self._view, self.state = self.revision, None, None
        if since:
            gone = purge.purged_since(connection, space, "label", since)
            self._drop(np.array(gone, dtype=np.int64))
            self._aliases = self._aliases.followed((), (), gone)
        for change in label_changes.changed(connection, space.id, since, space.dims):
            if since:  # a new cache has nothing to drop
                self._drop(np.array([*change.removed, *change.ids], dtype=np.int64))
            self._aliases = self._aliases.followed(change.ids, change.aliases, change.removed)
            self._put(change)
            self.replayed += len(change.ids)
        self.revision = space.revision
        self._compact()

    def view(self, space: SpaceRecord) -> SpaceView:
        """The current state as one immutable view; the same as long as nothing changes."""
        if self._view is None or self._view.space != space:
            if self._index is not None:
                self._index.search_with(space.search.get("prototype"))
            self._view = SpaceView(
                space,
                self.epoch,
                self.revision,
                self.recipe,
                self._names,
                self._text.view(),
                self._prototypes.view(),
                None if self._index is None else self._index.view(),
                self._device,
                self._aliases,
            )
        return self._view

    @property
    def sizes(self) -> tuple[int, int]:
        """The numbers of live labels and prototypes."""
        return self._text.view().live, self._prototypes.view().live

    def _drop(self, ids: Int64s) -> None:
        """Tombstone those of `ids` that are live."""
        live = ids[self._text.slots(ids) >= 0]
        if len(live):
            self._text.tombstone(live)
        live = ids[self._prototypes.slots(ids) >= 0]
        if len(live):
            self._prototypes.tombstone(live)
            if self._index is not None:
                self._index.remove(live)

    def _put(self, change: label_changes.LabelChange) -> None:
        """Append labels, of which no row is live: a changed one is a tombstone and a new row."""
        ids = np.array(change.ids, dtype=np.int64)
        self._text.append(ids, change.text)
        self._names.extend(change.names)
        if change.prototyped:
            self._prototypes.append(ids[change.prototyped], change.prototypes)
            if self._index is not None:
                self._index.add(ids[change.prototyped], change.prototypes)

    def _compact(self) -> None:
        """Drop dead rows where they are many; rows of a snapshot go when the next one is
        written."""
        if self.mapped:
            return
        if _is_due(self._text):
            moved = self._text.compact()
            names = [""] * len(self._text)
            for old, new in enumerate(moved.tolist()):
                if new >= 0:
                    names[new] = self._names[old]
            self._names = NameTable()
            self._names.extend(names)
            reached("cache.compacted")
        if _is_due(self._prototypes):
            self._prototypes.compact()


def _is_due(table: RowTable) -> bool:
    view = table.view()
    return table.dead_share > COMPACT_SHARE and view.n - view.live > COMPACT_ROWS
