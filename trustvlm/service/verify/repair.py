"""Mending what a look found: derived things are made anew, damaged rows go into quarantine, nothing
is deleted silently.

Each step is one short transaction that looks at its rows again before it changes them: somebody may
have changed them since. It makes a new revision of the space and a new epoch of the catalog, so
that every cache and snapshot of the state before is void in every process.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.store import schema, sqlite
from trustvlm.catalog.upkeep import copy_catalog, quarantine, raw
from trustvlm.catalog.upkeep import mend as mending
from trustvlm.catalog.upkeep.raw import Unreadable
from trustvlm.errors import Damaged, TrustVLMError
from trustvlm.service.home.home import Home
from trustvlm.service.verify.facts import check_space
from trustvlm.service.verify.look import CHECKS, Look, look
from trustvlm.service.verify.remedies import Mending
from trustvlm.types.verification import Damage

__all__ = ["repair"]

log = logging.getLogger("trustvlm")

ROUNDS = 20
"""Looks and repairs in turn, at most: what one repair uncovers, such as a prototype without an
image, the next one mends."""

_CHUNK = 50
_ORPHANS = ("thumbnail", "support", "label", "observation", "calibration", "fit", "change")


def repair(home: Home, space_name: str | None, found: Look) -> tuple[Look, list[Damage]]:
    """Mend until a look finds nothing that can be mended; that look, and what was mended."""
    mended: list[Damage] = []
    renewed: dict[int, bool] = {}
    names_agree = found.indexes_agree
    for _ in range(ROUNDS):
        done = _mend(home, found, renewed, names_agree)
        mended += done
        if not done:
            break
        found = look(home, space_name)
        names_agree = names_agree and found.indexes_agree
    for space_id, had_snapshot in renewed.items():
        _renew_derived(home, space_id, had_snapshot)
    if renewed:
        found = look(home, space_name)
    return found, list(dict.fromkeys(mended))


def _mend(home: Home, found: Look, renewed: dict[int, bool], names_agree: bool) -> list[Damage]:
    """Mend what can be; what was. `renewed`: the spaces that were changed, and whether each had a
    snapshot."""
    by_remedy: dict[str, list[Damage]] = defaultdict(list)
    for damage in found.damage:
        by_remedy[damage.remedy].append(damage)
    done: list[Damage] = []
    if by_remedy["index"] and _tried(lambda: _rebuild_indexes(home)):
        added = _tried(
            lambda: _add_indexes(home)
        )  # where rows are the same that must differ: when they are mended
        done += [damage for damage in by_remedy["index"] if added or damage.what != "the schema"]
    if by_remedy["epoch"] and _tried(lambda: _renew_epoch(home)):
        done += by_remedy["epoch"]
    done += [
        damage
        for damage in by_remedy["quarantine"]
        if damage.space_id is None and _tried(_orphan(home, damage))
    ]
    of_space: dict[int, list[Damage]] = defaultdict(list)
    for damage in found.damage:
        if damage.remedy == "snapshot" and damage.space_id is not None:
            if damage.space_id in found.spaces:
                renewed.setdefault(damage.space_id, home.caches.path(damage.space_id).exists())
            home.caches.discard(damage.space_id)
            done.append(damage)
        elif damage.space_id is not None and damage.remedy not in ("backup", "snapshot"):
            of_space[damage.space_id].append(damage)
    for space_id, damages in of_space.items():
        for kind in ("space", *CHECKS):
            own = [damage for damage in damages if damage.kind == kind]
            for start in range(0, len(own), _CHUNK):
                done += _tried_chunk(
                    home, space_id, kind, own[start : start + _CHUNK], renewed, names_agree
                )
    return done


def _tried(step: Callable[[], bool]) -> bool:
    """Whether a step did something; one that fails leaves its damage for the report."""
    try:
        return step()
    except Damaged as error:
        log.warning("a repair was not possible: %s", error)
        return False


def _tried_chunk(
    home: Home,
    space_id: int,
    kind: str,
    damages: Sequence[Damage],
    renewed: dict[int, bool],
    names_agree: bool,
) -> list[Damage]:
    """Mend rows of one kind in one transaction; where that fails, each in its own, so that one
    cannot hold up the others."""
    done: list[Damage] = []
    if _tried(lambda: _chunk(home, space_id, kind, damages, done, names_agree)):
        renewed.setdefault(space_id, home.caches.path(space_id).exists())
        return done
    if len(damages) > 1 and not done:
        return [
            one
            for damage in damages
            for one in _tried_chunk(home, space_id, kind, [damage], renewed, names_agree)
        ]
    return []


def _chunk(
    home: Home,
    space_id: int,
    kind: str,
    damages: Sequence[Damage],
    done: list[Damage],
    names_agree: bool,
) -> bool:
    with home.catalog.write("repair") as connection:
        facts, of_space = check_space(connection, space_id)
        if facts is None:
            return False
        rows = (
            {int(row[raw.key_of(kind)]): row for row in raw.by_ids(connection, kind, _ids(damages))}
            if kind in CHECKS
            else {}
        )
        readable = [row for row in rows.values() if not isinstance(row, Unreadable)]
        again = [item for item in of_space if item.remedy == "space"] if kind == "space" else []
        again += (
            [item for item in CHECKS[kind](connection, facts, readable) if item.remedy != "backup"]
            if readable
            else []
        )
        if not again:
            return False
        revision = facts.revision + 1
        spaces.advance_to(connection, space_id, revision)
        mend = Mending(connection, facts, revision, names_agree)
        first: set[int] = set()
        for damage in again:
            key = -1 if damage.row_id is None else damage.row_id
            if damage.kind != "space" and key not in first:
                mend.apply(damage, rows[key])
            if damage.kind == "space" or key not in first:
                done.append(damage)
            first.add(
                key
            )  # of a row with several kinds of damage, the next look finds what is left
        mend.renew()
        copy_catalog.renew_epoch(connection)
    return True


def _ids(damages: Iterable[Damage]) -> list[int]:
    return sorted({damage.row_id for damage in damages if damage.row_id is not None})


def _orphan(home: Home, damage: Damage) -> Callable[[], bool]:
    """Put a row whose space, label or support image is not there into quarantine."""

    def step() -> bool:
        if damage.kind not in _ORPHANS or damage.row_id is None:
            return False
        with home.catalog.write("repair") as connection:
            rows = raw.by_ids(connection, damage.kind, [damage.row_id])
            if not rows or mending.has_parent(connection, damage.kind, rows[0]):
                return False  # of a space that is there: found again, and mended, among its rows
            _quarantine_orphan(connection, damage, rows[0])
            copy_catalog.renew_epoch(connection)
        return True

    return step


def _quarantine_orphan(connection: Connection, damage: Damage, row: raw.Raw) -> None:
    space_id = row.get("space_id")
    if damage.kind == "support":
        mending.unlink_observations(connection, int(row["id"]))
        for picture in raw.by_ids(connection, "thumbnail", [int(row["id"])]):
            reason = "its support image is in quarantine"
            quarantine.move(connection, "thumbnail", picture, reason, space_id=space_id, owner=row)
    if damage.kind == "label" and raw.supports_of(connection, int(row["id"]), 1):
        raise Damaged(
            f"label {row['id']} still has support images"
        )  # they go first, in this round or the next
    quarantine.move(
        connection,
        damage.kind,
        row,
        damage.problem,
        space_id=space_id if isinstance(space_id, int) else None,
    )


def _rebuild_indexes(home: Home) -> bool:
    """Every index anew, a transaction each."""
    with home.catalog.read() as connection:
        names = sqlite.indexes(connection)
    for name in names:
        with home.catalog.write("repair.whole") as connection:
            sqlite.rebuild_index(connection, name)
    with home.catalog.write("repair.whole") as connection:
        copy_catalog.renew_epoch(connection)
    return True


def _add_indexes(home: Home) -> bool:
    with home.catalog.write("repair.whole") as connection:
        schema.add_missing_indexes(connection)
    return True


def _renew_epoch(home: Home) -> bool:
    with home.catalog.write("repair.whole") as connection:
        copy_catalog.renew_epoch(connection)
    return True


def _renew_derived(home: Home, space_id: int, had_snapshot: bool) -> None:
    """Write the snapshots of a repaired space anew where it had any, and let its support images be
    fitted."""
    home.caches.discard(space_id)
    try:
        with home.catalog.read() as connection:
            space = spaces.find_by_id(connection, space_id)
            if had_snapshot:
                home.caches.rebuild(connection, space, home.catalog.epoch(connection))
        home.fitter.request(space.name)
    except TrustVLMError as error:
        log.warning("the snapshots of space %s are not written anew: %s", space_id, error)
