"""The numbers of labels and support images of spaces, remembered by revision: counting a large
space for every look at it would take long."""

from __future__ import annotations

import threading

from sqlalchemy import Connection

from trustvlm.catalog.rows import counts
from trustvlm.catalog.rows.counts import Counts
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge


class CountMemo:
    """The last counts of each space of one catalog."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[str, int, Counts]] = {}
        self._guard = threading.Lock()

    def forget(self) -> None:
        """Count all spaces again."""
        with self._guard:
            self._last.clear()

    def of(self, connection: Connection, epoch: str, space: SpaceRecord) -> Counts:
        """The counts of a space at the revision that its row has, which the connection sees."""
        last: Counts | None
        with self._guard:
            of_epoch, revision, last = self._last.get(space.id, ("", 0, None))
        if of_epoch != epoch or revision > space.revision:
            last = None
        if last is not None and revision == space.revision:
            return last
        current: Counts | None = None
        if last is not None and not purge.lost_since(connection, space.id, revision):
            current = counts.grown(connection, space.id, last, revision)
        if current is None:
            current = counts.count(connection, space.id)
        with self._guard:
            newest = self._last.get(space.id)
            if newest is None or newest[0] != epoch or newest[1] < space.revision:
                self._last[space.id] = (epoch, space.revision, current)
        return current
