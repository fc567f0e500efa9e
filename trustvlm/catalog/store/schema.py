"""Creates and upgrades the tables. Alembic, over migrations/, is the only creator of tables, in
tests too."""

from __future__ import annotations

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, inspect
from sqlalchemy.exc import IntegrityError

from trustvlm.catalog.store import server_models, upkeep_models  # noqa: F401 (tables of the schema)
from trustvlm.catalog.store.models import Base
from trustvlm.errors import Damaged, SchemaMismatch
from trustvlm.system.resources import folder

__all__ = ["add_missing_indexes", "check", "current", "drift", "head", "refuse_newer", "upgrade"]

# Alembic's `context` and `op` belong to the process: threads must take turns.
_ALEMBIC = threading.Lock()


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
    refuse_newer(current(connection))
    if current(connection) is None and (foreign := inspect(connection).get_table_names()):
        raise SchemaMismatch(
            f"the file holds the tables of something else ({', '.join(foreign[:5])}); choose "
            f"another home"
        )
    config = _config()
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")


def check(connection: Connection, home: Path) -> None:
    """Make sure that this program and the catalog mean the same tables.

    Raises:
        SchemaMismatch: older (the message names the command that upgrades it) or newer.
    """
    revision = current(connection)
    refuse_newer(revision)
    if revision != head():
        raise SchemaMismatch(
            f"the catalog has schema {revision or 'none'}, this program needs {head()}; run "
            f"'trustvlm --home {home} db upgrade'"
        )


def drift(connection: Connection) -> list[str]:
    """Where tables, columns or indexes are not what this program's models say."""
    from alembic.autogenerate import compare_metadata

    context = MigrationContext.configure(connection, opts={"compare_type": True})
    differences = []
    for difference in compare_metadata(context, Base.metadata):
        for change in difference if isinstance(difference, list) else [difference]:
            thing = next((part for part in change[1:] if hasattr(part, "name")), None)
            table = getattr(getattr(thing, "table", None), "name", None)
            parts = (table, getattr(thing, "name", change[-1]))
            name = ".".join(str(part) for part in parts if part)
            differences.append(f"{str(change[0]).replace('_', ' ')} {name}")
    return sorted(differences)


def add_missing_indexes(connection: Connection) -> None:
    """Make the indexes that :func:`drift` misses. Raises Damaged where rows break the uniqueness of
    one."""
    for table in Base.metadata.tables.values():
        for index in table.indexes:
            try:
                index.create(connection, checkfirst=True)
            except IntegrityError as error:
                raise Damaged(
                    f"rows of {table.name!r} that must differ are the same: {error.orig}"
                ) from error


def refuse_newer(revision: str | None) -> None:
    """Make sure that this program has the schema revision.

    Raises:
        SchemaMismatch: it does not.
    """
    if revision is None:
        return
    try:
        ScriptDirectory.from_config(_config()).get_revision(revision)
    except CommandError as error:
        raise SchemaMismatch(
            f"the catalog has schema {revision}, which is newer than this program's {head()}; "
            f"upgrade trustvlm"
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    return config
