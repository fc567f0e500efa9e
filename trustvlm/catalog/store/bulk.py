"""Inserting many rows at the cost of the driver, and reading rows by many values.

SQLAlchemy prepares each row's parameters in Python: for rows of three kilobytes that takes as long
as SQLite takes to store them. Here a statement is compiled once for a dialect, and the driver gets
plain tuples.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from operator import itemgetter
from typing import Any, TypeVar

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    SQLColumnExpression,
    Table,
    delete,
    insert,
    update,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import InstrumentedAttribute

from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.store.models import Base

_MANY = 50  # rows from which on a database's own way pays
_IN_CHUNK = 500  # values per IN (…): far below every database's limit on bound variables

T = TypeVar("T")


def slices(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """The values in their order, in pieces that a statement can hold."""
    for start in range(0, len(values), _IN_CHUNK):
        yield values[start : start + _IN_CHUNK]


def rows_among(
    connection: Connection,
    query: Select[*tuple[Any, ...]],
    column: SQLColumnExpression[Any],
    values: Sequence[Any],
) -> Iterator[Row[*tuple[Any, ...]]]:
    """The rows of `query` that have one of `values` in `column`."""
    among = database_of(connection).among
    for some in slices(values):
        yield from connection.execute(query.where(among(column, some)))


def in_order(rows: Iterable[Row[*tuple[Any, ...]]]) -> list[Row[*tuple[Any, ...]]]:
    """The rows by their first column, which no two share: :func:`sorted` without a key compares
    rows in Python, several hundred times slower."""
    return sorted(rows, key=itemgetter(0))


def delete_among(
    connection: Connection,
    column: InstrumentedAttribute[Any],
    values: Sequence[Any],
    *more: ColumnElement[bool],
) -> None:
    """Delete the rows that have one of `values` in `column`, and fulfil `more`."""
    for some in slices(values):
        connection.execute(delete(column.class_).where(column.in_(some), *more))


def update_among(
    connection: Connection,
    column: InstrumentedAttribute[Any],
    values: Sequence[Any],
    changes: Mapping[str, Any],
    *more: ColumnElement[bool],
) -> None:
    """Change the rows that have one of `values` in `column`, and fulfil `more`."""
    for some in slices(values):
        among = update(column.class_).where(column.in_(some), *more)
        connection.execute(among.values(**changes))


def insert_rows(connection: Connection, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that have the same columns, of types that the driver takes as they are: numbers,
    text, bytes, None."""
    if not rows:
        return
    columns = tuple(rows[0])
    insert_many = database_of(connection).insert_many
    if insert_many is not None and len(rows) >= _MANY:
        values = ([row[column] for column in columns] for row in rows)
        insert_many(connection, table_of(model), columns, values)
        return
    statement, order = _compiled(connection.dialect, model, columns)
    if order is None:
        connection.exec_driver_sql(statement, list(rows))
    else:
        connection.exec_driver_sql(
            statement, [tuple([row[column] for column in order]) for row in rows]
        )


def inserted_ids(
    connection: Connection, model: type[Base], rows: Sequence[dict[str, Any]]
) -> list[int] | None:
    """Insert rows whose ids the database gives, see :func:`insert_rows`. Their ids, in the order of
    `rows`; None where a statement that reads them is faster: with RETURNING, SQLite gives them in
    an order that one can rely on for one row at a time only, at three times the cost."""
    insert_few = database_of(connection).insert_few
    if insert_few is None or len(rows) >= _MANY:
        insert_rows(connection, model, rows)
        return None
    columns = tuple(rows[0])
    values = [[row[column] for column in columns] for row in rows]
    return insert_few(connection, table_of(model), columns, values)


@cache
def _compiled(
    dialect: Dialect, model: type[Base], columns: tuple[str, ...]
) -> tuple[str, tuple[str, ...] | None]:
    """The statement, and the order of its parameters where the driver takes them by position."""
    compiled = insert(table_of(model)).compile(dialect=dialect, column_keys=list(columns))
    return str(compiled), None if compiled.positiontup is None else tuple(compiled.positiontup)


def table_of(model: type[Base]) -> Table:
    """The table that a class stands for."""
    table = model.__table__
    assert isinstance(table, Table)
    return table
