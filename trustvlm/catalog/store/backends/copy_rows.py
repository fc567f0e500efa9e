"""Inserting rows into PostgreSQL: many by COPY, in the form in which the server stores them; a few
in one round trip, which gives their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from psycopg import sql
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Connection,
    DateTime,
    Float,
    Integer,
    LargeBinary,
    String,
    Table,
)
from sqlalchemy.types import TypeDecorator

_TYPES: dict[type[Any], str] = {
    BigInteger: "int8",
    Integer: "int4",
    Boolean: "bool",
    DateTime: "timestamp",
    Float: "float8",
    JSON: "json",
    LargeBinary: "bytea",
    String: "text",
}

_HAS_GROWN = """
SELECT pg_relation_size(oid) > 2 * current_setting('block_size')::int * greatest(relpages, 8)
FROM pg_class WHERE oid = to_regclass(%s)
"""
"""Whether a table is more than twice as large as when the server last looked what is in it."""


def copy_rows(
    connection: Connection, table: Table, columns: Sequence[str], rows: Iterable[Sequence[Any]]
) -> None:
    """Insert rows of these columns, with values that the driver takes as they are.

    The server gets new statistics of a table that has grown much. It would gather them by itself
    within minutes; until then it would find a label by reading all labels of its space.
    """
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        sql.Identifier(table.name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_type(table, column) for column in columns])
        for row in rows:
            copy.write_row(row)
    with driver.cursor() as cursor:
        if cursor.execute(_HAS_GROWN, [f'"{table.name}"']).fetchone() == (True,):
            cursor.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.name)))


def insert_few(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[int]:
    """Insert rows of these columns, with values that the driver takes as they are; their ids, in
    the order of `rows`."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table.name),
        sql.SQL(", ").join(map(sql.Identifier, columns)),
        sql.SQL(", ").join([sql.Placeholder()] * len(columns)),
    )
    driver: Any = connection.connection.driver_connection
    ids: list[int] = []
    with driver.cursor() as cursor:
        cursor.executemany(statement, rows, returning=True)
        while True:
            ids.append(cursor.fetchone()[0])
            if not cursor.nextset():
                return ids


def _type(table: Table, column: str) -> str:
    """The server's name of a column's type."""
    kind = table.c[column].type
    plain = kind.impl if isinstance(kind, TypeDecorator) else kind
    return next(name for base, name in _TYPES.items() if isinstance(plain, base))
