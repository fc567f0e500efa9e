"""Creates and upgrades the tables. Alembic, over migrations/, is the only creator of tables, in
tests too.

Importing Alembic takes a quarter of a second, so it is imported where it has work to do: each file
of migrations/versions begins with its revision, and so opening a catalog needs only their names.
"""

from __future__ import annotations

import functools
import threading

from sqlalchemy import Connection, inspect, text
from sqlalchemy.exc import IntegrityError

from trustvlm.catalog.store import side_models  # noqa: F401
from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.store.models import Base
from trustvlm.errors import Damaged, SchemaMismatch
from trustvlm.system.resources import folder

# Alembic's `context` and `op` belong to the process: threads must take turns.
_ALEMBIC = threading.Lock()
_COMPARED: dict[tuple[tuple[str, ...], ...], list[str]] = {}
"""The statements of the catalog that was compared last → :func:`drift`."""


def head() -> str:
    """The newest schema revision that this program knows."""
    return _revisions()[-1]


def current(connection: Connection) -> str | None:
    """The catalog's schema revision; None for a file without tables."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def upgrade(connection: Connection, revision: str | None = None) -> None:
    """Bring the catalog to a `revision`, or to :func:`head`, inside the caller's transaction.

    Raises:
        SchemaMismatch: it is newer than this program, or holds the tables of something else.
    """
    refuse_newer(current(connection))
    if current(connection) is None and (foreign := inspect(connection).get_table_names()):
        raise SchemaMismatch(
            f"there are tables of something else ({', '.join(foreign[:5])}); choose another "
            f"home or schema"
        )
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(folder("migrations")).replace("%", "%%"))
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, revision or "head")
    if (finish := database_of(connection).after_upgrade) is not None:
        finish(connection)


def check(connection: Connection, remedy: str) -> None:
    """Make sure that this program and the catalog mean the same tables. `remedy` is the command
    that upgrades an older catalog.

    Raises:
        SchemaMismatch: older (the message names the command that upgrades it) or newer.
    """
    revision = current(connection)
    refuse_newer(revision)
    if revision != head():
        raise SchemaMismatch(
            f"the catalog has schema {revision or 'none'}, this program needs {head()}; run "
            f"'{remedy}'"
        )


def drift(connection: Connection) -> list[str]:
    """Where tables, columns or indexes are not what this program's models say. The comparison takes
    0.1 s, so its result is kept for catalogs in SQLite files that hold the same statements."""
    if connection.dialect.name != "sqlite":
        return _differences(connection)
    statements = text("SELECT type, name, sql FROM sqlite_master ORDER BY type, name")
    key = tuple(map(tuple, connection.execute(statements)))
    if (differences := _COMPARED.get(key)) is None:
        differences = _differences(connection)
        _COMPARED.clear()
        _COMPARED[key] = differences
    return [*differences]


def _differences(connection: Connection) -> list[str]:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

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
    if revision is not None and revision not in _revisions():
        raise SchemaMismatch(
            f"the catalog has schema {revision}, which is newer than this program's {head()}; "
            f"upgrade trustvlm"
        )


@functools.cache
def _revisions() -> list[str]:
    """The schema revisions that this program knows, oldest first."""
    files = (folder("migrations") / "versions").glob("[0-9]*_*.py")
    return sorted(file.name.partition("_")[0] for file in files)
