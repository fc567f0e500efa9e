"""How rows come into PostgreSQL: many by COPY, in the form in which the server stores them; a few
in one round trip, which gives their ids. Each table has a sequence, which never gives an id twice.
How columns are kept is set after tables were made or changed, so that the steps of migrations/ are
the same for every database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg.sql import SQL, Identifier, Placeholder
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
    text,
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
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT BINARY)").format(
        Identifier(table.name), SQL(", ").join(map(Identifier, columns))
    )
    driver: Any = connection.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types([_type(table, column) for column in columns])
        for row in rows:
            copy.write_row(row)
    with driver.cursor() as cursor:
        if cursor.execute(_HAS_GROWN, [f'"{table.name}"']).fetchone() == (True,):
            cursor.execute(SQL("ANALYZE {}").format(Identifier(table.name)))


def insert_few(
    connection: Connection, table: Table, columns: Sequence[str], rows: Sequence[Sequence[Any]]
) -> list[int]:
    """Insert rows of these columns, with values that the driver takes as they are; their ids, in
    the order of `rows`."""
    statement = SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        Identifier(table.name),
        SQL(", ").join(map(Identifier, columns)),
        SQL(", ").join([Placeholder()] * len(columns)),
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


_LAST = text(
    "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'id') AS regclass))"
)
_SET = text("SELECT setval(CAST(pg_get_serial_sequence(:table, 'id') AS regclass), :last)")


def last_ids(connection: Connection, tables: Sequence[str]) -> dict[str, int]:
    """The highest id that each table ever gave, 0 for none."""
    return {table: connection.scalar(_LAST, {"table": table}) or 0 for table in tables}


def set_last_ids(connection: Connection, ids: Mapping[str, int]) -> None:
    """Make the next ids higher than these."""
    for table, last in ids.items():
        if last:
            connection.execute(_SET, {"table": table, "last": last})


_UNSET = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), t.typname = 'bytea'
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r'
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = current_schema()::regnamespace AND a.attnum > 0 AND NOT a.attisdropped
  AND (t.typname = 'bytea' AND a.attstorage <> 'e'
    OR a.attcollation NOT IN (0, 'pg_catalog."C"'::regcollation))
ORDER BY c.relname, a.attnum
"""
_BYTES = SQL("ALTER COLUMN {} SET STORAGE EXTERNAL")
_TEXT = SQL('ALTER COLUMN {} TYPE {} COLLATE pg_catalog."C"')


def set_column_storage(connection: Connection) -> None:
    """Keep bytes as they are, for vectors do not compress; order text by its characters' numbers,
    as SQLite does, in databases of every language."""
    driver = connection.connection.driver_connection
    assert driver is not None
    changes = defaultdict(list)
    for table, column, kind, is_bytes in connection.exec_driver_sql(_UNSET):
        name = Identifier(column)
        change = _BYTES.format(name) if is_bytes else _TEXT.format(name, SQL(kind))
        changes[table].append(change)
    for table, some in changes.items():
        statement = SQL("ALTER TABLE {} {}").format(Identifier(table), SQL(", ").join(some))
        connection.exec_driver_sql(statement.as_string(driver))
