"""A catalog in a schema of a PostgreSQL server, which processes of many machines open."""

from __future__ import annotations

import re
from contextlib import AbstractContextManager
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier
from sqlalchemy import Connection, event, func, select

from trustvlm.catalog.store import postgres
from trustvlm.catalog.store.backends.commit_watch import CommitWatch
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.catalog.store.models import Base
from trustvlm.errors import Busy, NotFound
from trustvlm.types.backups import Scrubbed
from trustvlm.types.messages.commands import suggested

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""
_STILL_SEEN = re.compile(r"\d+")  # how many deleted rows: the first number of what VACUUM details
_REMAINS = (
    "the server's log keeps purged bytes until it reuses its files; archives of it, backups and "
    "standbys keep them longer"
)
_IS_THERE = select(func.to_regclass("alembic_version").is_not(None))


class ServerBackend:
    """See :class:`trustvlm.catalog.store.backends.backend.Backend`."""

    def __init__(self, location: ServerLocation, *, read_only: bool, create: bool) -> None:
        self._location = location
        self.engine = postgres.make_engine(location)
        self._watch = CommitWatch(self.engine, _snapshot)
        event.listen(self.engine, "engine_disposed", lambda _: self._watch.close())
        if not create:
            self._require()

    def _require(self) -> None:
        with self.translated(), self.engine.connect() as connection:
            if connection.scalar(_IS_THERE):
                return
        self.engine.dispose()
        raise NotFound(
            f"no catalog in {self._location}; {suggested('db create')} makes one "
            f"(in Python: create=True)"
        )

    def check(self, connection: Connection, *, committed: bool = False) -> None:
        """A server does not confuse its databases: a connection is always one of the catalog that
        was opened."""

    def translated(self) -> AbstractContextManager[None]:
        """See :func:`trustvlm.catalog.store.postgres.translated`."""
        return postgres.translated(self._location)

    def version(self) -> tuple[int, Any] | None:
        """See :meth:`CommitWatch.version`. A connection that was lost is opened again, once."""
        try:
            return self._watch.version()
        except psycopg.OperationalError:
            return self._watch.version()

    def reclaim(self, *, wait: bool, rewrite: bool = False) -> Scrubbed | None:
        """VACUUM, with `wait`; otherwise the server does it in its own time. Bytes of deleted rows
        stay in its files until others take their place, or until `rewrite` writes them again."""
        if not wait:
            return None
        names = ", ".join(sorted(Base.metadata.tables))
        with self.translated():
            connection = self.engine.raw_connection()
            try:
                driver: Any = connection.driver_connection
                if rewrite:
                    return _rewrite(driver)
                driver.execute(f"VACUUM {names}")
                return None
            finally:
                connection.close()


def _snapshot(connection: Any) -> str:
    """Which transactions this statement sees, as text: the ends of the range of those that are
    under way, and those within. Every commit changes it."""
    try:
        [text] = connection.cursor().execute("SELECT pg_current_snapshot()::text").fetchone()
    except psycopg.Error:
        postgres.end(connection)
        raise
    return str(text)


def _rewrite(connection: psycopg.Connection[Any]) -> Scrubbed:
    """Rewrite all tables, one after the other; no process reads or writes a table meanwhile. Then
    let the server begin another file of its log, where the role may.

    Raises:
        Busy: a transaction still sees rows that were deleted, so that they are in the new files,
            too. psycopg.Error: another one.
    """
    refused: list[str] = []
    seen: list[str] = []

    def notice(said: psycopg.errors.Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            refused.append(str(said.message_primary))
        elif said.message_detail and (number := _STILL_SEEN.match(said.message_detail)):
            seen.extend([number[0]] if int(number[0]) else [])

    before = _size(connection)
    connection.add_notice_handler(notice)
    try:
        for table in sorted(Base.metadata.tables):
            statement = SQL("VACUUM (FULL, VERBOSE, ANALYZE) {}").format(Identifier(table))
            connection.execute(statement)
    finally:
        connection.remove_notice_handler(notice)
    if seen:
        raise Busy(
            "the tables were rewritten, but a transaction still sees rows that were deleted, so "
            "their bytes are in the new files; end it and scrub again"
        )
    return Scrubbed(before, _size(connection), _switched(connection), (*refused, _REMAINS))


def _size(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_SIZE).fetchone()
    assert row is not None
    return int(row[0])


def _switched(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server began another file of its log; a plain role may not ask for that."""
    try:
        connection.execute("SELECT pg_switch_wal()")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
