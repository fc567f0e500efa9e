"""Label spaces in the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, insert, or_, select, update

from trustvlm.catalog.rows.counts import Counts
from trustvlm.catalog.rows.likeness import SCANNED, likest
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import PURGING, Reembed, Space
from trustvlm.catalog.store.names import brief, forms
from trustvlm.errors import Conflict, NotFound
from trustvlm.types import SpaceRow

__all__ = [
    "BEFORE",
    "STAGED",
    "SpaceRecord",
    "advance",
    "advance_to",
    "create",
    "find",
    "find_by_id",
    "is_taken",
    "list_records",
    "remove",
    "restore",
    "revisions",
    "row_of",
    "set_encoders",
    "set_recipe",
    "set_search",
]


@dataclass(frozen=True)
class SpaceRecord:
    """A space's row, without its counts."""

    id: int
    name: str
    classifier: str
    verifier: str
    classifier_identity: str
    verifier_identity: str
    classifier_parts: Mapping[str, str] | None
    verifier_parts: Mapping[str, str] | None
    classifier_golden: bytes | None
    verifier_golden: bytes | None
    classifier_dim: int
    verifier_dim: int
    templates: tuple[str, ...]
    logit_scale: float
    recipe: str
    search: Mapping[str, Mapping[str, float]]
    revision: int
    log_start: int
    created_at: datetime


_COLUMNS = [getattr(Space, name) for name in SpaceRecord.__dataclass_fields__]
# Made once: every call of a service begins with it, and putting a statement together takes as long
# as running it.
_FIND = select(*_COLUMNS).where(
    Space.name.in_(bindparam("wanted", expanding=True)), Space.removed_at.is_(None)
)


_ADVANCE = (
    update(Space)
    .where(Space.id == bindparam("space"))
    .values(revision=Space.revision + 1)
    .returning(Space.revision)
    .execution_options(synchronize_session=False)
)


_NAMED = 10  # spaces that an error lists
STAGED, BEFORE = "/reembed", "/before"
"""What the names of the spaces beside a space end with (see trustvlm.catalog.upkeep.reembed_runs):
no user can give a name with a "/"."""

_CALLED = ~(Space.name.endswith(STAGED) | Space.name.endswith(BEFORE))


def _record(row: Any) -> SpaceRecord:
    values = row._asdict()
    return SpaceRecord(
        **values | {"templates": tuple(values["templates"]), "search": values["search"] or {}}
    )


def find(connection: Connection, name: str) -> SpaceRecord:
    """The live space `name`.

    Raises:
        NotFound: there is none; the message lists the ones that there are, and says whether it was
            removed.
    """
    rows = connection.execute(_FIND, {"wanted": sorted(forms([name]))}).all()
    row = next((row for row in rows if row.name == name), rows[0] if rows else None)
    if row is not None:
        return _record(row)
    called = select(Space.name).where(Space.removed_at.is_(None), _CALLED).order_by(Space.name)
    known = list(connection.scalars(called.limit(SCANNED)))
    some = ", ".join(known[:_NAMED]) + (", …" if known[_NAMED:] else "")
    there = f"spaces: {some}" if known else "there is no space yet: run 'trustvlm space create'"
    if _last_removed(connection, name) is not None:
        undo = "it is removed: 'trustvlm space restore' brings it back until it is purged"
        raise NotFound(f"no space {brief(name)} ({there}); {undo}")
    guess = likest(name, known)
    hint = "" if guess is None else f"; did you mean {brief(guess)}?"
    raise NotFound(f"no space {brief(name)} ({there}){hint}")


def find_by_id(connection: Connection, space_id: int) -> SpaceRecord:
    """The space with this id, whatever it is called now and removed or not.

    Raises:
        NotFound: it was purged.
    """
    row = connection.execute(select(*_COLUMNS).where(Space.id == space_id)).first()
    if row is None:
        raise NotFound(f"space {space_id} was purged")
    return _record(row)


def require_revision(connection: Connection, name: str, revision: int) -> None:
    """Make sure that the space `name` is at `revision`.

    Raises:
        NotFound: there is no such space. Conflict: it is at another revision.
    """
    if (current := find(connection, name).revision) != revision:
        raise Conflict(
            f"space {name!r} has changed: this call expects revision {revision}, the space is "
            f"at revision {current}; "
            f"read the space again and repeat the call with its new revision"
        )


def is_taken(connection: Connection, name: str) -> bool:
    """Whether a live space has this name, in either spelling of it."""
    same = select(Space.id).where(Space.name.in_(forms([name])), Space.removed_at.is_(None))
    return connection.scalar(same) is not None


