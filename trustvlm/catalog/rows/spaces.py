"""Label spaces in the catalog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Connection, bindparam, case, func, insert, or_, select, update

from trustvlm.catalog.rows.counts import Counts
from trustvlm.catalog.rows.history import revisions as history
from trustvlm.catalog.rows.likeness import SCANNED
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import PURGING, Change, Space
from trustvlm.catalog.store.names import brief, forms, meant
from trustvlm.catalog.store.side_models import Reembed
from trustvlm.errors import Conflict, NotFound
from trustvlm.types import SpaceRow
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.meant import likest


@dataclass(frozen=True)
class SpaceRecord:
    """A space's row, without its counts.

    Attributes:
        verdicts_revision: the last revision that can have altered a verdict: an older calibration
            is stale. nodes_revision: likewise, for calibrations that back off.
        purged_revision: the last revision that removed a row that is purged by now; 0 without one.
    """

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
    verdicts_revision: int
    nodes_revision: int
    log_start: int
    created_at: datetime
    verdict_log: Mapping[str, Any] | None
    purged_revision: int

    @property
    def dims(self) -> tuple[int, int]:
        """Of classifier and verifier."""
        return self.classifier_dim, self.verifier_dim


# Read with the space, so that who follows it looks for purged rows only where there are some.
_PURGED = select(func.coalesce(func.max(Change.revision), 0)).where(Change.space_id == Space.id)
_COLUMNS = [
    *(getattr(Space, name) for name in SpaceRecord.__dataclass_fields__ if hasattr(Space, name)),
    _PURGED.scalar_subquery().label("purged_revision"),
]
# Made once: every call of a service begins with it, and putting a statement together takes as long
# as running it.
_LIVE = Space.removed_at.is_(None)
_FIND = select(*_COLUMNS).where(Space.name.in_(bindparam("wanted", expanding=True)), _LIVE)
_IDS = select(Space.id, Space.name).where(
    Space.name.in_(bindparam("wanted", expanding=True)), _LIVE
)
Effect = Literal["verdicts", "nodes", "none"]
"""What a change can alter: verdicts; only the nodes of the taxonomy that they answer with; or
neither, as attributes do."""

_MARKS: dict[Effect, dict[str, Any]] = {
    "none": {
        "verdicts_revision": func.coalesce(Space.verdicts_revision, Space.revision),
        "nodes_revision": func.coalesce(Space.nodes_revision, Space.revision),
    },
    "verdicts": {"verdicts_revision": None, "nodes_revision": None},
}
_MARKS["nodes"] = _MARKS["none"] | {"nodes_revision": None}
_ADVANCE = {
    effect: update(Space)
    .where(Space.id == bindparam("space"))
    .values(revision=Space.revision + 1, **marks)
    .returning(Space.revision)
    .execution_options(synchronize_session=False)
    for effect, marks in _MARKS.items()
}

_NAMED = 10  # spaces that an error lists
STAGED, BEFORE = "/reembed", "/before"
"""What the names of the spaces beside a space end with (see trustvlm.catalog.upkeep.reembed_runs):
no user can give a name with a "/"."""

_CALLED = ~(Space.name.endswith(STAGED) | Space.name.endswith(BEFORE))


def _record(row: Any) -> SpaceRecord:
    values = row._asdict()
    values |= {"templates": tuple(values["templates"]), "search": values["search"] or {}}
    for name in _MARKS["verdicts"]:
        values[name] = values["revision"] if values[name] is None else values[name]
    return SpaceRecord(**values)


def find(connection: Connection, name: str) -> SpaceRecord:
    """The live space `name`.

    Raises:
        NotFound: there is none; the message lists the live spaces, and says whether it was removed.
    """
    rows = connection.execute(_FIND, {"wanted": sorted(forms([name]))}).all()
    if rows:
        return _record(next((row for row in rows if row.name == name), rows[0]))
    live = select(Space.name).where(_LIVE, _CALLED).order_by(Space.name)
    names = list(connection.scalars(live.limit(SCANNED)))
    some = ", ".join(names[:_NAMED]) + (", …" if names[_NAMED:] else "")
    make = suggested("space create", files="NAME")
    listed = f"spaces: {some}" if names else f"there is no space yet: run {make}"
    if _last_removed(connection, name) is not None:
        undo = (
            f"it is removed: {suggested('space restore', name)} brings it back until it is purged"
        )
        raise NotFound(f"no space {brief(name)} ({listed}); {undo}")
    guess = likest(name, names)
    hint = "" if guess is None else f"; did you mean {brief(guess)}?"
    raise NotFound(f"no space {brief(name)} ({listed}){hint}")


def find_id(connection: Connection, name: str) -> int:
    """The id of the live space `name`, at less cost than its row. Raises NotFound, as :func:`find`
    does."""
    rows = connection.execute(_IDS, {"wanted": sorted(forms([name]))}).all()
    by_name: dict[str, int] = {row[1]: row[0] for row in rows}
    return by_name.get(name) or (rows[0][0] if rows else find(connection, name).id)


def find_by_id(connection: Connection, space_id: int) -> SpaceRecord:
    """The space with this id, under any name, live or removed.

    Raises:
        NotFound: it was purged.
    """
    row = connection.execute(select(*_COLUMNS).where(Space.id == space_id)).first()
    if row is None:
        raise NotFound(f"space {space_id} was purged")
    return _record(row)


def exists(connection: Connection, space_id: int) -> bool:
    """Whether the space with this id is there, live or removed."""
    return connection.scalar(select(Space.id).where(Space.id == space_id)) is not None


def require_same(connection: Connection, space: SpaceRecord) -> None:
    """Make sure that the live space of that name is still this one.

    Raises:
        NotFound: there is none. Conflict: it is another space.
    """
    if find_id(connection, space.name) != space.id:
        raise Conflict(
            f"space {space.name!r} was removed and made again, or re-embedded, during the call; "
            f"repeat the call"
        )


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
    """Whether a live space has this name, as it is or in normal form C."""
    holder = select(Space.id).where(Space.name.in_(forms([name])), _LIVE)
    return connection.scalar(holder) is not None


def create(
    connection: Connection, values: dict[str, Any], removed_at: datetime | None = None
) -> int:
    """Insert a space at revision 0, unseen where it has a time of removal, and return its id.

    Raises:
        Conflict: the name is taken.
    """
    name = values["name"]
    if is_taken(connection, name):
        raise Conflict(
            f"space {name!r} exists already; use it as it is, choose another name, or run "
            f"{suggested('space remove', name)}"
        )
    fixed = {
        "search": None,
        "revision": 0,
        "log_start": 0,
        "created_at": datetime.now(UTC),
        "removed_at": removed_at,
    }
    inserted = insert(Space).values(**values, **fixed).returning(Space.id)
    return connection.execute(inserted).scalar_one()


def advance(
    connection: Connection,
    space_id: int,
    *,
    labels: int = 0,
    supports: int = 0,
    effect: Effect = "verdicts",
) -> int:
    """Raise the space's revision by one and return it. The caller's transaction is the commit point
    of the change, which adds, changes or removes this number of `labels` and `supports`, and whose
    `effect` says which calibrations it makes stale."""
    revision: int = connection.execute(_ADVANCE[effect], {"space": space_id}).scalar_one()
    history.record(connection, space_id, revision, labels, supports, effect)
    return revision


def advance_to(
    connection: Connection,
    space_id: int,
    revision: int,
    *,
    labels: int = 0,
    supports: int = 0,
    effect: Effect = "verdicts",
) -> None:
    """Set the space to a revision above those of all its rows, and its change log within: a repair
    does, of this number of `labels` and `supports`."""
    within = case((Space.log_start < revision, Space.log_start), else_=revision)
    values = {"revision": revision, "log_start": within} | _MARKS[effect]
    connection.execute(update(Space).where(Space.id == space_id).values(**values))
    history.record(connection, space_id, revision, labels, supports, effect)


def set_columns(connection: Connection, space_id: int, **values: Any) -> None:
    """Set columns of the space's row; the revision stays."""
    connection.execute(update(Space).where(Space.id == space_id).values(**values))


