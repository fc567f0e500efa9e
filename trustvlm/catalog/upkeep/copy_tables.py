"""Copies of catalogs from one database to another, table by table.

Everything is copied as it is: ids, revisions, vectors to the bit, and which ids come next. A copy
that is to be used beside the original has a new epoch: from here on the two catalogs have histories
of their own.

Steps of the schema only add tables and columns, so what this program's tables and those of an older
catalog have in common is all that the older one has; it is refused where that is not so.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, func, inspect, select
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.backend import changing_schema, open_backend
from trustvlm.catalog.store.backends.database import database_of
from trustvlm.catalog.store.bulk import insert_rows, table_of
from trustvlm.catalog.store.location import FileLocation, Location, ServerLocation
from trustvlm.catalog.store.models import Base
from trustvlm.catalog.upkeep.copy_catalog import disown_originals, renew_epoch
from trustvlm.errors import Conflict, Damaged
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import make_folder

Progress = Callable[[int, int], None]

_ROWS = 1_000
"""Rows that are in memory at once."""


def copy_tables(source: Location, target: Location, progress: Progress | None = None) -> int:
    """Copy the catalog `source`, as it is at one moment, to a new one at `target`; how many rows.

    The new catalog appears complete, in one transaction. Others may read and write the source
    meanwhile.

    Args:
        progress: called with (rows done, rows in all).

    Raises:
        NotFound: there is no source. SchemaMismatch: the source is older or newer than this
            program. Conflict: there is a catalog at the target. Busy, Damaged, Unavailable: one of
            the two cannot be read or written.
        InvalidInput: the source holds a text that the target cannot hold.
    """
    with _reading(source) as old, _making(target) as new:
        schema.check(old, source.command("db upgrade"))
        if schema.current(new) is not None:
            raise Conflict(f"{target}: a catalog is there; copy to another place")
        done = _fill(old, new, progress)
        renew_epoch(new)
        disown_originals(new)
    return done


def copy_as_it_is(source: Location, target: Location) -> int:
    """Copy a catalog for a backup, see :func:`copy_tables`: the copy keeps the epoch, and the
    schema where that is older."""
    with _reading(source) as old, _making(target) as new:
        return _fill(old, new)


def replace_tables(source: Location, target: ServerLocation) -> str:
    """Copy the catalog `source`, of this program's schema, into the place of the one at `target`,
    in one transaction; the name of the schema that holds the replaced one from then on.

    Raises:
        Busy: another process has the catalog at `target` open. Unavailable: the role may not make
            or rename a schema.
        InvalidInput: the source holds a text that the target cannot hold.
    """
    from trustvlm.catalog.store.backends import server_schema  # needs the driver of PostgreSQL

    made = server_schema.beside(target)
    with _reading(source) as old, _making(made) as new:
        _fill(old, new)
        renew_epoch(new)
        disown_originals(new)
        aside = server_schema.put_in_place(new, made, target)
        reached("restore.aside")
    return aside


def _fill(old: Connection, new: Connection, progress: Progress | None = None) -> int:
    """Make the tables that `old` has, with its rows; how many."""
    revision = schema.current(old)
    schema.refuse_newer(revision)
    schema.upgrade(new, revision)
    columns = _columns(old)
    models = [model for model in _models() if table_of(model).name in columns]
    total, done = sum(_count(old, model) for model in models), 0
    for model in models:
        for rows in _chunks(old, model, columns[table_of(model).name], new.dialect):
            insert_rows(new, model, rows)
            done += len(rows)
            if progress is not None:
                progress(min(done, total), total)
    counted = [table_of(model).name for model in models if _counts_up(table_of(model))]
    database_of(new).set_last_ids(new, database_of(old).last_ids(old, counted))
    return done


def _columns(connection: Connection) -> dict[str, frozenset[str]]:
    """Table → the columns that it has, of all tables of a catalog.

    Raises:
        Damaged: a table or a column that no catalog of this program or an earlier one has.
    """
    columns_of = {
        table.name: {column.name for column in table.columns}
        for table in Base.metadata.sorted_tables
    }
    columns_there = {
        table: frozenset(column["name"] for column in inspect(connection).get_columns(table))
        for table in inspect(connection).get_table_names()
        if table != "alembic_version"
    }
    for table, columns in columns_there.items():
        if foreign := sorted(columns - columns_of.get(table, set())):
            raise Damaged(
                f"the table {table} has the column {foreign[0]}, which is none of a catalog; take "
                f"it away, or copy the catalog with the database's own tools"
            )
    return columns_there


@contextmanager
def _reading(location: Location) -> Iterator[Connection]:
    backend = open_backend(location, read_only=True)
    try:
        with backend.translated(), backend.engine.connect() as connection, connection.begin():
            yield connection
    finally:
        backend.engine.dispose()


@contextmanager
def _making(location: Location) -> Iterator[Connection]:
    if isinstance(location, FileLocation):
        make_folder(location.path.parent)
    with changing_schema(location) as connection:
        yield connection


def _models() -> list[type[Base]]:
    """The classes of the tables, each after those that it refers to."""
    by_table = {mapper.local_table: mapper.class_ for mapper in Base.registry.mappers}
    return [by_table[table] for table in Base.metadata.sorted_tables]


def _counts_up(table: Any) -> bool:
    """Whether the database gives the ids of a table's rows."""
    return bool(table.kwargs.get("sqlite_autoincrement"))


def _count(connection: Connection, model: type[Base]) -> int:
    return connection.scalar(select(func.count()).select_from(model)) or 0


def _chunks(
    connection: Connection, model: type[Base], names: Collection[str], dialect: Dialect
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in the order of their keys, of the columns `names`, with values that the
    driver of `dialect` takes as they are."""
    table = table_of(model)
    columns = [column for column in table.columns if column.name in names]
    stored = {column.name: _storing(column.type, dialect) for column in columns}
    query = select(*columns).order_by(*table.primary_key.columns)
    rows = connection.execute(query.execution_options(yield_per=_ROWS))
    for some in rows.partitions():
        yield [{name: stored[name](value) for name, value in row._mapping.items()} for row in some]


def _storing(kind: Any, dialect: Dialect) -> Callable[[Any], Any]:
    """What makes of a value the one that a driver takes: of JSON and times, whose forms differ."""
    plain = kind.impl if isinstance(kind, TypeDecorator) else kind
    processor = None
    if isinstance(plain, JSON | DateTime):
        processor = kind.dialect_impl(dialect).bind_processor(dialect)
    return processor or (lambda value: value)