def create(connection: Connection, values: dict[str, Any]) -> int:
    """Insert a space at revision 0 and return its id.

    Raises:
        Conflict: the name is taken.
    """
    name = values["name"]
    if is_taken(connection, name):
        raise Conflict(
            f"space {name!r} exists already; choose another name or run 'trustvlm space remove "
            f"{name}'"
        )
    fixed = {
        "search": None,
        "revision": 0,
        "log_start": 0,
        "created_at": datetime.now(UTC),
        "removed_at": None,
    }
    inserted: int | None = connection.scalar(
        insert(Space).values(**values, **fixed).returning(Space.id)
    )
    assert inserted is not None
    return inserted


def advance(connection: Connection, space_id: int) -> int:
    """Raise the space's revision by one and return it. The caller's transaction is the commit point
    of the change."""
    revision: int | None = connection.scalar(_ADVANCE, {"space": space_id})
    assert revision is not None
    return revision


def advance_to(connection: Connection, space_id: int, revision: int) -> None:
    """Put the space to a revision above all that its rows have, and its change log within: a repair
    does."""
    within = case((Space.log_start < revision, Space.log_start), else_=revision)
    connection.execute(
        update(Space).where(Space.id == space_id).values(revision=revision, log_start=within)
    )


def set_recipe(connection: Connection, space_id: int, recipe: str) -> None:
    """Which index recipe the space's caches are built with; what was tuned of another one is
    forgotten."""
    changed = update(Space).where(Space.id == space_id, Space.recipe != recipe)
    connection.execute(changed.values(recipe=recipe, search=None))


def set_encoders(connection: Connection, space_id: int, specs: Mapping[str, str]) -> None:
    """Where the space's encoders are now, by side. What they compute is the same: the revision
    stays."""
    connection.execute(update(Space).where(Space.id == space_id).values(**specs))


def set_search(
    connection: Connection, space_id: int, recipe: str, search: Mapping[str, Mapping[str, float]]
) -> bool:
    """Search the space's indexes with these parameters, if it still has the recipe that they are
    for; whether it has."""
    found = update(Space).where(Space.id == space_id, Space.recipe == recipe).values(search=search)
    return bool(connection.execute(found).rowcount)


def remove(connection: Connection, name: str) -> int:
    """Hide the space `name`, whose name is free at once, and return its id."""
    space = find(connection, name)
    gone = or_(Space.id == space.id, Space.id.in_(_beside(space.id)))
    connection.execute(
        update(Space)
        .where(gone, Space.removed_at.is_(None))
        .values(removed_at=clock.stamp(connection))
    )
    return space.id


def _last_removed(connection: Connection, name: str) -> int | None:
    """The id of the space `name` that was removed last and is not being purged."""
    removed = (Space.name.in_(forms([name])), Space.removed_at > PURGING)
    found: int | None = connection.scalar(
        select(Space.id).where(*removed).order_by(Space.removed_at.desc()).limit(1)
    )
    return found


def _beside(space_id: int) -> Any:
    """Ids of the spaces that go and come back with a space: see
    :mod:`trustvlm.catalog.upkeep.reembed_runs`."""
    return select(Reembed.other_id).where(Reembed.space_id == space_id)


def restore(connection: Connection, name: str) -> None:
    """Bring back the space `name` that was removed last.

    Raises:
        NotFound: none was removed, or it was purged. Conflict: the name is in use again.
    """
    space_id = _last_removed(connection, name)
    if is_taken(connection, name):
        older = (
            "it is not removed"
            if space_id is None
            else "remove it first to restore the removed one of the same name"
        )
        raise Conflict(f"space {name!r} exists; {older}")
    if space_id is None:
        removed = (
            select(Space.name)
            .where(Space.removed_at > PURGING, _CALLED)
            .order_by(Space.name)
            .limit(SCANNED)
        )
        guess = likest(name, connection.scalars(removed))
        hint = (
            "it never existed, or it has been purged"
            if guess is None
            else f"did you mean {brief(guess)}?"
        )
        raise NotFound(f"no removed space {brief(name)} to restore: {hint}")
    back = or_(Space.id == space_id, Space.id.in_(_beside(space_id)))
    connection.execute(update(Space).where(back).values(removed_at=None))


def list_records(connection: Connection) -> list[SpaceRecord]:
    """Every live space, by name."""
    query = select(*_COLUMNS).where(Space.removed_at.is_(None), _CALLED).order_by(Space.name)
    return [_record(row) for row in connection.execute(query)]


def revisions(connection: Connection) -> list[tuple[str, int, int]]:
    """(name, id, revision) of every live space, by name."""
    query = (
        select(Space.name, Space.id, Space.revision)
        .where(Space.removed_at.is_(None), _CALLED)
        .order_by(Space.name)
    )
    return [(row.name, row.id, row.revision) for row in connection.execute(query)]


def row_of(space: SpaceRecord, counts: Counts) -> SpaceRow:
    """The public row of a space, with its counts."""
    shared = {
        name: getattr(space, name)
        for name in SpaceRow.__dataclass_fields__
        if name in SpaceRecord.__dataclass_fields__
    }
    return SpaceRow(**shared, label_count=counts.labels, support_count=counts.supports)
