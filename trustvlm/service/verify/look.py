"""One look at a home: everything that can be checked, a read transaction for each space."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow, Unreadable
from trustvlm.errors import Damaged, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.verify import check_derived, check_images, check_labels
from trustvlm.service.verify.check_snapshots import OpenSnapshot, check_snapshot, open_snapshots
from trustvlm.service.verify.space_facts import Problem, Row, SpaceFacts, check_space
from trustvlm.types.messages.commands import suggested
from trustvlm.types.thresholds import Thresholds
from trustvlm.types.verification import Damage

Check = Callable[[Connection, SpaceFacts, Sequence[Row]], Iterator[Problem]]
Progress = Callable[[int, int], None]
Tick = Callable[[str, int], None]

CHECKS: Mapping[str, Check] = {
    "label": check_labels.check_labels,
    "support": check_images.check_supports,
    "thumbnail": check_images.check_thumbnails,
    "observation": check_images.check_observations,
    "review": check_images.check_reviews,
    "calibration": check_derived.check_calibrations,
    "change": check_derived.check_changes,
    "fit": check_derived.check_fits,
    "label data": check_labels.check_label_attributes,
    "support data": check_labels.check_support_attributes,
    "verdict": check_derived.check_verdicts,
}
"""What checks each kind of row, once its columns hold what their types can."""

LIMIT = 100_000
"""Damage of one look that is remembered; the rest is counted."""

_PAGE = 500
_INDEX_TROUBLE = ("missing from index", "wrong # of entries in index", "non-unique entry in index")


@dataclass
class Look:
    """The result of one look.

    Attributes:
        catalog: what is looked at. spaces: names by id, of the spaces looked at.
        damage, more: what is wrong, and how much more is. notes: see :class:`VerifyReport`.
        checked: how many rows of each kind.
    """

    catalog: Catalog
    spaces: dict[int, str] = field(default_factory=dict)
    damage: list[Damage] = field(default_factory=list)
    more: int = 0
    notes: list[str] = field(default_factory=list)
    checked: Counter[str] = field(default_factory=Counter)

    def add(self, damage: Damage) -> None:
        """Remember it while there is room, and count it beyond."""
        if len(self.damage) < LIMIT:
            self.damage.append(damage)
        else:
            self.more += 1

    def add_to_catalog(self, what: str, problem: str, remedy: str) -> None:
        """Remember damage of the catalog as a whole."""
        self.add(Damage(None, None, "catalog", None, what, problem, remedy))

    @contextmanager
    def noting(self, space: str | None, space_id: int | None, kind: str) -> Iterator[None]:
        """What cannot be read within the block is damage of this kind, and no reason to stop."""
        try:
            with self.catalog.translated():
                yield
        except Damaged as error:
            what = f"the {kind} rows" if space else "the catalog"
            self.add(Damage(space, space_id, kind, None, what, str(error), "backup"))


def look(home: Home, space_name: str | None, progress: Progress | None = None) -> Look:
    """Look at a space, or at all of the home.

    Raises:
        NotFound: no such space.
    """
    result, done = Look(home.catalog), 0
    files, notes = open_snapshots(home.caches.folder)
    result.notes += notes if space_name is None else []
    epoch, ids = _look_at_catalog(home.catalog, result)
    counts = _look_at_spaces(home.catalog, ids, space_name, result)
    total = sum(counts.values()) + sum(file.rows for file in files)

    def tick(kind: str, number: int) -> None:
        nonlocal done
        done += number
        result.checked[kind] += number
        if progress is not None:
            progress(min(done, total), total)

    for space_id in counts:
        of_space = [file for file in files if file.space_id == space_id]
        with (
            result.noting(result.spaces[space_id], space_id, "space"),
            home.catalog.read() as connection,
        ):
            _look_at_rows(connection, space_id, epoch, of_space, home.thresholds, result, tick)
    for file in files if space_name is None else []:
        if file.space_id not in ids:
            problem = f"space {file.space_id} is not there (it may have been purged)"
            what = str(file.path)
            result.add(Damage(None, file.space_id, "snapshot", None, what, problem, "snapshot"))
    return result


def _look_at_catalog(catalog: Catalog, result: Look) -> tuple[str, list[int]]:
    """Check the file as a whole; its epoch and the ids of its spaces."""
    epoch, ids = "", list[int]()
    with result.noting(None, None, "catalog"), catalog.read() as connection:
        with result.noting(None, None, "catalog"):
            database, name = database_of(connection), catalog.location.name
            for message in database.problems(connection):
                index = message.startswith("index ") or any(
                    text in message for text in _INDEX_TROUBLE
                )
                remedy = "index" if index else "backup"
                result.add_to_catalog(name, f"{database.name}: {message}", remedy)
        with result.noting(None, None, "catalog"):
            for difference in schema.drift(connection):
                remedy = "index" if difference.startswith("add index") else "backup"
                problem = f"to be as this program's: {difference}"
                result.add_to_catalog("the schema", problem, remedy)
        with result.noting(None, None, "catalog"):
            for table, row_id, parent in database_of(connection).broken_references(connection):
                kind = stored_rows.kind_of_table(table)
                what, remedy = (
                    f"row {row_id} of table {table!r}",
                    "quarantine" if kind else "backup",
                )
                problem = f"it refers to a row of {parent!r} that is not there"
                result.add(Damage(None, None, kind or "catalog", row_id, what, problem, remedy))
        with result.noting(None, None, "catalog"):
            ids = stored_rows.space_ids(connection)
        try:
            with catalog.translated():
                epoch = catalog.epoch(connection)
            uuid.UUID(epoch.partition("/")[0])
        except (Damaged, ValueError) as error:
            result.add_to_catalog("the epoch", f"expected a UUID: {error}", "epoch")
    return epoch, ids


def _look_at_spaces(
    catalog: Catalog, ids: Sequence[int], space_name: str | None, result: Look
) -> dict[int, int]:
    """Check the own row of each space asked for; space id → number of rows that it has.

    Raises:
        NotFound: none has that name.
    """
    counts: dict[int, int] = {}
    for space_id in ids:
        with result.noting(None, space_id, "space"), catalog.read() as connection:
            facts, damages = check_space(connection, space_id)
            name = str(damages[0].space if facts is None else facts.name)
            if space_name is not None and (
                normal(name) != normal(space_name) or (facts is not None and facts.removed)
            ):
                continue
            for damage in damages:
                result.add(damage)
            result.spaces[space_id] = name
            result.checked["space"] += 1
            kinds = () if facts is None else CHECKS
            counts[space_id] = sum(stored_rows.count(connection, kind, space_id) for kind in kinds)
    if space_name is not None and not result.spaces:
        raise NotFound(f"no space {space_name!r}; {suggested('space list')} shows what there is")
    return counts


def _look_at_rows(
    connection: Connection,
    space_id: int,
    epoch: str,
    files: Sequence[OpenSnapshot],
    thresholds: Thresholds,
    result: Look,
    tick: Tick,
) -> None:
    """Check the rows and the snapshots of a space."""
    facts, _ = check_space(connection, space_id)
    if facts is None:
        return
    for kind in CHECKS:
        with result.noting(facts.name, space_id, kind):
            for page in stored_rows.pages(connection, kind, space_id, _PAGE):
                for damage in check_rows(connection, facts, kind, page):
                    result.add(damage)
                tick(kind, len(page))
    with result.noting(facts.name, space_id, "tree"):
        for damage in check_derived.check_tree(connection, facts):
            result.add(damage)
    for file in files:
        damages, notes = check_snapshot(connection, facts, epoch, file, thresholds, tick)
        for damage in damages:
            result.add(damage)
        result.notes += notes
        tick("snapshot", 1)


def check_rows(
    connection: Connection, facts: SpaceFacts, kind: str, rows: Sequence[StoredRow]
) -> Iterator[Damage]:
    """What is wrong with rows of a space: one thing of each damaged row. A repair asks again before
    it changes anything."""
    sound = []
    for row in rows:
        key = int(row[stored_rows.key_of(kind)])
        if isinstance(row, Unreadable):
            yield facts.damage(kind, key, "its row cannot be read", "backup")
            continue
        values, problems = stored_rows.decode(kind, row)
        if problems:
            yield facts.damage(kind, key, problems[0], "fit" if kind == "fit" else "quarantine")
        else:
            sound.append(values)
    for key, problem, remedy in CHECKS[kind](connection, facts, sound):
        yield facts.damage(kind, key, problem, remedy)
