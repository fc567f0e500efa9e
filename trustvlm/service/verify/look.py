"""One look at a home: everything that can be checked, a read transaction for each space."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog import Catalog
from trustvlm.catalog.store import schema, sqlite
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.raw import Raw
from trustvlm.errors import Damaged, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.verify.derived import check_calibrations, check_changes, check_fits
from trustvlm.service.verify.facts import Facts, check_space
from trustvlm.service.verify.images import check_observations, check_supports, check_thumbnails
from trustvlm.service.verify.labels import check_labels
from trustvlm.service.verify.snapshots import OpenSnapshot, check_snapshot, open_snapshots
from trustvlm.types.verification import Damage

__all__ = ["CHECKS", "Look", "look"]

Check = Callable[[Connection, Facts, Sequence[Raw]], Iterator[Damage]]
Progress = Callable[[int, int], None]
Tick = Callable[[str, int], None]

CHECKS: Mapping[str, Check] = {
    "label": check_labels,
    "support": check_supports,
    "thumbnail": check_thumbnails,
    "observation": check_observations,
    "calibration": check_calibrations,
    "change": check_changes,
    "fit": check_fits,
}
"""What checks each kind of row. A repair asks the same again before it changes anything."""

LIMIT = 100_000
"""Damage of one look that is remembered; the rest is counted."""

_PAGE = 500
_INDEX_TROUBLE = ("missing from index", "wrong # of entries in index", "non-unique entry in index")


@dataclass
class Look:
    """What one look found.

    Attributes:
        catalog: its file. spaces: names by id, of the spaces looked at.
        damage, more: what is wrong, and how much more is. notes: see :class:`VerifyReport`.
        checked: how many rows of each kind. indexes_agree: SQLite's indexes are those of its
            tables.
    """

    catalog: Path
    spaces: dict[int, str] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    more: int = 0
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)
    indexes_agree: bool = True

    def add(self, damage: Damage) -> None:
        """Remember it while there is room, and count it beyond."""
        if len(self.damage) < LIMIT:
            self.damage.append(damage)
        else:
            self.more += 1

    @contextmanager
    def noting(self, space: str | None, space_id: int | None, kind: str) -> Iterator[None]:
        """What cannot be read within the block is damage of this kind, and no reason to stop
        looking."""
        try:
            with sqlite.translated(self.catalog):
                yield
        except Damaged as error:
            self.add(
                Damage(
                    space,
                    space_id,
                    kind,
                    None,
                    f"the {kind} rows" if space else "the catalog",
                    str(error),
                    "backup",
                )
            )


def look(home: Home, space_name: str | None, progress: Progress | None = None) -> Look:
    """Look at a space, or at all of the home.

    Raises:
        NotFound: no such space.
    """
    found, done = Look(home.catalog.path), 0
    files, notes = open_snapshots(home.caches.folder)
    found.notes += notes if space_name is None else []
    epoch, ids = _catalog(home.catalog, found)
    chosen = list(_chosen(home.catalog, ids, space_name, found))
    total = sum(number for _, number in chosen) + sum(map(_rows, files))

    def tick(kind: str, number: int) -> None:
        nonlocal done
        done += number
        found.checked[kind] += number
        if progress is not None:
            progress(min(done, total), total)

    for space_id, _ in chosen:
        own = [file for file in files if file.space_id == space_id]
        with (
            found.noting(found.spaces[space_id], space_id, "space"),
            home.catalog.read() as connection,
        ):
            _space(connection, space_id, epoch, own, found, tick)
    for file in files if space_name is None else []:
        if file.space_id not in ids:
            problem = f"space {file.space_id} is not there (it may have been purged)"
            found.add(
                Damage(None, file.space_id, "snapshot", None, str(file.path), problem, "snapshot")
            )
    return found


def _rows(file: OpenSnapshot) -> int:
    return sum(len(rows) for rows in file.content.rows.values()) if file.content is not None else 0


def _catalog(catalog: Catalog, found: Look) -> tuple[str, list[int]]:
    """Check the file as a whole; its epoch and the ids of its spaces."""
    epoch, ids = "", list[int]()

    def add(what: str, problem: str, remedy: str) -> None:
        found.add(Damage(None, None, "catalog", None, what, problem, remedy))

    with found.noting(None, None, "catalog"), catalog.read() as connection:
        with found.noting(None, None, "catalog"):
            for message in sqlite.problems(connection):
                index = any(known in message for known in _INDEX_TROUBLE)
                found.indexes_agree = False
                add(catalog.path.name, f"SQLite: {message}", "index" if index else "backup")
        with found.noting(None, None, "catalog"):
            for difference in schema.drift(connection):
                remedy = "index" if difference.startswith("add index") else "backup"
                add("the schema", f"to be as this program's: {difference}", remedy)
        with found.noting(None, None, "catalog"):
            for table, row_id, parent in sqlite.broken_references(connection):
                kind = raw.kind_of_table(table)
                problem = f"it refers to a row of {parent!r} that is not there"
                what = f"row {row_id} of table {table!r}"
                found.add(
                    Damage(
                        None,
                        None,
                        kind or "catalog",
                        row_id,
                        what,
                        problem,
                        "quarantine" if kind else "backup",
                    )
                )
        with found.noting(None, None, "catalog"):
            ids = raw.space_ids(connection)
        try:
            with sqlite.translated(catalog.path):
                epoch = catalog.epoch(connection)
            uuid.UUID(epoch)
        except (Damaged, ValueError) as error:
            add("the epoch", f"expected a UUID: {error}", "epoch")
    return epoch, ids


def _chosen(
    catalog: Catalog, ids: Sequence[int], space_name: str | None, found: Look
) -> Iterator[tuple[int, int]]:
    """(id, number of rows) of the spaces asked for, each with its own row checked.

    Raises:
        NotFound: none has that name.
    """
    for space_id in ids:
        with found.noting(None, space_id, "space"), catalog.read() as connection:
            facts, damage = check_space(connection, space_id)
            name = damage[0].space if facts is None else facts.name
            asked = space_name is None or (name is not None and normal(name) == normal(space_name))
            if not asked or (space_name is not None and facts is not None and facts.removed):
                continue
            for item in damage:
                found.add(item)
            found.spaces[space_id] = str(name)
            found.checked["space"] += 1
            yield (
                space_id,
                0
                if facts is None
                else sum(raw.count(connection, kind, space_id) for kind in CHECKS),
            )
    if space_name is not None and not found.spaces:
        raise NotFound(f"no space {space_name!r}; 'trustvlm space list' shows what there is")


def _space(
    connection: Connection,
    space_id: int,
    epoch: str,
    files: Sequence[OpenSnapshot],
    found: Look,
    tick: Tick,
) -> None:
    """Check the rows and the snapshots of a space."""
    facts, _ = check_space(connection, space_id)
    if facts is None:
        return
    for kind, check in CHECKS.items():
        with found.noting(facts.name, space_id, kind):
            for page in raw.pages(connection, kind, space_id, _PAGE):
                for damage in check(connection, facts, page):
                    found.add(damage)
                tick(kind, len(page))
    for file in files:
        damages, notes = check_snapshot(connection, facts, epoch, file, tick)
        for damage in damages:
            found.add(damage)
        found.notes += notes
        tick("snapshot", 1)
