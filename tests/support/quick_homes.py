"""New homes whose tables are made by a script that the migrations wrote once in this process.

The 16 steps of migrations/ take 0.12 s of a processor, and tests make thousands of homes. The first
new catalog in an SQLite file is made by the steps themselves, and what they made is read back as
SQL; the next ones execute that. Upgrades, catalogs in PostgreSQL, and the processes that tests
start run the steps.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import Connection, inspect

from trustvlm.catalog.store import schema

_MADE = "SELECT sql FROM sqlite_master WHERE sql > '' AND name NOT LIKE 'sqlite_%'"


def install(patch: pytest.MonkeyPatch) -> None:
    """Make new catalogs from the script, as long as `patch` holds."""
    migrate: Callable[..., None] = schema.upgrade
    script: list[str] = []

    def upgrade(connection: Connection, revision: str | None = None) -> None:
        is_new = connection.dialect.name == "sqlite" and not inspect(connection).get_table_names()
        if not is_new or revision is not None:
            migrate(connection, revision)
        elif script:
            for statement in script:
                connection.exec_driver_sql(statement)
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
