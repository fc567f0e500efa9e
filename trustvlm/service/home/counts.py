"""What a space has, remembered by revision: counting a large one anew for every look at it would
take long."""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from trustvlm.catalog.rows import counts
from trustvlm.catalog.rows.counts import Counts
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge

__all__ = ["CountMemo"]


class CountMemo:
    """The last counts of each space of one catalog."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[str, int, Counts]] = {}
        self._guard = threading.Lock()

    def forget(self) -> None:
        """Count all anew."""
        with self._guard:
            self._known.clear()

    def of(self, connection: Connection, epoch: str, space: SpaceRecord) -> Counts:
        """The counts of a space at the revision that its row has, which the connection sees."""
        with self._guard:
            known = self._known.get(space.id)
        found: Counts | None = None
        if known is not None and known[0] == epoch:
            if known[1] == space.revision:
                return known[2]
            if known[1] < space.revision and not purge.lost_since(connection, space.id, known[1]):
                found = counts.grown(connection, space.id, known[2], known[1])
        if found is None:
            found = counts.count(connection, space.id)
        with self._guard:
            now = self._known.get(space.id)
            if now is None or now[0] != epoch or now[1] < space.revision:
                self._known[space.id] = (epoch, space.revision, found)
        return found
