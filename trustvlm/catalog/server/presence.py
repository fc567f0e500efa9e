"""Which processes use a catalog on a server: each holds a lock there, which ends with its session,
and so with the process or its machine."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import psycopg
from sqlalchemy import PoolProxiedConnection

from trustvlm.catalog.store import postgres
from trustvlm.catalog.store.location import ServerLocation


class Presence:
    """A process that holds a lock on the server until :meth:`close`, see
    :class:`trustvlm.service.server.workers.Worker`. Safe to use from several threads.

    A server that was restarted has forgotten all locks: :meth:`hold` takes this one again.
    """

    sure_s = 15.0  # three times as long as it takes a process to look for its lock

    def __init__(self, location: ServerLocation) -> None:
        self._location, self._name = location, str(uuid.uuid4())
        self._engine = postgres.make_engine(replace(location, pool=1))
        self._session: PoolProxiedConnection | None = None
        self._guard = threading.Lock()
        self.hold()

    @property
    def id(self) -> str:
        """Under which work is stored from now on, while the lock is held."""
        self.hold()
        return self._name

    def hold(self) -> None:
        """Make sure that this process holds its lock. Raises Unavailable, Busy."""
        with self._guard, postgres.translated(self._location):
            self._ask("SELECT true")

    def alive(self, worker: str) -> bool:
        """Whether the process of this id still runs. Raises Unavailable."""
        if worker == self._name:
            return True
        key = postgres.lock_key(self._location, worker)
        with self._guard, postgres.translated(self._location):
            if not self._ask(f"SELECT pg_try_advisory_lock_shared({key})"):
                return True
            self._ask(f"SELECT pg_advisory_unlock_shared({key})")
            return False

    def close(self) -> None:
        """Give up the lock."""
        with self._guard:
            if self._session is not None:
                with suppress(psycopg.Error):  # the session's end would take it some time later
                    self._answer("SELECT pg_advisory_unlock_all() IS NULL")
            self._drop()
            self._engine.dispose()

    def _ask(self, query: str) -> bool:
        """The answer to a query, in the session that holds the lock; in a new one where that has
        ended."""
        try:
            return self._answer(query)
        except psycopg.OperationalError:
            return self._answer(query)

    def _answer(self, query: str) -> bool:
        try:
            if self._session is None:
                self._session = self._engine.raw_connection()
                self._session.detach()
                key = postgres.lock_key(self._location, self._name)
                self._session.cursor().execute(f"SELECT pg_advisory_lock({key})")
            cursor = self._session.cursor()
            cursor.execute(query)
            return bool(cursor.fetchall()[0][0])
        except psycopg.Error:
            self._drop()
            raise

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            postgres.end(session)


@contextmanager
def alone(location: ServerLocation, name: str) -> Iterator[bool]:
    """Whether this process is the only one that does what `name` says, within the block."""
    engine = postgres.make_engine(replace(location, pool=1))
    key = postgres.lock_key(location, name)
    with postgres.translated(location):
        session = engine.raw_connection()
        session.detach()
        cursor = session.cursor()
    try:
        with postgres.translated(location):
            cursor.execute(f"SELECT pg_try_advisory_lock({key})")
            is_alone = bool(cursor.fetchall()[0][0])
        yield is_alone
    finally:
        with suppress(psycopg.Error):  # the session's end would take the lock some time later
            cursor.execute("SELECT pg_advisory_unlock_all() IS NULL")
        postgres.end(session)
        engine.dispose()
