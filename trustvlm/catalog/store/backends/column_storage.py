"""How PostgreSQL keeps columns: set after the tables were made or changed, so that the steps of
migrations/ are the same for every database."""

from __future__ import annotations

from collections import defaultdict

from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection

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
