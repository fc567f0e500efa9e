"""The log of a space's revisions, one row each. It holds numbers, no names: what a purge deletes
leaves nothing here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, func, insert, or_, select, update

from trustvlm.catalog.store.backends.database import AUTHOR, CHANGE
from trustvlm.catalog.store.side_models import RevisionRow
from trustvlm.types.rows import HistoryRow

KEPT = 100_000
"""Revisions of a space that the log holds; older ones are deleted as new ones come."""

_EVERY = 1_000  # revisions between two looks at what is too old
_INSERT = insert(RevisionRow)
_COLUMNS = [getattr(RevisionRow, name) for name in HistoryRow.__dataclass_fields__]
_PAGE = (
    select(*_COLUMNS)
    .where(RevisionRow.space_id == bindparam("space"), RevisionRow.revision > bindparam("since"))
    .order_by(RevisionRow.revision)
    .limit(bindparam("most"))
)


_FIRST = select(func.min(RevisionRow.revision)).where(
    RevisionRow.space_id == bindparam("space"),
    RevisionRow.revision > bindparam("since"),
    or_(RevisionRow.effect.is_(None), RevisionRow.effect.in_(bindparam("effects", expanding=True))),
)


def record(
    connection: Connection, space_id: int, revision: int, labels: int, supports: int, effect: str
) -> None:
    """Log a revision that this transaction makes, with its kind of change, its author and what it
    can alter."""
    options = connection.get_execution_options()
    row = {
        "space_id": space_id,
        "revision": revision,
        "at": datetime.now(UTC),
        "author": options.get(AUTHOR),
        "action": options[CHANGE],
        "labels": labels,
        "supports": supports,
        "effect": effect,
    }
    connection.execute(_INSERT, [row])
    if revision % _EVERY == 0:
        old = (RevisionRow.space_id == space_id, RevisionRow.revision <= revision - KEPT)
        connection.execute(delete(RevisionRow).where(*old))


def move(connection: Connection, old_id: int, new_id: int) -> None:
    """Give the log of one space to another one, whose own is deleted."""
    connection.execute(delete(RevisionRow).where(RevisionRow.space_id == new_id))
    of_old = update(RevisionRow).where(RevisionRow.space_id == old_id)
    connection.execute(of_old.values(space_id=new_id))


def first_altering(
    connection: Connection, space_id: int, since: int, effects: Sequence[str]
) -> int | None:
    """The first revision after `since` that can alter what one of `effects` names; None: the log
    has none."""
    values = {"space": space_id, "since": since, "effects": list(effects)}
    first: int | None = connection.scalar(_FIRST, values)
    return first


def page(connection: Connection, space_id: int, since: int, limit: int) -> list[HistoryRow]:
    """Up to `limit` revisions after `since`, oldest first."""
    values = {"space": space_id, "since": since, "most": limit}
    return [HistoryRow(*row) for row in connection.execute(_PAGE, values)]
