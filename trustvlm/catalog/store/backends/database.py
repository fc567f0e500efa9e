"""What a database does in a way of its own within a transaction; its engine hands it on to every
connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, SQLColumnExpression, Table

CHANGE = "change"
AUTHOR = "author"
"""Execution option of a connection to a catalog: the kind of change that its transaction makes (one
of :data:`trustvlm.system.fault_points.CHANGES`), which begins it as a write transaction."""

DATABASE = "database"
"""Execution option of a connection to a catalog: its :class:`Database`."""

HISTORY = "trustvlm-history"
"""Key of a connection's `info`: which of the histories that its server went through it reads;
absent where there is but one."""


MOST_PROBLEMS = 100
"""What a database finds wrong with itself that is reported."""


@dataclass(frozen=True)
class Database:
    """What differs between databases where no statement of SQLAlchemy hides it.

    Attributes:
        name: of its kind.
        problems: what it finds wrong with its own files and indexes, up to :data:`MOST_PROBLEMS`.
        broken_references: (table, row id, table that it points into) of each reference that points
            to nothing.
        indexes: the names of those that can be rebuilt. rebuild_index: rebuilds one from its table,
            or drops it where damaged rows break its uniqueness.
        last_ids: the highest id that each of some tables ever gave, 0 for none. set_last_ids: makes
            the next ones higher than these.
        among: the condition that a column has one of many values.
        insert_many: inserts many rows of some columns of a table; None where statements are the
            fastest way.
        insert_few: inserts a few rows of some columns of a table and gives their ids, in one round
            trip; None where a second statement for them costs nothing.
        after_upgrade: what is done to tables that migrations have made or changed.
    """

    name: str
    problems: Callable[[Connection], list[str]]
    broken_references: Callable[[Connection], Iterator[tuple[str, int, str]]]
    indexes: Callable[[Connection], list[str]]
    rebuild_index: Callable[[Connection, str], None]
    last_ids: Callable[[Connection, Sequence[str]], dict[str, int]]
    set_last_ids: Callable[[Connection, Mapping[str, int]], None]
    among: Callable[[SQLColumnExpression[Any], Sequence[Any]], ColumnElement[bool]]
    insert_many: (
        Callable[[Connection, Table, Sequence[str], Iterable[Sequence[Any]]], None] | None
    ) = None
    after_upgrade: Callable[[Connection], None] | None = None
    insert_few: (
        Callable[[Connection, Table, Sequence[str], Sequence[Sequence[Any]]], list[int]] | None
    ) = None


def database_of(connection: Connection) -> Database:
    """The database that a connection to a catalog belongs to."""
    database: Database = connection.get_execution_options()[DATABASE]
    return database
