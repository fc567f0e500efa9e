"""Inserting many rows at the cost of the driver.

SQLAlchemy prepares each row's parameters in Python: for rows of three kilobytes that takes as long
as SQLite takes to store them. Here a statement is compiled once for a dialect, and the driver gets
plain tuples.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, insert
from sqlalchemy.engine import Dialect

from trustvlm.catalog.store.models import Base

__all__ = ["insert_rows"]


def insert_rows(connection: Connection, model: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows that have the same columns, of types that the driver takes as they are: numbers,
    text, bytes, None."""
    if not rows:
        return
    columns = tuple(rows[0])
    statement, order = _compiled(connection.dialect, model, columns)
    if order is None:
        connection.exec_driver_sql(statement, list(rows))
    else:
        connection.exec_driver_sql(
            statement, [tuple([row[column] for column in order]) for row in rows]
        )


@cache
def _compiled(
    dialect: Dialect, model: type[Base], columns: tuple[str, ...]
) -> tuple[str, tuple[str, ...] | None]:
    """The statement, and the order of its parameters where the driver takes them by position."""
    table = model.__table__
    assert isinstance(table, Table)
    compiled = insert(table).compile(dialect=dialect, column_keys=list(columns))
    return str(compiled), None if compiled.positiontup is None else tuple(compiled.positiontup)
