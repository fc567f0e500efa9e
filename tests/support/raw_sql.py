"""The catalog past trustvlm, with nothing but its database: what is in it, and changes that
trustvlm would not make."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from numbered import CATALOG

SCHEMA = "trustvlm"


def run_sql(home: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What one statement answers; what it changes is committed, whatever SQLite's foreign keys say.
    On PostgreSQL (fixture `back_end`) "?" stands for a value, too."""
    if url := os.environ.get("TRUSTVLM_DATABASE_URL"):
        return _on_postgres(url, statement, values)
    connection = sqlite3.connect(home / CATALOG)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()


def dumped(home: Path) -> dict[str, list[str]]:
    """Every row of every table of a home's file, without its epoch."""
    with closing(sqlite3.connect(home / CATALOG)) as connection:
        connection.execute("UPDATE catalog_state SET epoch = ''")
        of_tables = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in connection.execute(of_tables)]
        return {
            name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in names
        }


def server_sql(url: str, query: str) -> list[tuple[Any, ...]]:
    """What one statement answers in the database of a URL."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def _on_postgres(url: str, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url, options=f"-c search_path={SCHEMA}") as connection:
        cursor = connection.execute(statement.replace("?", "%s").encode(), values)
        return [] if cursor.description is None else cursor.fetchall()
