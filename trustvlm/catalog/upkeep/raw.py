"""Rows as they are stored, whatever has become of them: for looking at damage, and for moving it
out of the way.

Texts, JSON and times come as the bytes that are stored, since bytes that are no UTF-8 or no JSON
can be read in no other way; numbers and vectors come as they are. Nothing here trusts what it
reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    JSON,
    Connection,
    DateTime,
    LargeBinary,
    Select,
    String,
    cast,
    delete,
    func,
    literal,
    select,
    type_coerce,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import NullType, TypeDecorator

from trustvlm.catalog.store.models import (
    Base,
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

__all__ = [
    "KINDS",
    "Raw",
    "Unreadable",
    "by_ids",
    "count",
    "count_live",
    "discard",
    "highest_revision",
    "key_of",
    "kind_of_table",
    "pages",
    "space_ids",
    "supports_of",
]

Raw = Mapping[str, Any]

KINDS: Mapping[str, type[Base]] = {
    "space": Space,
    "label": Label,
    "support": Support,
    "thumbnail": Thumbnail,
    "observation": Observation,
    "calibration": CalibrationRow,
    "fit": Fit,
    "change": Change,
    "quarantine": Quarantine,
}

_KEYS = {"thumbnail": "support_id", "fit": "space_id"}
_IN_CHUNK = 500


class Unreadable(dict[str, Any]):
    """A row of which SQLite can read no more than its key."""


def kind_of_table(table: str) -> str | None:
    """The kind of row that a table holds."""
    return next((kind for kind, model in KINDS.items() if model.__tablename__ == table), None)


def key_of(kind: str) -> str:
    """The column that numbers the rows of a kind."""
    return _KEYS.get(kind, "id")


def space_ids(connection: Connection) -> list[int]:
    """The ids of all spaces, removed ones too."""
    return list(connection.scalars(select(Space.id).order_by(Space.id)))


def highest_revision(connection: Connection, space_id: int, below: int) -> int:
    """The highest revision below `below` that a label, support image or entry of the change log
    has; 0 without any."""
    tables = (Label, Support, Change)
    of_space = [
        select(func.max(t.revision)).where(t.space_id == space_id, t.revision < below)
        for t in tables
    ]
    found = [connection.scalar(query) for query in of_space]
    return max((value for value in found if isinstance(value, int)), default=0)


def count(connection: Connection, kind: str, space_id: int) -> int:
    """How many rows of a kind a space has, removed ones too."""
    return connection.scalar(_of_space(select(func.count()), kind, space_id)) or 0


def count_live(connection: Connection, kind: str, space_id: int, revision: int, column: str) -> int:
    """How many live labels or support images of a space, last changed at `revision` or before, have
    a value in `column`."""
    table: Any = KINDS[kind]
    alive = (
        table.space_id == space_id,
        table.removed_revision.is_(None),
        table.revision <= revision,
    )
    return (
        connection.scalar(select(func.count()).where(*alive, getattr(table, column).is_not(None)))
        or 0
    )


def supports_of(connection: Connection, label_id: int, limit: int) -> list[int]:
    """The ids of up to `limit` support images of a label, removed ones too."""
    return list(
        connection.scalars(
            select(Support.id).where(Support.label_id == label_id).order_by(Support.id).limit(limit)
        )
    )


def pages(connection: Connection, kind: str, space_id: int, size: int) -> Iterator[list[Raw]]:
    """All rows of a kind that a space has, in order of their keys, `size` at a time; rows that
    cannot be read are :class:`Unreadable`."""
    key, after = _key(kind), -(2**63)
    while True:
        query = _of_space(select(key), kind, space_id).where(key > after).order_by(key).limit(size)
        keys = list(connection.scalars(query))
        if not keys:
            return
        yield by_ids(connection, kind, keys)
        after = keys[-1]


def by_ids(connection: Connection, kind: str, ids: Sequence[int]) -> list[Raw]:
    """The rows of these keys that are there, in order of their keys."""
    found: list[Raw] = []
    for start in range(0, len(ids), _IN_CHUNK):
        found += _read(connection, kind, ids[start : start + _IN_CHUNK])
    return sorted(found, key=lambda row: int(row[key_of(kind)]))


def discard(connection: Connection, kind: str, ids: Sequence[int]) -> None:
    """Delete rows of these keys."""
    for start in range(0, len(ids), _IN_CHUNK):
        connection.execute(
            delete(KINDS[kind]).where(_key(kind).in_(ids[start : start + _IN_CHUNK]))
        )


def _read(connection: Connection, kind: str, ids: Sequence[int]) -> list[Raw]:
    columns = [_plain(column) for column in KINDS[kind].__table__.columns]
    try:
        rows = connection.execute(select(*columns).where(_key(kind).in_(ids))).all()
        return [row._asdict() for row in rows]
    except DBAPIError as error:
        if not any(known in str(error.orig).lower() for known in ("malformed", "could not decode")):
            raise
    if len(ids) == 1:
        return [Unreadable({key_of(kind): ids[0]})]
    half = len(ids) // 2
    return _read(connection, kind, ids[:half]) + _read(connection, kind, ids[half:])


def _key(kind: str) -> InstrumentedAttribute[int]:
    key: InstrumentedAttribute[int] = getattr(KINDS[kind], key_of(kind))
    return key


def _of_space(query: Select[Any], kind: str, space_id: int) -> Select[Any]:
    if kind == "thumbnail":
        return (
            query.select_from(Thumbnail)
            .join(Support, Support.id == Thumbnail.support_id)
            .where(Support.space_id == space_id)
        )
    table: Any = KINDS[kind]
    # A sum, not the column: its index would make SQLite sort all rows of the space for every page.
    return query.select_from(table).where(literal(0) + table.space_id == space_id)


def _plain(column: Any) -> Any:
    kind = column.type.impl if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(kind, String | JSON | DateTime):
        return cast(column, LargeBinary).label(column.name)
    return type_coerce(column, NullType()).label(column.name)
