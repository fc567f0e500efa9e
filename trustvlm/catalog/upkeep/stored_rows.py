"""Rows as the bytes that are stored, for finding damage and for moving it out of the way.

Texts, JSON and times are read as bytes: what is no UTF-8 or no JSON can be read in no other way.
Numbers and vectors are read as they are. Nothing here trusts what it reads; :func:`decode` says
which columns hold what their type can hold.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Connection,
    DateTime,
    Float,
    LargeBinary,
    Select,
    String,
    delete,
    func,
    literal,
    select,
    type_coerce,
    update,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import NullType, TypeDecorator

from trustvlm.catalog.store import models, side_models
from trustvlm.catalog.store.bulk import slices
from trustvlm.catalog.store.columns import as_bytes
from trustvlm.catalog.store.vectors import checksum

StoredRow = Mapping[str, Any]

KINDS: Mapping[str, type[models.Base]] = {
    "space": models.Space,
    "label": models.Label,
    "support": models.Support,
    "thumbnail": models.Thumbnail,
    "observation": models.Observation,
    "review": side_models.ReviewRow,
    "calibration": models.CalibrationRow,
    "fit": models.Fit,
    "change": models.Change,
    "quarantine": side_models.Quarantine,
    "label data": side_models.LabelAttributes,
    "support data": side_models.SupportAttributes,
    "verdict": side_models.VerdictRow,
}

_KEYS = {
    "thumbnail": "support_id",
    "fit": "space_id",
    "label data": "label_id",
    "support data": "support_id",
}


class Unreadable(dict[str, Any]):
    """A row that SQLite cannot read, its key aside."""


def kind_of_table(table: str) -> str | None:
    """The kind of row that a table holds."""
    return next((kind for kind, model in KINDS.items() if model.__tablename__ == table), None)


def key_of(kind: str) -> str:
    """The column that numbers the rows of a kind."""
    return _KEYS.get(kind, "id")


def decode(kind: str, row: StoredRow) -> tuple[dict[str, Any], list[str]]:
    """The values of a row, None where a column does not hold what its type can; and why not."""
    values: dict[str, Any] = {}
    problems = []
    for column in KINDS[kind].__table__.columns:
        stored, kind, value = row[column.name], _plain_type(column), None
        try:
            if stored is not None:
                value = _value(kind, stored)
            elif not column.nullable:
                raise ValueError("missing")
        except (ValueError, AttributeError, TypeError, RecursionError):
            problems.append(f"its {column.name} is {stored!r:.40}, expected {str(kind).lower()}")
        values[column.name] = value
    return values, problems


def _value(kind: Any, stored: Any) -> Any:
    """The value that is stored; an error where it is none of that type."""
    if isinstance(kind, JSON):
        return json.loads(stored)
    if isinstance(kind, String):
        return stored.decode()
    if isinstance(kind, DateTime):
        return datetime.fromisoformat(stored.decode())
    right = isinstance(stored, float | int if isinstance(kind, Float) else int)
    if isinstance(kind, LargeBinary):
        right = isinstance(stored, bytes) and kind.length in (None, len(stored))
    elif isinstance(kind, Boolean):
        right = stored in (0, 1)
    if not right:
        raise ValueError(f"no {kind}")
    return stored


def space_ids(connection: Connection) -> list[int]:
    """The ids of all spaces, removed ones too."""
    return list(connection.scalars(select(models.Space.id).order_by(models.Space.id)))


def highest_revision(connection: Connection, space_id: int, below: int) -> int:
    """The highest revision below `below` that a label, support image or entry of the change log
    has; 0 without any."""
    highest = [
        connection.scalar(
            select(func.max(table.revision)).where(
                table.space_id == space_id, table.revision < below
            )
        )
        for table in (
            models.Label,
            models.Support,
            models.Change,
            side_models.LabelAttributes,
            side_models.SupportAttributes,
        )
    ]
    return max((value for value in highest if isinstance(value, int)), default=0)


def count(connection: Connection, kind: str, space_id: int) -> int:
    """How many rows of a kind a space has, removed ones too."""
    return connection.scalar(_of_space(select(func.count()), kind, space_id)) or 0


def count_live(connection: Connection, kind: str, space_id: int, revision: int, column: str) -> int:
    """How many live labels or support images of a space, last changed at `revision` or before, have
    a value in `column`."""
    table: Any = KINDS[kind]
    query = select(func.count()).where(
        table.space_id == space_id,
        table.removed_revision.is_(None),
        table.revision <= revision,
        getattr(table, column).is_not(None),
    )
    return connection.scalar(query) or 0


def supports_of(connection: Connection, label_id: int, limit: int) -> list[int]:
    """The ids of up to `limit` support images of a label, removed ones too."""
    of_label = select(models.Support.id).where(models.Support.label_id == label_id)
    return list(connection.scalars(of_label.order_by(models.Support.id).limit(limit)))


def pages(connection: Connection, kind: str, space_id: int, size: int) -> Iterator[list[StoredRow]]:
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


def by_ids(connection: Connection, kind: str, ids: Sequence[int]) -> list[StoredRow]:
    """The rows of these keys, in order of their keys; keys without a row are passed over."""
    rows: list[StoredRow] = []
    for some in slices(ids):
        rows += _read(connection, kind, some)
    return sorted(rows, key=lambda row: int(row[key_of(kind)]))


def delete_row(connection: Connection, kind: str, key: int) -> None:
    """Delete the row of a key."""
    connection.execute(delete(KINDS[kind]).where(_key(kind) == key))


def set_prototype(
    connection: Connection,
    label_id: int,
    revision: int,
    text_prototype: bytes,
    support_count: int,
    prototype: bytes | None,
) -> None:
    """Store a label's count and prototype, beside the text prototype that the caller proved."""
    values = {"prototype": prototype, "support_count": support_count, "revision": revision}
    values["checksum"] = checksum(text_prototype, prototype)
    connection.execute(update(models.Label).where(models.Label.id == label_id).values(**values))


def _read(connection: Connection, kind: str, ids: Sequence[int]) -> list[StoredRow]:
    columns = [_as_stored(column) for column in KINDS[kind].__table__.columns]
    try:
        rows = connection.execute(select(*columns).where(_key(kind).in_(ids))).all()
        return [row._asdict() for row in rows]
    except DBAPIError as error:
        if not any(text in str(error.orig).lower() for text in ("malformed", "could not decode")):
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
        joined = query.select_from(models.Thumbnail).join(
            models.Support, models.Support.id == models.Thumbnail.support_id
        )
        return joined.where(models.Support.space_id == space_id)
    table: Any = KINDS[kind]
    # A sum, not the column: its index would make SQLite sort all rows of the space for every page.
    return query.select_from(table).where(literal(0) + table.space_id == space_id)


def _plain_type(column: Any) -> Any:
    return column.type.impl if isinstance(column.type, TypeDecorator) else column.type


def _as_stored(column: Any) -> Any:
    if isinstance(_plain_type(column), String | JSON | DateTime):
        return as_bytes(column).label(column.name)
    return type_coerce(column, NullType()).label(column.name)
