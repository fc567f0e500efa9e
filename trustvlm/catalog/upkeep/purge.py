"""Deletes for good what was removed, in chunks that hold the write lock briefly."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from trustvlm.catalog.rows import observations, originals
from trustvlm.catalog.rows.review import items
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.verdict_log import rows as verdict_log
from trustvlm.catalog.store.models import (
    PURGING,
    CalibrationRow,
    Change,
    Fit,
    Label,
    Observation,
    Space,
    Support,
    Thumbnail,
    TreeEdge,
)
from trustvlm.catalog.store.side_models import (
    IndexedKey,
    LabelAttributes,
    Quarantine,
    ReviewRow,
    ReviewState,
    RevisionRow,
    SupportAttributes,
)
from trustvlm.catalog.upkeep import quarantine, reembed_runs

CHUNK_ROWS = 500
LOG_LIMIT = 100_000
"""Entries kept per space in the change log; a cache older than the oldest rebuilds from the
rows."""

_REMOVED = [
    exists().where(table.removed_at <= bindparam("before"))
    for table in (Support, Label, Space, Quarantine)
]
_QUARANTINED = exists().where(Quarantine.quarantined_at <= bindparam("before"))
_ANY_REMOVED = select(or_(*_REMOVED))
_ANY_REMOVED_OR_QUARANTINED = select(or_(*_REMOVED, _QUARANTINED))


def anything(connection: Connection, before: datetime, *, quarantined: bool = False) -> bool:
    """Whether anything was removed before `before` and can be purged; with `quarantined`, or put
    into quarantine."""
    query = _ANY_REMOVED_OR_QUARANTINED if quarantined else _ANY_REMOVED
    return bool(connection.scalar(query, {"before": before}))


def purge_supports(
    connection: Connection,
    before: datetime,
    label_id: int | None = None,
    space_id: int | None = None,
) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` support images removed before `before` (of a label or a
    space), with all that was made of their pictures; the space of each."""
    columns = (
        Support.id, Support.space_id, Support.label_id, Support.content_hash,
        Support.created_revision, Support.revision,
    )  # fmt: skip
    which = _given({Support.label_id: label_id, Support.space_id: space_id})
    query = select(*columns).where(Support.removed_at <= before, *which)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    ids, contents = [row.id for row in rows], defaultdict[int, list[bytes]](list)
    for row in rows:
        contents[row.space_id].append(row.content_hash)
    _log(connection, "support", rows)
    _delete_supports(connection, ids)
    observations.forget_images(connection, ids, contents)
    items.forget_images(connection, ids, contents)
    for number, hashes in contents.items():
        copies = and_(Quarantine.space_id == number, Quarantine.content_hash.in_(hashes))
        quarantine.discard(connection, copies)
    return [row.space_id for row in rows]


def _given(values: Mapping[Any, int | None]) -> list[ColumnElement[bool]]:
    """The condition that each column has its value, those without a value aside."""
    return [column == value for column, value in values.items() if value is not None]


def _delete_supports(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(ids)))
    connection.execute(delete(SupportAttributes).where(SupportAttributes.support_id.in_(ids)))
    originals.release(connection, ids)
    connection.execute(delete(Support).where(Support.id.in_(ids)))


