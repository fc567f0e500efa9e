"""What makes catalogs quick to open in this process: tests open thousands of new ones.

The steps of migrations/ take 0.12 s of a processor. The first new catalog in an SQLite file is made
by them, and what they made is read back as SQL; the next ones execute that. SQLAlchemy compiles
each statement once for each catalog, most of the time of a short test; here equal statements are
compiled once. Upgrades, catalogs in PostgreSQL, and the processes that tests start run the steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, inspect
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.util import LRUCache

from trustvlm.catalog.store import postgres, schema, sqlite

_MADE = "SELECT sql FROM sqlite_master WHERE sql > '' AND name NOT LIKE 'sqlite_%'"
_STATEMENTS = 3_000


def install(patch: pytest.MonkeyPatch) -> None:
    """Make catalogs quick to open, as long as `patch` holds."""
    _make_tables_from_a_script(patch)
    _share_compiled_statements(patch)


def _make_tables_from_a_script(patch: pytest.MonkeyPatch) -> None:
    migrate: Callable[..., None] = schema.upgrade
    script: list[str] = []

    def upgrade(connection: Connection, revision: str | None = None) -> None:
        is_new = connection.dialect.name == "sqlite" and not inspect(connection).get_table_names()
        if not is_new or revision is not None:
            migrate(connection, revision)
        elif script:
            file = connection.connection.driver_connection
            for statement in script:
                file.execute(statement)
        else:
            migrate(connection)
            script.extend(_written(connection))

    patch.setattr(schema, "upgrade", upgrade)


def _written(connection: Connection) -> list[str]:
    """The statements that make what the steps made in an empty catalog."""
    statements = [row[0] for row in connection.exec_driver_sql(_MADE)]
    for table in inspect(connection).get_table_names():
        if rows := connection.exec_driver_sql(f'SELECT * FROM "{table}"').all():
            assert table == "alembic_version", f"the steps wrote rows into {table}, too"
            statements.append(f"INSERT INTO alembic_version VALUES ('{rows[0][0]}')")
    return statements


def _share_compiled_statements(patch: pytest.MonkeyPatch) -> None:
    """Give all engines of the product one cache. Its keys hold the dialect, and the product makes
    all dialects of a kind alike."""
    compiled: Any = LRUCache(_STATEMENTS)

    def make(*args: Any, **options: Any) -> Engine:
        engine = create_engine(*args, **options)
        engine._compiled_cache = compiled
        return engine

    for module in (postgres, sqlite):
        patch.setattr(module, "create_engine", make)
    for dialect in (PGDialect_psycopg, SQLiteDialect_pysqlite):
        patch.setattr(dialect, "__eq__", lambda self, other: type(self) is type(other))
        patch.setattr(dialect, "__hash__", lambda self: hash(type(self)))
