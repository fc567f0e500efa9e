"""Deleting for good what was removed longer ago than the undo window, in chunks that hold the write lock briefly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select, update

from trustvlm.catalog.models import Change, Label, Space, Support, Thumbnail

__all__ = [
    "CHUNK_ROWS",
    "LOG_LIMIT",
    "anything",
    "purge_labels",
    "purge_of_space",
    "purge_spaces",
    "purge_supports",
    "purged_since",
]

CHUNK_ROWS = 500
LOG_LIMIT = 100_000
"""Entries kept per space in the change log; a cache older than the oldest rebuilds from the rows."""


def anything(connection: Connection, before: datetime) -> bool:
    """Whether anything was removed before `before` and is still there."""
    tables = (Support, Label, Space)
    return any(connection.scalar(select(table.id).where(table.removed_at <= before).limit(1)) is not None for table in tables)


def purge_supports(connection: Connection, before: datetime, label_id: int | None = None) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` support images removed before `before`; the space of each."""
    query = select(Support.id, Support.space_id, Support.revision).where(Support.removed_at <= before)
    if label_id is not None:
        query = query.where(Support.label_id == label_id)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    ids = [row.id for row in rows]
    _log(connection, "support", [(row.space_id, row.id, row.revision) for row in rows])
    connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(ids)))
    connection.execute(delete(Support).where(Support.id.in_(ids)))
    return [row.space_id for row in rows]


def purge_labels(connection: Connection, before: datetime, label_id: int | None = None) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` labels removed before `before` that have no support image left; the space of each."""
    has_supports = select(Support.id).where(Support.label_id == Label.id).exists()
    query = select(Label.id, Label.space_id, Label.revision).where(Label.removed_at <= before, ~has_supports)
    if label_id is not None:
        query = query.where(Label.id == label_id)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    _log(connection, "label", [(row.space_id, row.id, row.revision) for row in rows])
    connection.execute(delete(Label).where(Label.id.in_([row.id for row in rows])))
    return [row.space_id for row in rows]


def purge_spaces(connection: Connection, before: datetime) -> list[int]:
    """Ids of the spaces removed before `before`, whose contents may go."""
    return list(connection.scalars(select(Space.id).where(Space.removed_at <= before)))


def purge_of_space(connection: Connection, space_id: int) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` rows of a removed space, at last the space itself; the space of each row."""
    if connection.scalar(select(Space.id).where(Space.id == space_id, Space.removed_at.is_not(None))) is None:
        return []
    ids = list(connection.scalars(select(Support.id).where(Support.space_id == space_id).limit(CHUNK_ROWS)))
    if ids:
        connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(ids)))
        connection.execute(delete(Support).where(Support.id.in_(ids)))
        return [space_id] * len(ids)
    ids = list(connection.scalars(select(Label.id).where(Label.space_id == space_id).limit(CHUNK_ROWS)))
    if ids:
        connection.execute(delete(Label).where(Label.id.in_(ids)))
        return [space_id] * len(ids)
    connection.execute(delete(Change).where(Change.space_id == space_id))
    connection.execute(delete(Space).where(Space.id == space_id))
    return [space_id]


def purged_since(connection: Connection, space_id: int, kind: str, since: int) -> list[int]:
    """Ids of the rows of `kind` that were removed after revision `since` and are purged."""
    query = select(Change.row_id).where(Change.space_id == space_id, Change.revision > since, Change.kind == kind)
    return list(connection.scalars(query))


def _log(connection: Connection, kind: str, rows: Sequence[tuple[int, int, int]]) -> None:
    """Remember (space id, row id, revision) of rows about to be deleted, and cut the log where it grew too long."""
    if not rows:
        return
    entries = [{"space_id": space, "kind": kind, "row_id": row, "revision": revision} for space, row, revision in rows]
    connection.execute(insert(Change), entries)
    for space_id in Counter(space for space, _, _ in rows):
        excess = (connection.scalar(select(func.count()).where(Change.space_id == space_id)) or 0) - LOG_LIMIT
        if excess <= 0:
            continue
        oldest = select(Change.revision).where(Change.space_id == space_id).order_by(Change.revision)
        cut = connection.scalar(oldest.offset(excess - 1).limit(1))
        connection.execute(delete(Change).where(Change.space_id == space_id, Change.revision <= cut))
        connection.execute(update(Space).where(Space.id == space_id, Space.log_start < cut).values(log_start=cut))
