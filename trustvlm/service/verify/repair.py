"""Repairing what a look reports: what is derived is rebuilt, damaged rows go into quarantine.

Each row is repaired in a transaction of its own, which checks it again before it changes anything.
It makes a new revision of the space and a new epoch of the catalog, so that every cache and
snapshot of the state before is void in every process.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, spaces
from trustvlm.catalog.rows.spaces import Effect
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.upkeep import copy_catalog, quarantine, stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow
from trustvlm.errors import Damaged, TrustVLMError
from trustvlm.service.home.home import Home
from trustvlm.service.verify.check_derived import bad_edges, check_tree
from trustvlm.service.verify.check_labels import expected_prototypes
from trustvlm.service.verify.look import Look, check_rows, look
from trustvlm.service.verify.space_facts import SpaceFacts, check_space
from trustvlm.types.verification import Damage

log = logging.getLogger("trustvlm")

ROUNDS = 20
"""Looks and repairs in turn, at most: what one repair uncovers, such as a prototype without an
image, the next one repairs."""

_SUPPORTS_AT_A_TIME = 200
_JUDGED_BY = ("space", "label", "support", "fit")
"""The kinds of rows that verdicts depend on: their repair makes calibrations stale."""


@dataclass(frozen=True)
class RowRepair:
    """The repair of one damaged row of a space, within a transaction; `revision` is the new one of
    the space. Each remedy says whether it could do something."""

    connection: Connection
    facts: SpaceFacts
    damage: Damage
    row: StoredRow
    revision: int

    def raise_revision(self) -> bool:
        """Every repair gives the space a revision above those of its rows."""
        return True

    def quarantine(self) -> bool:
        """Put the row into quarantine."""
        self._move(self.damage.kind, self.row, self.damage.problem)
        return True

    def quarantine_images(self) -> bool:
        """Put some support images of a label that goes into quarantine there, too."""
        reason = f"its label {self.row['id']} is in quarantine ({self.damage.problem})"
        ids = stored_rows.supports_of(self.connection, self.row["id"], _SUPPORTS_AT_A_TIME)
        for image in stored_rows.by_ids(self.connection, "support", ids):
            self._move("support", image, reason)
        return bool(ids)

    def _move(self, kind: str, row: StoredRow, reason: str) -> None:
        quarantine.move(self.connection, kind, row, reason, self.facts.id, revision=self.revision)

    def rebuild_prototype(self) -> bool:
        """Compute prototype and count of a label from its support images."""
        label, _ = stored_rows.decode("label", self.row)
        expected = expected_prototypes(self.connection, self.facts, [label]).get(label["id"])
        if expected is not None:
            stored_rows.set_prototype(
                self.connection, label["id"], self.revision, label["text_prototype"], *expected
            )
        return expected is not None

    def end_alias(self) -> bool:
        """Make an alias a label of its own."""
        labels.set_alias(self.connection, self.row["id"], None, self.revision)
        return True

    def cut_edges(self) -> bool:
        """Take names out of the taxonomy that stand where they cannot: they stand under nothing."""
        bad = bad_edges(self.connection, self.facts)
        edges.store(self.connection, self.facts.id, self.revision, dict.fromkeys(bad))
        return bool(bad)

    def drop_fit(self) -> bool:
        """Delete the fit; it is computed again."""
        stored_rows.delete_row(self.connection, "fit", self.facts.id)
        return True


REMEDIES: Mapping[str, Callable[[RowRepair], bool]] = {
    "space": RowRepair.raise_revision,
    "quarantine": RowRepair.quarantine,
    "prototype": RowRepair.rebuild_prototype,
    "alias": RowRepair.end_alias,
    "fit": RowRepair.drop_fit,
    "tree": RowRepair.cut_edges,
}
"""What is done to a row of a space, by the remedy that its damage names."""


def repair(home: Home, space_name: str | None, result: Look) -> tuple[Look, list[Damage]]:
    """Repair until a look reports nothing that can be repaired; that look, and what was done."""
    with_snapshot = {number for number in result.spaces if home.caches.path(number).exists()}
    repaired: list[Damage] = []
    for _ in range(ROUNDS):
        done = _repair(home, result)
        if not done:
            break
        repaired += done
        result = look(home, space_name)
    changed = {number for number in result.spaces for one in repaired if one.space_id == number}
    for space_id in changed:
        _renew_derived(home, space_id, rebuild=space_id in with_snapshot)
    if changed:
        result = look(home, space_name)
    return result, list(dict.fromkeys(repaired))


def _repair(home: Home, result: Look) -> list[Damage]:
    """Repair what one look reports; what was repaired."""
    by_remedy: dict[str, list[Damage]] = defaultdict(list)
    for damage in result.damage:
        by_remedy[damage.remedy].append(damage)
    done = list(by_remedy["snapshot"])
    for damage in done:
        home.caches.discard(damage.space_id or 0)
    if by_remedy["index"] and _tried(_rebuild_indexes, home):
        # Rows that are equal and must not be keep an index away until they are repaired.
        added = _tried(_add_indexes, home)
        done += [damage for damage in by_remedy["index"] if added or damage.what != "the schema"]
    if by_remedy["epoch"] and _tried(_renew_epoch, home):
        done += by_remedy["epoch"]
    of_rows = (damage for remedy in REMEDIES for damage in by_remedy[remedy])
    return done + [damage for damage in of_rows if _tried(_repair_row, home, damage)]


def _tried(step: Callable[..., bool], *arguments: Any) -> bool:
    """Whether a step did something; one that fails leaves its damage for the report."""
    try:
        return step(*arguments)
    except Damaged as error:
        log.warning("a repair was not possible: %s", error)
        return False


def _repair_row(home: Home, damage: Damage) -> bool:
    if damage.space_id is None:
        return _quarantine_orphan(home, damage)
    if damage.kind == "label" and damage.remedy == "quarantine":
        while _apply(home, damage, damage.space_id, RowRepair.quarantine_images):
            pass  # a label with many support images takes several transactions
    return _apply(home, damage, damage.space_id, REMEDIES[damage.remedy])


def _apply(home: Home, damage: Damage, space_id: int, remedy: Callable[[RowRepair], bool]) -> bool:
    """Repair a row in one transaction, if it is still damaged."""
    with home.catalog.write("repair") as connection:
        facts, damages = check_space(connection, space_id)
        if facts is None:
            return False
        row: StoredRow = {}
        if damage.kind == "tree":
            damages = list(check_tree(connection, facts))
        elif damage.kind != "space":
            rows = stored_rows.by_ids(connection, damage.kind, [damage.row_id or 0])
            damages = list(check_rows(connection, facts, damage.kind, rows))
            row = next(iter(rows), row)
        if all(item.remedy != damage.remedy for item in damages):
            return False
        step = RowRepair(connection, facts, damage, row, facts.revision + 1)
        if not remedy(step):
            return False
        count = {"label": "labels", "support": "supports"}.get(damage.kind)
        changed = {count: 1} if count else {}
        effect: Effect = "verdicts" if damage.kind in _JUDGED_BY else "none"
        effect = "nodes" if damage.kind == "tree" else effect
        spaces.advance_to(connection, space_id, step.revision, effect=effect, **changed)
        copy_catalog.renew_epoch(connection)
    return True


def _quarantine_orphan(home: Home, damage: Damage) -> bool:
    """Put a row whose space (of a thumbnail: support image) is gone into quarantine.

    Other rows that refer to nothing are found again among the rows of their space, and repaired
    there. A label waits until its support images have gone.
    """
    with home.catalog.write("repair") as connection:
        rows = stored_rows.by_ids(connection, damage.kind, [damage.row_id or 0])
        row = next(iter(rows), {})
        parent = "support" if damage.kind == "thumbnail" else "space"
        space_id = row.get("space_id")
        owner = row.get("support_id") if parent == "support" else space_id
        if not row or stored_rows.by_ids(connection, parent, [owner or 0]):
            return False
        if damage.kind == "label" and stored_rows.supports_of(connection, row["id"], 1):
            return False
        number = space_id if isinstance(space_id, int) else None
        quarantine.move(connection, damage.kind, row, damage.problem, number)
        copy_catalog.renew_epoch(connection)
    return True


def _rebuild_indexes(home: Home) -> bool:
    """Build every index again from its table, a transaction each."""
    with home.catalog.read() as connection:
        names = database_of(connection).indexes(connection)
    for name in names:
        with home.catalog.write("repair.whole") as connection:
            database_of(connection).rebuild_index(connection, name)
    return _renew_epoch(home)


def _add_indexes(home: Home) -> bool:
    with home.catalog.write("repair.whole") as connection:
        schema.add_missing_indexes(connection)
    return True


def _renew_epoch(home: Home) -> bool:
    with home.catalog.write("repair.whole") as connection:
        copy_catalog.renew_epoch(connection)
    return True


def _renew_derived(home: Home, space_id: int, *, rebuild: bool) -> None:
    """Write the snapshots of a repaired space again where it had any, and request a fit of its
    support images."""
    home.caches.discard(space_id)
    try:
        with home.catalog.read() as connection:
            space = spaces.find_by_id(connection, space_id)
            if rebuild:
                home.caches.rebuild(connection, space, home.catalog.epoch(connection))
        home.background_fit.request(space.name)
    except TrustVLMError as error:
        log.warning("the snapshots of space %s are not written again: %s", space_id, error)
