"""The catalog past trustvlm, with nothing but its database: what is in it, and changes that
trustvlm would not make."""

from __future__ import annotations

import os
import sqlite3
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


def _on_postgres(url: str, statement: str, values: tuple[object, ...]) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(url, options=f"-c search_path={SCHEMA}") as connection:
        cursor = connection.execute(statement.replace("?", "%s").encode(), values)
        return [] if cursor.description is None else cursor.fetchall()
