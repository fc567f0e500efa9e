"""The columns of attributes that a process keeps of a space: read from the catalog when a filter
first names a key, and followed by revision.

Those of indexed keys of labels lie in files, so that a process starts without reading every row.
Files are derived: they can be deleted.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic_core import from_json
from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.attributes.rows import Kind
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, TrustVLMError
from trustvlm.index.slot_table import SlotTable, SlotView
from trustvlm.index.snapshot import read_snapshot, write_snapshot
from trustvlm.index.string_table import NameTable, pack_strings
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import Reading, SpaceView
from trustvlm.system.background import Failures, OneAtATime
from trustvlm.types.arrays import Bools, Int64s
from trustvlm.types.attributes.columns import Column, value_at
from trustvlm.types.attributes.filters import Condition

log = logging.getLogger("trustvlm")

RENEWED_ROWS = 5_000
"""A file is written again when this many objects, and a tenth of all, have changed since."""

COMPACT_SHARE, COMPACT_ROWS = 0.25, 1024
"""Rows of changed attributes are dropped when they exceed both."""

MOST_KEPT = 16
"""Masks of a space that a process keeps: of a million labels, 2 MB each."""

KeyPath = tuple[str, ...]
"""The parts of a key."""

T = TypeVar("T")


def described(reading: Reading, kind: Kind) -> bool:
    """Whether a label or support image of the space has, or had, attributes."""
    space_id = reading.view.space.id
    return reading.once(
        f"{kind} described", lambda: rows.any_in(reading.connection, kind, space_id)
    )


class AttributeColumns:
    """The columns over the labels or the support images of a space, at a revision.

    A changed object is a dead row and a new one.

    Attributes:
        revision: the one that they have reached. generation: changes when rows are renumbered.
        followed: objects that changed since they were read from a file, or all were read.
    """

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._table, self._columns = SlotTable(), dict[KeyPath, Column]()
        self.revision = self.generation = self.followed = 0

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]], revision: int) -> AttributeColumns:
        """The columns of labels that gave `arrays` with :meth:`to_arrays`, at this revision.

        Raises:
            Damaged: the arrays do not belong together.
        """
        columns = cls("label")
        try:
            columns._table.restore(arrays["ids"], np.ones(len(arrays["ids"]), np.bool_))
            keys = NameTable(arrays["keys"], arrays["keys.offsets"])
            for number in range(len(keys)):
                stored = {
                    name.removeprefix(f"{number}."): array
                    for name, array in arrays.items()
                    if name.startswith(f"{number}.")
                }
                texts = NameTable(stored.pop("texts"), stored.pop("texts.offsets"))
                column = columns._columns[tuple(keys[number].split("."))] = Column(stored)
                column.texts = [texts[place] for place in range(len(texts))]
        except (KeyError, UnicodeDecodeError, InvalidInput) as error:
            raise Damaged(f"the stored attributes do not belong together: {error}") from error
        columns.revision = revision
        return columns

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The columns as arrays for a file, without dead rows."""
        self._compact()
        arrays: dict[str, npt.NDArray[Any]] = {"ids": self._table.view().ids}
        paths = list(self._columns)
        arrays["keys"], arrays["keys.offsets"] = pack_strings([".".join(one) for one in paths])
        for number, path in enumerate(paths):
            column = self._columns[path]
            arrays |= {f"{number}.{name}": one for name, one in column.to_arrays().items()}
            texts, offsets = pack_strings(column.texts)
            arrays |= {f"{number}.texts": texts, f"{number}.texts.offsets": offsets}
        return arrays

    def follow(self, connection: Connection, space: SpaceRecord, paths: Iterable[KeyPath]) -> None:
        """Bring them to the space's revision, which is the transaction's, with columns for these
        keys."""
        if missing := [path for path in paths if path not in self._columns]:
            # One pass over all rows serves the new keys; the others start again with them.
            self._columns |= {path: Column() for path in missing}
            self._read_all(connection, space.id)
        elif self.revision < space.revision:
            self._read_changes(connection, space)
        self.revision = space.revision

    def _read_all(self, connection: Connection, space_id: int) -> None:
        self._table, self.generation = SlotTable(), self.generation + 1
        self._columns = {path: Column() for path in self._columns}
        for some in rows.changed(connection, self._kind, space_id, 0):
            self._add(some)

    def _read_changes(self, connection: Connection, space: SpaceRecord) -> None:
        self._drop(purge.purged_since(connection, space, self._kind, self.revision))
        for some in rows.changed(connection, self._kind, space.id, self.revision):
            self._drop([owner for owner, _ in some])
            self._add(some)
            self.followed += len(some)
        dead = self._table.n - self._table.live
        if dead > COMPACT_ROWS and self._table.dead_share > COMPACT_SHARE:
            self._compact()

    def _add(self, some: list[tuple[int, str]]) -> None:
        slots = self._table.append(np.array([owner for owner, _ in some], np.int64))
        objects: list[Any] = [from_json(text) for _, text in some]
        for path, column in self._columns.items():
            column.extend(
                (slot, value_at(one, path)) for slot, one in zip(slots, objects, strict=True)
            )

    def _drop(self, owners: list[int]) -> None:
        ids = np.unique(np.array(owners, np.int64))
        slots = self._table.slots(ids)
        live = slots >= 0
        if live.any():
            self._table.kill(ids[live], slots[live])

    def _compact(self) -> None:
        kept = self._table.kept()
        moved = np.full(self._table.n, -1, np.int64)
        moved[kept] = np.arange(len(kept))
        self._table.keep(kept)
        for column in self._columns.values():
            column.kept(moved)
        self.generation += 1

    def __contains__(self, path: object) -> bool:
        return path in self._columns

    def rows(self) -> SlotView:
        """Whose attributes each row holds."""
        return self._table.view()

    def holds(self, condition: Condition, start: int, stop: int) -> Bools:
        """(stop − start,) whether a condition holds of each row."""
        return self._columns[condition.path].holds(condition, start, stop)

    def has(self, path: KeyPath) -> Bools:
        """(n,) which rows have a value under a key."""
        condition = Condition(path, "exists", (True,))
        return self._columns[path].holds(condition, 0, self._table.n)


