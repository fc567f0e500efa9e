"""The catalog's file past trustvlm, with nothing but SQLite: what is in it, and changes that
trustvlm would not make."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

from numbered import CATALOG


def run_sql(home: Path, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """What one statement answers; what it changes is committed, whatever the foreign keys say."""
    connection = sqlite3.connect(home / CATALOG)
    try:
        with connection:
            return connection.execute(statement, values).fetchall()
    finally:
        connection.close()