def set_recipe(connection: Connection, space_id: int, recipe: str) -> None:
    """Set the index recipe that the space's caches are built with; the search parameters of another
    recipe are dropped."""
    changed = update(Space).where(Space.id == space_id, Space.recipe != recipe)
    connection.execute(changed.values(recipe=recipe, search=None))


def verdict_log(connection: Connection, space_id: int) -> Mapping[str, Any] | None:
    """What the log of a space keeps; None: it never had one, or the space is gone."""
    return connection.scalar(select(Space.verdict_log).where(Space.id == space_id))


def verdict_logs(connection: Connection) -> dict[int, Mapping[str, Any]]:
    """What the log of each space keeps, by id, of the spaces that have one; removed ones too."""
    query = select(Space.id, Space.verdict_log).where(Space.verdict_log.is_not(None))
    return {row[0]: row[1] for row in connection.execute(query)}


def set_search(
    connection: Connection, space_id: int, recipe: str, search: Mapping[str, Mapping[str, float]]
) -> bool:
    """Set the search parameters of the space's indexes, if it still has the recipe that they are
    for; whether it has."""
    tuned = update(Space).where(Space.id == space_id, Space.recipe == recipe).values(search=search)
    return bool(connection.execute(tuned).rowcount)


def remove(connection: Connection, name: str) -> int:
    """Hide the space `name`, whose name is free at once, and return its id."""
    space = find(connection, name)
    removed = update(Space).where(_with_beside(space.id), _LIVE)
    connection.execute(removed.values(removed_at=clock.stamp(connection)))
    return space.id