def purge_labels(
    connection: Connection,
    before: datetime,
    label_id: int | None = None,
    space_id: int | None = None,
) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` labels removed before `before` (one, or those of a space)
    that have no support image left, or rows of verdict logs that name them; the space of each."""
    has_supports = select(Support.id).where(Support.label_id == Label.id).exists()
    columns = (Label.id, Label.space_id, Label.id.label("label_id"))
    query = select(*columns, Label.created_revision, Label.revision)
    which = _given({Label.id: label_id, Label.space_id: space_id})
    query = query.where(Label.removed_at <= before, ~has_supports, *which)
    rows = connection.execute(query.limit(CHUNK_ROWS)).all()
    ids = [row.id for row in rows]
    if logged := verdict_log.forget_labels(connection, ids, CHUNK_ROWS):
        return [rows[0].space_id] * logged
    _log(connection, "label", rows)
    _delete_labels(connection, ids)
    quarantine.discard(connection, Quarantine.label_id.in_(ids))
    return [row.space_id for row in rows]


def _delete_labels(connection: Connection, ids: Sequence[int]) -> None:
    connection.execute(delete(LabelAttributes).where(LabelAttributes.label_id.in_(ids)))
    connection.execute(delete(Label).where(Label.id.in_(ids)))


def purge_quarantine(connection: Connection, before: datetime, *, everything: bool) -> int:
    """Delete up to :data:`CHUNK_ROWS` rows in quarantine that were removed before `before`; with
    `everything`, also those that were in use until they were put there before then. How many
    went."""
    condition = Quarantine.removed_at <= before
    if everything:
        in_use = and_(Quarantine.removed_at.is_(None), Quarantine.quarantined_at <= before)
        condition = or_(condition, in_use)
    return quarantine.discard(connection, condition, CHUNK_ROWS)


def purge_spaces(connection: Connection, before: datetime) -> list[int]:
    """Ids of the spaces removed before `before`, whose contents may go."""
    return list(connection.scalars(select(Space.id).where(Space.removed_at <= before)))


def purge_of_space(connection: Connection, space_id: int) -> list[int]:
    """Delete up to :data:`CHUNK_ROWS` rows of a removed space, at last the space itself; the space
    of each."""
    space = (Space.id == space_id, Space.removed_at.is_not(None))
    if not connection.execute(update(Space).where(*space).values(removed_at=PURGING)).rowcount:
        return []
    for table in (Support, Label, Observation, ReviewRow):
        some = select(table.id).where(table.space_id == space_id).limit(CHUNK_ROWS)
        if not (ids := list(connection.scalars(some))):
            continue
        if table is Support:
            _delete_supports(connection, ids)
        elif table is Label:
            _delete_labels(connection, ids)
        else:
            connection.execute(delete(table).where(table.id.in_(ids)))
        return [space_id] * len(ids)
    if number := quarantine.discard(connection, Quarantine.space_id == space_id, CHUNK_ROWS):
        return [space_id] * number
    if number := verdict_log.delete_some(connection, space_id):
        return [space_id] * number
    if reembed_runs.forget_some(connection, space_id, CHUNK_ROWS):
        return [space_id]
    for rest in (
        Change, Fit, CalibrationRow, ReviewState, RevisionRow, IndexedKey, TreeEdge,
    ):  # fmt: skip
        connection.execute(delete(rest).where(rest.space_id == space_id))
    connection.execute(delete(Space).where(Space.id == space_id))
    return [space_id]


_PURGED = select(Change.row_id).where(
    Change.space_id == bindparam("space"),
    Change.revision > bindparam("since"),
    Change.kind == bindparam("what"),
)


def purged_since(connection: Connection, space: SpaceRecord, kind: str, since: int) -> list[int]:
    """Ids of the rows of `kind` that were removed after revision `since` and are purged; `space` is
    as the transaction sees it."""
    if space.purged_revision <= since:
        return []
    return list(connection.scalars(_PURGED, {"space": space.id, "since": since, "what": kind}))


def lost_since(connection: Connection, space_id: int, revision: int) -> bool:
    """Whether rows that a space had at `revision` are purged, or all of it is: what holds them must
    not lie on in a file."""
    log_start = connection.scalar(select(Space.log_start).where(Space.id == space_id))
    if log_start is None or log_start > revision:
        return True
    removed_since = Change.space_id == space_id, Change.revision > revision
    return connection.scalar(select(literal(1)).where(*removed_since).limit(1)) is not None


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
    for space_id in {row.space_id for row in rows}:
        of_space = Change.space_id == space_id
        excess = (connection.scalar(select(func.count()).where(of_space)) or 0) - LOG_LIMIT
        if excess <= 0:
            continue
        oldest = select(Change.revision).where(of_space).order_by(Change.revision)
        cut = connection.scalar(oldest.offset(excess - 1).limit(1))
        connection.execute(delete(Change).where(of_space, Change.revision <= cut))
        older = (Space.id == space_id, Space.log_start < cut)
        connection.execute(update(Space).where(*older).values(log_start=cut))
