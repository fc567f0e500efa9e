"""Deleting for good what was removed longer ago than the undo window, in chunks that hold the write
lock briefly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from trustvlm.catalog.rows import observations, originals
from trustvlm.catalog.store.models import (
    PURGING,
    CalibrationRow,
    Change,
    Fit,
    Label,
    Observation,
    Quarantine,
    Space,
    Support,
    Thumbnail,
)
from trustvlm.catalog.upkeep import quarantine, reembed_runs

__all__ = [
    "CHUNK_ROWS",
    "LOG_LIMIT",
    "PURGING",
    "Purged",
    "anything",
    "lost_since",
    "purge_labels",
    "purge_of_space",
    "purge_quarantine",
    "purge_spaces",
    "purge_supports",
    "purged_since",
    "supports_lost",
]

CHUNK_ROWS = 500
LOG_LIMIT = 100_000
"""Entries kept per space in the change log; a cache older than the oldest rebuilds from the
rows."""


def anything(connection: Connection, before: datetime, *, quarantined: bool = False) -> bool:
    """Whether anything was removed before `before` and is still there; with `quarantined`, or put
    into quarantine."""
    tables = (Support, Label, Space, Quarantine)
    if any(
        connection.scalar(select(table.id).where(table.removed_at <= before).limit(1)) is not None
        for table in tables
    ):
        return True
    there = select(Quarantine.id).where(Quarantine.quarantined_at <= before).limit(1)
    return quarantined and connection.scalar(there) is not None


@dataclass(frozen=True)
class Purged:
    """A row that is deleted, once the transaction commits. `content`: hash of a support image,
    whatever else is kept of it."""

    space_id: int
    content: bytes | None = None


def purge_supports(
    connection: Connection, before: datetime, label_id: int | None = None
) -> list[Purged]:
    """Delete up to :data:`CHUNK_ROWS` support images removed before `before`, with all that was
    made of their pictures."""
    columns = (
        Support.id, Support.space_id, Support.label_id, Support.content_hash,
        Support.created_revision, Support.revision,
    )  # fmt: skip
    query = select(*columns).where(Support.removed_at <= before)
    if label_id is not None:
        query = query.where(Support.label_id == label_id)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    ids = [row.id for row in rows]
    _log(connection, "support", rows)
    connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(ids)))
    originals.release(connection, ids)
    connection.execute(delete(Support).where(Support.id.in_(ids)))
    observations.forget_images(connection, ids, [(row.space_id, row.content_hash) for row in rows])
    quarantine.purge_contents(connection, [(row.space_id, row.content_hash) for row in rows])
    return [Purged(row.space_id, row.content_hash) for row in rows]


def purge_labels(
    connection: Connection, before: datetime, label_id: int | None = None
) -> list[Purged]:
    """Delete up to :data:`CHUNK_ROWS` labels removed before `before` that have no support image
    left."""
    has_supports = select(Support.id).where(Support.label_id == Label.id).exists()
    columns = (
        Label.id,
        Label.space_id,
        Label.id.label("label_id"),
        Label.created_revision,
        Label.revision,
    )
    query = select(*columns).where(Label.removed_at <= before, ~has_supports)
    if label_id is not None:
        query = query.where(Label.id == label_id)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    _log(connection, "label", rows)
    connection.execute(delete(Label).where(Label.id.in_([row.id for row in rows])))
    quarantine.purge_labels(connection, [row.id for row in rows])
    return [Purged(row.space_id) for row in rows]


def purge_quarantine(connection: Connection, before: datetime, *, everything: bool) -> int:
    """Delete up to :data:`CHUNK_ROWS` rows in quarantine that were removed before `before`; with
    `everything`, also those that were in use until they were put there before then. How many
    went."""
    return quarantine.purge(connection, before, CHUNK_ROWS, everything=everything)


def purge_spaces(connection: Connection, before: datetime) -> list[int]:
    """Ids of the spaces removed before `before`, whose contents may go."""
    return list(connection.scalars(select(Space.id).where(Space.removed_at <= before)))


def purge_of_space(connection: Connection, space_id: int) -> list[Purged]:
    """Delete up to :data:`CHUNK_ROWS` rows of a removed space, at last the space itself."""
    begun = (
        update(Space)
        .where(Space.id == space_id, Space.removed_at.is_not(None))
        .values(removed_at=PURGING)
    )
    if not connection.execute(begun).rowcount:
        return []
    images = select(Support.id, Support.content_hash).where(Support.space_id == space_id)
    rows = connection.execute(images.limit(CHUNK_ROWS)).all()
    if rows:
        ids = [row.id for row in rows]
        connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(ids)))
        originals.release(connection, ids)
        connection.execute(delete(Support).where(Support.id.in_(ids)))
        return [Purged(space_id, row.content_hash) for row in rows]
    ids = list(
        connection.scalars(select(Label.id).where(Label.space_id == space_id).limit(CHUNK_ROWS))
    )
    if ids:
        connection.execute(delete(Label).where(Label.id.in_(ids)))
        return [Purged(space_id)] * len(ids)
    ids = list(
        connection.scalars(
            select(Observation.id).where(Observation.space_id == space_id).limit(CHUNK_ROWS)
        )
    )
    if ids:
        connection.execute(delete(Observation).where(Observation.id.in_(ids)))
        return [Purged(space_id)] * len(ids)
    if count := quarantine.purge_of_space(connection, space_id, CHUNK_ROWS):
        return [Purged(space_id)] * count
    if reembed_runs.forget_some(connection, space_id, CHUNK_ROWS):
        return [Purged(space_id)]
    for table in (Change, Fit, CalibrationRow):
        connection.execute(delete(table).where(table.space_id == space_id))
    connection.execute(delete(Space).where(Space.id == space_id))
    return [Purged(space_id)]


_PURGED = select(Change.row_id).where(
    Change.space_id == bindparam("space"),
    Change.revision > bindparam("since"),
    Change.kind == bindparam("what"),
)


def purged_since(connection: Connection, space_id: int, kind: str, since: int) -> list[int]:
    """Ids of the rows of `kind` that were removed after revision `since` and are purged."""
    return list(connection.scalars(_PURGED, {"space": space_id, "since": since, "what": kind}))


def lost_since(connection: Connection, space_id: int, revision: int) -> bool:
    """Whether rows that a space had at `revision` are purged, or all of it is: what holds them must
    not lie on in a file."""
    log_start = connection.scalar(select(Space.log_start).where(Space.id == space_id))
    if log_start is None or log_start > revision:
        return True
    return any(purged_since(connection, space_id, kind, revision) for kind in ("label", "support"))


def supports_lost(
    connection: Connection, space_id: int, label_ids: Sequence[int], revision: int
) -> bool:
    """Whether support images that the labels had at `revision` are purged, or it can no longer be
    told."""
    log_start = connection.scalar(select(Space.log_start).where(Space.id == space_id))
    if log_start is None or log_start > revision:
        return True
    of_label = (
        Change.space_id == space_id,
        Change.kind == "support",
        Change.label_id.in_(label_ids),
    )
    then = (Change.created_revision <= revision, Change.revision > revision)
    return connection.scalar(select(Change.id).where(*of_label, *then).limit(1)) is not None


def _log(connection: Connection, kind: str, rows: Sequence[Any]) -> None:
    """Remember rows about to be deleted, and cut the log where it grew too long."""
    if not rows:
        return
    entries = [
        {
            "space_id": row.space_id, "kind": kind, "row_id": row.id, "label_id": row.label_id,
            "created_revision": row.created_revision, "revision": row.revision,
        }
        for row in rows
    ]  # fmt: skip
    connection.execute(insert(Change), entries)
    for space_id in Counter(row.space_id for row in rows):
        excess = (
            connection.scalar(select(func.count()).where(Change.space_id == space_id)) or 0
        ) - LOG_LIMIT
        if excess <= 0:
            continue
        oldest = (
            select(Change.revision).where(Change.space_id == space_id).order_by(Change.revision)
        )
        cut = connection.scalar(oldest.offset(excess - 1).limit(1))
        connection.execute(
            delete(Change).where(Change.space_id == space_id, Change.revision <= cut)
        )
        connection.execute(
            update(Space).where(Space.id == space_id, Space.log_start < cut).values(log_start=cut)
        )
