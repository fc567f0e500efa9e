"""Names of spaces, read with nothing but the driver of the database: a command line that is being
completed cannot wait for SQLAlchemy."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_BUSY_S = 0.2
_CONNECT_S = 2  # the least that the driver waits
_NAMES = "SELECT name FROM {spaces} WHERE removed_at IS NULL ORDER BY name"


def names_in_file(catalog: Path, beginning: str = "") -> list[str]:
    """The names of the spaces of a catalog that begin so, in order; none where no catalog is there,
    it is busy, or it cannot be read."""
    address = f"{catalog.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
            rows = connection.execute(_NAMES.format(spaces="spaces")).fetchall()
    except sqlite3.Error:
        return []
    return [name for (name,) in rows if name.startswith(beginning)]


def names_on_server(url: str, schema: str, beginning: str = "") -> list[str]:
    """Names of spaces that start with `beginning`, of a catalog in a schema of a PostgreSQL
    database; none where it cannot be reached within seconds."""
    try:
        import psycopg
        from psycopg.sql import SQL, Identifier
    except ModuleNotFoundError:  # the extra that a catalog on a server needs
        return []
    address = "postgresql://" + url.partition("://")[2]
    spaces = Identifier(schema, "spaces")
    try:
        with psycopg.connect(address, connect_timeout=_CONNECT_S, autocommit=True) as connection:
            rows = connection.execute(SQL(_NAMES).format(spaces=spaces)).fetchall()
    except psycopg.Error:
        return []
    return sorted(name for (name,) in rows if name.startswith(beginning))