def _last_removed(connection: Connection, name: str) -> int | None:
    """The id of the space `name` that was removed last and is not being purged."""
    removed = (Space.name.in_(forms([name])), Space.removed_at > PURGING)
    return connection.scalar(
        select(Space.id).where(*removed).order_by(Space.removed_at.desc()).limit(1)
    )


def _with_beside(space_id: int) -> ColumnElement[bool]:
    """The space, and the one beside it, which goes and comes back with it: see
    :mod:`trustvlm.catalog.upkeep.reembed_runs`."""
    beside = select(Reembed.other_id).where(Reembed.space_id == space_id)
    return or_(Space.id == space_id, Space.id.in_(beside))


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
        removed = select(Space.name).where(Space.removed_at > PURGING, _CALLED)
        guess = likest(name, connection.scalars(removed.order_by(Space.name).limit(SCANNED)))
        hint = meant(guess, "it never existed, or it has been purged")
        raise NotFound(f"no removed space {brief(name)} to restore: {hint}")
    connection.execute(update(Space).where(_with_beside(space_id)).values(removed_at=None))


def list_records(connection: Connection) -> list[SpaceRecord]:
    """Every live space, by name."""
    query = select(*_COLUMNS).where(_LIVE, _CALLED).order_by(Space.name)
    return [_record(row) for row in connection.execute(query)]


def revisions(connection: Connection) -> list[tuple[str, int, int]]:
    """(name, id, revision) of every live space, by name."""
    query = select(Space.name, Space.id, Space.revision).where(_LIVE, _CALLED)
    rows = connection.execute(query.order_by(Space.name))
    return [(row.name, row.id, row.revision) for row in rows]


def row_of(space: SpaceRecord, counts: Counts) -> SpaceRow:
    """The public row of a space, with its counts."""
    shared = {
        name: getattr(space, name)
        for name in SpaceRow.__dataclass_fields__
        if name in SpaceRecord.__dataclass_fields__
    }
    return SpaceRow(**shared, label_count=counts.labels, support_count=counts.supports)
