"""Rows of verdict logs: stored, read newest first, counted, and deleted when they are old."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from trustvlm.catalog.store.bulk import delete_among, rows_among, slices
from trustvlm.catalog.store.names import forms
from trustvlm.catalog.store.side_models import VerdictLogState, VerdictRow
from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.verdict_log import LogFilter, LoggedVerdict

CHUNK_ROWS = 1_000
_COLUMNS = [getattr(VerdictRow, name) for name in LoggedVerdict.__dataclass_fields__]
_CURSOR = re.compile(r"([0-9]{1,16})-([0-9]{1,18})")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEWEST = VerdictRow.at.desc(), VerdictRow.id.desc()
# The same order, which no index has: the few rows of a request are looked up by its id.
_NEWEST_OF_FEW = case((VerdictRow.id > 0, VerdictRow.at)).desc(), VerdictRow.id.desc()

Place = tuple[datetime, int]
"""Time and id of a row."""


class Facts(NamedTuple):
    """What a log holds: how many rows have each decision, the times of the first and the last one,
    and how many answers it lacks."""

    accept: int
    review: int
    unknown: int
    oldest: datetime | None
    newest: datetime | None
    dropped: int


def add(connection: Connection, space_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store rows, whose values are those of :class:`LoggedVerdict` without the id, and those of the
    nearest prototype."""
    connection.execute(insert(VerdictRow), [{**row, "space_id": space_id} for row in rows])


def add_dropped(connection: Connection, space_id: int, number: int) -> None:
    """Count answers that the log lacks."""
    of_space = update(VerdictLogState).where(VerdictLogState.space_id == space_id)
    more = of_space.values(dropped=VerdictLogState.dropped + number)
    if not connection.execute(more).rowcount:
        row = {"space_id": space_id, "dropped": number}
        connection.execute(insert(VerdictLogState), [row])


def page(
    connection: Connection, space_id: int, which: LogFilter, before: Place | None, limit: int
) -> list[LoggedVerdict]:
    """Up to `limit` rows that a filter keeps, newest first, of those before a place."""
    query = _kept(select(*_COLUMNS), space_id, which)
    if before is not None:
        at, row_id = before
        earlier = and_(VerdictRow.at == at, VerdictRow.id < row_id)
        query = query.where(VerdictRow.at <= at, or_(VerdictRow.at < at, earlier))
    order = _NEWEST if which.request_id is None else _NEWEST_OF_FEW
    rows = connection.execute(query.order_by(*order).limit(limit))
    return [LoggedVerdict(*row) for row in rows]


def named_ids(
    connection: Connection, space_id: int, which: LogFilter, *, not_accepted: bool
) -> tuple[list[int], int]:
    """(ids of the answers that a filter keeps and whose image has a name, newest first; how many
    others it keeps). Answers on claims are left out and, with `not_accepted`, accepted ones."""
    query: Any = select(VerdictRow.id, VerdictRow.source.is_not(None))
    query = _kept(query, space_id, which).where(VerdictRow.claimed.is_(None))
    if not_accepted:
        query = query.where(VerdictRow.decision != "accept")
    rows = connection.execute(query.order_by(*_NEWEST)).all()
    named = [row_id for row_id, has_name in rows if has_name]
    return named, len(rows) - len(named)


def ids(connection: Connection, space_id: int, which: LogFilter) -> list[int]:
    """The ids of the rows that a filter keeps, in order."""
    query = _kept(select(VerdictRow.id), space_id, which)
    return list(connection.scalars(query.order_by(VerdictRow.id)))


def by_ids(connection: Connection, some_ids: Sequence[int]) -> list[LoggedVerdict]:
    """The rows of these ids, newest first."""
    stored = rows_among(connection, select(*_COLUMNS), VerdictRow.id, some_ids)
    rows = [LoggedVerdict(*row) for row in stored]
    return sorted(rows, key=lambda row: (row.at, row.id), reverse=True)


def cursor_of(row: LoggedVerdict) -> str:
    """The cursor of the page behind a row."""
    return f"{(row.at - _EPOCH) // timedelta(microseconds=1)}-{row.id}"


def place_of(cursor: object) -> Place:
    """The place that a cursor says. Raises InvalidInput: it is none."""
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None:
        raise InvalidInput(f"cursor: expected the next_cursor of a page, got {cursor!r:.80}")
    return _EPOCH + timedelta(microseconds=int(match[1])), int(match[2])


def facts(
    connection: Connection,
    space_id: int,
    which: LogFilter,
    calibration_id: int | None = None,
    *,
    claims: bool = False,
) -> Facts:
    """What a log holds of the rows that a filter keeps and, where a calibration is given, that it
    decided: one of predicted labels or, with `claims`, one of claims."""
    query: Any = select(
        VerdictRow.decision, func.count(), func.min(VerdictRow.at), func.max(VerdictRow.at)
    )
    query = _kept(query, space_id, which).group_by(VerdictRow.decision)
    if calibration_id is not None and claims:
        of_calibration = VerdictRow.claims_calibration_id == calibration_id
        query = query.where(of_calibration, VerdictRow.claimed.is_not(None))
    elif calibration_id is not None:
        of_calibration = VerdictRow.calibration_id == calibration_id
        query = query.where(of_calibration, VerdictRow.claimed.is_(None))
    rows = connection.execute(query).all()
    counts: dict[str, int] = {row[0]: row[1] for row in rows}
    of_space = select(VerdictLogState.dropped).where(VerdictLogState.space_id == space_id)
    return Facts(
        counts.get("accept", 0),
        counts.get("review", 0),
        counts.get("unknown", 0),
        min((row[2] for row in rows), default=None),
        max((row[3] for row in rows), default=None),
        connection.scalar(of_space) or 0,
    )


