"""One call's reading of a space: the state in memory, and a transaction only where one is
needed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import Connection

from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.space_memo import SpaceMemo

__all__ = ["Reading", "SpaceState"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SpaceState:
    """A space at one state of the catalog.

    Attributes:
        name: the space's name as the call spelled it. version: of the catalog, see
            :meth:`Catalog.version`; None where it is not comparable.
        view: the space. memo: what was computed of it, at any revision.
        values: what was computed from this state, by the name of the value.
    """

    name: str
    version: Hashable
    view: SpaceView
    memo: SpaceMemo
    values: dict[str, Any] = field(default_factory=dict)


class Reading:
    """What one call reads, all of it at one state of the catalog. Used by one thread.

    Args:
        state: the space. begin: gives a transaction at exactly that state.
    """

    def __init__(self, state: SpaceState, begin: Callable[[], Connection]) -> None:
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
