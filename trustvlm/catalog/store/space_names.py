"""Names of spaces, read with nothing but the standard library: a command line that is being
completed cannot wait for SQLAlchemy."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

__all__ = ["space_names"]

_BUSY_S = 0.2


def space_names(catalog: Path, beginning: str = "") -> list[str]:
    """The names of the spaces of a catalog that begin so, in order.

    Raises:
        sqlite3.Error: no catalog is there, it is busy, or it cannot be read.
    """
    address = f"{catalog.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=_BUSY_S)) as connection:
        rows = connection.execute("SELECT name FROM spaces WHERE removed_at IS NULL ORDER BY name")
        return [name for (name,) in rows if name.startswith(beginning)]