def nearest(
    connection: Connection, space_id: int, since: int, limit: int
) -> tuple[Float64s, Int64s]:
    """((n,) similarity to the nearest prototype, (n,) id of its label, −1: not known) of up to
    `limit` rows, the newest first, that have one and were answered at the revision `since` or a
    later one."""
    query = select(VerdictRow.nearest_similarity, VerdictRow.nearest_id).where(
        VerdictRow.space_id == space_id,
        VerdictRow.nearest_similarity.is_not(None),
        VerdictRow.revision >= since,
    )
    rows = connection.execute(query.order_by(*_NEWEST).limit(limit)).all()
    label_ids = [-1 if row[1] is None else row[1] for row in rows]
    return np.array([row[0] for row in rows], np.float64), np.array(label_ids, np.int64)


def is_due(connection: Connection, space_id: int, days: float, rows: int) -> bool:
    """Whether rows are too old or too many."""
    return any(
        connection.scalar(select(VerdictRow.id).where(*which).limit(1)) is not None
        for which in _surplus(connection, space_id, days, rows)
    )


def trim_some(connection: Connection, space_id: int, days: float, rows: int) -> int:
    """Delete up to :data:`CHUNK_ROWS` rows that are too old or too many; how many."""
    for which in _surplus(connection, space_id, days, rows):
        if number := _delete_oldest(connection, *which):
            return number
    return 0


def _surplus(
    connection: Connection, space_id: int, days: float, rows: int
) -> Iterator[tuple[ColumnElement[bool], ...]]:
    """The conditions of rows that are too old, and of those that are too many."""
    of_space = VerdictRow.space_id == space_id
    yield of_space, VerdictRow.at < datetime.now(UTC) - timedelta(days=days)
    newest = select(VerdictRow.at, VerdictRow.id).where(of_space).order_by(*_NEWEST)
    last = connection.execute(newest.offset(rows).limit(1)).first()
    if last is not None:
        same = and_(VerdictRow.at == last.at, VerdictRow.id <= last.id)
        yield of_space, or_(VerdictRow.at < last.at, same)


def delete_some(connection: Connection, space_id: int) -> int:
    """Delete up to :data:`CHUNK_ROWS` rows of a space, at last the count of what it lacks; how many
    rows."""
    if number := _delete_oldest(connection, VerdictRow.space_id == space_id):
        return number
    connection.execute(delete(VerdictLogState).where(VerdictLogState.space_id == space_id))
    return 0


def forget_labels(connection: Connection, label_ids: Sequence[int], limit: int) -> int:
    """Delete up to about `limit` rows that answer or claim one of these labels; how many."""
    for column in (VerdictRow.label_id, VerdictRow.claimed_id):
        for some in slices(label_ids):
            which = select(VerdictRow.id).where(column.in_(some)).limit(limit)
            if row_ids := list(connection.scalars(which)):
                delete_among(connection, VerdictRow.id, row_ids)
                return len(row_ids)
    return 0


def move(connection: Connection, old_id: int, new_id: int) -> None:
    """Give what is logged of one space to another one, which has other encoders: similarities to
    prototypes are not comparable there."""
    incomparable = {VerdictRow.nearest_similarity: None, VerdictRow.nearest_id: None}
    for table, values in ((VerdictRow, incomparable), (VerdictLogState, {})):
        moved = update(table).where(table.space_id == old_id)
        connection.execute(moved.values({table.space_id: new_id, **values}))


def _delete_oldest(connection: Connection, *which: ColumnElement[bool]) -> int:
    oldest = select(VerdictRow.id).where(*which).order_by(VerdictRow.at, VerdictRow.id)
    oldest_ids = list(connection.scalars(oldest.limit(CHUNK_ROWS)))
    delete_among(connection, VerdictRow.id, oldest_ids)
    return len(oldest_ids)


def _kept(query: Select[Any], space_id: int, which: LogFilter) -> Select[Any]:
    """The query of the rows of a space that a filter keeps."""
    conditions: Iterator[ColumnElement[bool]] = _conditions(which)
    return query.where(VerdictRow.space_id == space_id, *conditions)


def _conditions(which: LogFilter) -> Iterator[ColumnElement[bool]]:
    if which.since is not None:
        yield VerdictRow.at >= which.since
    if which.until is not None:
        yield VerdictRow.at < which.until
    if which.decision is not None:
        yield VerdictRow.decision == which.decision
    if which.label is not None:
        yield VerdictRow.label.in_(sorted(forms([which.label])))
    if which.request_id is not None:
        yield VerdictRow.request_id == which.request_id
