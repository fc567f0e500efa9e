"""A catalog in a schema of a PostgreSQL server, which processes of many machines open."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import psycopg
from sqlalchemy import Connection, event, func, select

from trustvlm.catalog.store import postgres
from trustvlm.catalog.store.backends import server_rewrite
from trustvlm.catalog.store.backends.commit_watch import CommitWatch
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.catalog.store.models import Base
from trustvlm.errors import NotFound
from trustvlm.types.backups import Scrubbed
from trustvlm.types.messages.commands import suggested

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
                    return server_rewrite.rewrite(driver)
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
