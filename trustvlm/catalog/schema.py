"""Creates and upgrades the tables. Alembic, over migrations/, is the only creator of tables, in tests too."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect

from trustvlm.errors import SchemaMismatch
from trustvlm.resources import folder

__all__ = ["check", "current", "head", "upgrade"]

_ALEMBIC = threading.Lock()  # Alembic's `context` and `op` belong to the process: threads must take turns


def head() -> str:
    """The newest schema revision that this program knows."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None
    return revision


def current(connection: Connection) -> str | None:
    """The catalog's schema revision; None for a file without tables."""
    return MigrationContext.configure(connection).get_current_revision()


def upgrade(connection: Connection) -> None:
    """Bring the catalog to :func:`head`, inside the caller's transaction.

    Raises:
        SchemaMismatch: it is newer than this program, or holds the tables of something else.
    """
    _refuse_newer(connection)
    if current(connection) is None and (foreign := inspect(connection).get_table_names()):
        raise SchemaMismatch(f"the file holds the tables of something else ({', '.join(foreign[:5])}); choose another home")
    config = _config()
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")


def check(connection: Connection, home: Path) -> None:
    """Make sure that this program and the catalog mean the same tables.

    Raises:
        SchemaMismatch: older (the message names the command that upgrades it) or newer.
    """
    _refuse_newer(connection)
    found = current(connection)
    if found != head():
        raise SchemaMismatch(
            f"the catalog has schema {found or 'none'}, this program needs {head()}; run 'trustvlm --home {home} db upgrade'"
        )


def _refuse_newer(connection: Connection) -> None:
    found = current(connection)
    if found is None:
        return
    try:
        ScriptDirectory.from_config(_config()).get_revision(found)
    except CommandError as error:
        raise SchemaMismatch(
            f"the catalog has schema {found}, which is newer than this program's {head()}; upgrade trustvlm"
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    return config
