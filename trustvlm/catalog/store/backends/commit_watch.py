"""Tells whether anything was committed, without reading a row."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Hashable

from sqlalchemy import Engine, PoolProxiedConnection
from sqlalchemy.pool import NullPool


class CommitWatch:
    """A connection that never writes, kept to ask the database for a value that changes when any
    other connection, of this process or another, commits. Safe to use from several threads.

    Args:
        value: asks for it. Values of two connections cannot be compared.
    """

    def __init__(self, engine: Engine, value: Callable[[PoolProxiedConnection], Hashable]) -> None:
        self._engine, self._value = engine, value
        self._opened = itertools.count()
        self._serial = -1
        self._kept: PoolProxiedConnection | None = None
        self._lock = threading.Lock()

    def version(self) -> tuple[int, Hashable] | None:
        """Equal for two calls only if nothing was committed between them; None where connections
        are opened for one transaction each, and nothing can be compared."""
        if isinstance(self._engine.pool, NullPool):
            return None
        with self._lock:
            try:
                if self._kept is None:
                    self._kept, self._serial = self._engine.raw_connection(), next(self._opened)
                    self._kept.detach()  # the pool does not count it
                value = self._value(self._kept)
            except BaseException:  # an interrupted statement may hold an old state
                self._drop()
                raise
            return self._serial, value

    def close(self) -> None:
        """Close the connection; the next call of :meth:`version` opens another one."""
        if self._lock.acquire(timeout=1):  # in the child of a fork it may be held for ever
            try:
                self._drop()
            finally:
                self._lock.release()

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