class AttributeFiles:
    """The files of all spaces.

    Args:
        catalog: the truth. folder: where they lie. keep_nothing_purged: called with (space id,
            revision) after a file was written: deletes it if it holds what was purged meanwhile.
    """

    def __init__(
        self, catalog: Catalog, folder: Path, keep_nothing_purged: Callable[[int, int], object]
    ) -> None:
        self._catalog, self._folder, self.check = catalog, folder, keep_nothing_purged
        failures = Failures(log, "writing attributes to a file in the background")
        self._renewal = OneAtATime(failures, "trustvlm-attributes")
        self._void: set[int] = set()
        """Spaces whose file is of no use: of an earlier epoch or recipe, or damaged."""

    def path(self, space_id: int) -> Path:
        """Where the file of a space lies."""
        return self._folder / f"{space_id}.attributes"

    def load(self, view: SpaceView) -> AttributeColumns | None:
        """The columns of the file of a space, at the file's revision; None without one that can be
        followed."""
        key = snapshot_key(view.space, view.epoch, view.revision)
        try:
            stored = read_snapshot(self.path(view.space.id), key)
            if not view.space.log_start <= stored.key.revision <= view.revision:
                self._void.add(view.space.id)
                return None
            return AttributeColumns.from_arrays(stored.arrays, stored.key.revision)
        except NotFound:
            return None
        except Conflict as error:  # after a restore, a repair or 'trustvlm db new-epoch'
            log.info("reading attributes from the catalog: %s", error)
        except TrustVLMError as error:
            log.warning("reading attributes from the catalog: %s", error)
        self._void.add(view.space.id)
        return None

    def due(self, connection: Connection, view: SpaceView, columns: AttributeColumns) -> bool:
        """Whether a file is to be written: keys are indexed, and it is missing, void or
        outgrown."""
        if self._catalog.read_only or not rows.indexed_keys(connection, view.space.id):
            return False
        enough, space_id = max(RENEWED_ROWS, columns.rows().live // 10), view.space.id
        missing = space_id in self._void or not self.path(space_id).exists()
        return missing or columns.followed >= enough

    def renew_soon(self, space_name: str) -> None:
        """Write the file of a space in the background, unless one is being written."""
        self._renewal.begin(lambda: self._renew(space_name))

    def _renew(self, space_name: str) -> None:
        try:
            with self._catalog.read() as connection:
                space, epoch = spaces.find(connection, space_name), self._catalog.epoch(connection)
                self.write(connection, space, epoch)
            self.check(space.id, space.revision)
        except (OSError, TrustVLMError) as error:
            log.warning("the attributes of space %s were not indexed: %s", space_name, error)

    def write(self, connection: Connection, space: SpaceRecord, epoch: str) -> None:
        """Write the file of a space from the catalog, with the columns of its indexed keys; delete
        it where there are none.

        Raises:
            ReadOnly, Unavailable: it cannot be written.
        """
        keys = rows.indexed_keys(connection, space.id)
        self._void.discard(space.id)
        if not keys:
            self.path(space.id).unlink(missing_ok=True)
            return
        columns = AttributeColumns(rows.LABELS)
        paths = [tuple(key.split(".")) for key in keys]
        columns.follow(connection, space, paths)
        key = snapshot_key(space, epoch, space.revision)
        write_snapshot(self.path(space.id), key, columns.to_arrays())

    def close(self) -> None:
        """Wait for what is being written."""
        self._renewal.wait()


@dataclass(eq=False)
class AttributeMemo:
    """What a process keeps of the attributes of a space.

    Attributes:
        lock: guards all of it. columns: by "label" and "support".
        files: of indexed keys.
        owners: a revision, and ids and label ids of the support images that there were by then.
        kept: name → the objects that a value was made for, and the value; the newest last.
    """

    lock: threading.RLock = field(default_factory=threading.RLock)
    columns: dict[Kind, AttributeColumns] = field(default_factory=dict)
    owners: tuple[int, Int64s, Int64s] = field(
        default_factory=lambda: (0, np.empty(0, np.int64), np.empty(0, np.int64))
    )
    files: AttributeFiles | None = None
    kept: dict[str, tuple[tuple[weakref.ref[Any], ...], Any]] = field(default_factory=dict)

    def once(self, name: str, state: tuple[Any, ...], make: Callable[[], T]) -> T:
        """The value of `make()` for these objects, one of the last :data:`MOST_KEPT` names'."""
        with self.lock:
            entry = self.kept.pop(name, None)
            if entry is None or any(
                ref() is not one for ref, one in zip(entry[0], state, strict=True)
            ):
                entry = tuple(map(weakref.ref, state)), make()
            self.kept[name] = entry  # the newest last
            while len(self.kept) > MOST_KEPT:
                del self.kept[next(iter(self.kept))]
            value: T = entry[1]
            return value

    def at(self, reading: Reading, kind: Kind, paths: Iterable[KeyPath]) -> AttributeColumns:
        """The columns at the reading's revision. The caller holds the lock while it reads them."""
        revision = reading.view.revision
        columns, paths = self.columns.get(kind), list(paths)
        of_labels = kind == "label" and self.files is not None
        if columns is None or columns.revision < reading.view.space.log_start:
            stored = self.files.load(reading.view) if of_labels and self.files else None
            columns = self.columns[kind] = stored or AttributeColumns(kind)
        elif columns.revision > revision:
            # Another thread took them further than this transaction sees: private ones.
            columns = AttributeColumns(kind)
        if columns.revision < revision or any(path not in columns for path in paths):
            connection = reading.connection  # which may say that the call has to start over
            try:
                columns.follow(connection, reading.view.space, paths)
            except BaseException:
                self.columns.pop(kind, None)  # half of a change may be in them
                raise
            if of_labels and self.files and self.files.due(connection, reading.view, columns):
                self.files.renew_soon(reading.view.space.name)
                columns.followed = 0
        return columns


def memo_of(reading: Reading) -> AttributeMemo:
    """What is kept of the attributes of the reading's space."""
    memo = reading.memo.latest(AttributeMemo)
    assert memo is not None  # every memo of a space has one from its beginning
    return memo
