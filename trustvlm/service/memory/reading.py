"""One call's reading of a space: the state in memory, and a transaction only where one is
needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection

from trustvlm.service.memory.space_cache import KeptState

T = TypeVar("T")


class Reading:
    """What one call reads, all of it at one state of the catalog. Used by one thread.

    Args:
        state: the space. begin: gives a transaction at exactly that state.
    """

    def __init__(self, state: KeptState, begin: Callable[[], Connection]) -> None:
        self.view, self.memo = state.view, state.memo
        self._values, self._begin = state.values, begin
        self._connection: Connection | None = None

    @property
    def connection(self) -> Connection:
        """The call's transaction, begun when it is first asked for."""
        if self._connection is None:
            self._connection = self._begin()
        return self._connection

    def once(self, what: str, read: Callable[[], T]) -> T:
        """The value of `read()` for this state, kept under the name `what` for all calls that read
        this state; the first one that needs it calls `read`."""
        if what not in self._values:
            self._values[what] = read()
        value: T = self._values[what]
        return value
