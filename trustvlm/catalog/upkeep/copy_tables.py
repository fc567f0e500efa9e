"""Copies of catalogs from one database to another, table by table.

Everything is copied as it is: ids, revisions, vectors to the bit, and which ids come next. Only the
epoch is new: from here on the two catalogs have histories of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import JSON, Connection, DateTime, func, select
from sqlalchemy.engine import Dialect
from sqlalchemy.types import TypeDecorator

from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.backend import open_backend
from trustvlm.catalog.store.backends.database import CHANGE, database_of
from trustvlm.catalog.store.bulk import insert_rows, table_of
from trustvlm.catalog.store.location import FileLocation, Location
from trustvlm.catalog.store.models import Base
from trustvlm.catalog.upkeep.copy_catalog import renew_epoch
from trustvlm.errors import Conflict
from trustvlm.system.durable import make_folder
from trustvlm.system.signals import unbroken

__all__ = ["copy_tables"]

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
        if schema.current(new) is not None:
            raise Conflict(f"{target}: a catalog is there; copy to another place")
        schema.upgrade(new)
        total, done = sum(_count(old, model) for model in _models()), 0
        for model in _models():
            for rows in _chunks(old, model, new.dialect):
                insert_rows(new, model, rows)
                done += len(rows)
                if progress is not None:
                    progress(min(done, total), total)
        counted = [table.name for table in Base.metadata.tables.values() if _counts_up(table)]
        database_of(new).set_last_ids(new, database_of(old).last_ids(old, counted))
        renew_epoch(new)
    return done


@contextmanager
def _reading(location: Location) -> Iterator[Connection]:
    backend = open_backend(location, read_only=True)
    try:
        with backend.translated(), backend.engine.connect() as connection, connection.begin():
            schema.check(connection, location.command("db upgrade"))
            yield connection
    finally:
        backend.engine.dispose()


@contextmanager
def _making(location: Location) -> Iterator[Connection]:
    if isinstance(location, FileLocation):
        make_folder(location.path.parent)
    backend = open_backend(location, create=True)
    try:
        with (
            unbroken(),
            backend.translated(),
            backend.engine.connect().execution_options(**{CHANGE: "schema"}) as connection,
            connection.begin(),
        ):
            yield connection
    finally:
        backend.engine.dispose()


def _models() -> list[type[Base]]:
    """The tables, each after those that it refers to."""
    by_table = {mapper.local_table: mapper.class_ for mapper in Base.registry.mappers}
    return [by_table[table] for table in Base.metadata.sorted_tables]


def _counts_up(table: Any) -> bool:
    """Whether the database gives the ids of a table's rows."""
    return bool(table.kwargs.get("sqlite_autoincrement"))


def _count(connection: Connection, model: type[Base]) -> int:
    return connection.scalar(select(func.count()).select_from(model)) or 0


def _chunks(
    connection: Connection, model: type[Base], dialect: Dialect
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table in the order of their keys, with values that the driver of `dialect`
    takes as they are."""
    table = table_of(model)
    stored = {column.name: _storing(column.type, dialect) for column in table.columns}
    query = select(table).order_by(*table.primary_key.columns)
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
