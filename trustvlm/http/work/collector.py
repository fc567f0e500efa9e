"""Puts scored images into review queues, beside the requests: no answer waits for it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from trustvlm.errors import TrustVLMError
from trustvlm.http.wire.problems import kind_of
from trustvlm.http.work.batches import SIDES, joined
from trustvlm.service.server.server_home import ServerHome
from trustvlm.system.background import Failures
from trustvlm.types import Queries

log = logging.getLogger("trustvlm.http")

MOST_ROWS = 8_192
"""Images that may wait, some tens of megabytes; more of them are left out."""
_GATHER_S = 0.25
_GATHER_ROWS = 512

Rows = Sequence[Mapping[str, Any]]


class _Part(NamedTuple):
    """The images of a request, and their verdicts as JSON holds them."""

    space: str
    queries: Queries
    rows: Rows


class Collector:
    """One thread that stores what was offered, several requests in one transaction.

    Nothing that it holds was promised to a client: where the process is killed, what was offered
    within the last fraction of a second is lost, whatever its verdict.
    """

    name = "review"

    def __init__(self, home: ServerHome) -> None:
        self._home = home
        self._waiting: list[_Part] = []
        self._changed = threading.Condition()
        self._closed = False
        self._left_out = 0
        self._failures = Failures(log, "storing images for review")
        self._thread = threading.Thread(target=self._work, name="trustvlm-review", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Images that wait."""
        return sum(len(part.rows) for part in self._waiting)

    def offer(self, space: str, queries: Queries, rows: Rows) -> None:
        """Store these images soon, if there is room for them."""
        with self._changed:
            if self.depth + len(rows) > MOST_ROWS:
                self._left_out += len(rows)
            else:
                self._waiting.append(_Part(space, queries, rows))
                self._changed.notify()

    def close(self) -> None:
        """Store what waits, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                gather_s = max(_GATHER_S, self._failures.pause_s)
                self._changed.wait_for(self._has_enough, gather_s)
                parts, self._waiting = self._waiting, []
                left_out, self._left_out = self._left_out, 0
                closed = self._closed
            if left_out:
                log.warning(
                    "%d images came faster than the review queue stores them, and are not in it",
                    left_out,
                )
            with self._failures.logged():
                self._store(parts)
            if closed and not parts:
                return

    def _has_enough(self) -> bool:
        return self._closed or self.depth >= _GATHER_ROWS

    def _store(self, parts: Sequence[_Part]) -> None:
        groups: dict[tuple[str, ...], list[_Part]] = {}
        for part in parts:
            sides = [name for name in SIDES if getattr(part.queries, name) is not None]
            groups.setdefault((part.space, *sides), []).append(part)
        for (space, *_), group in groups.items():
            rows = [row for part in group for row in part.rows]
            try:
                self._home.collect(space, joined([part.queries for part in group]), rows)
            except TrustVLMError as error:  # no request waits for it
                extra = {"space": space, "error": kind_of(error)}
                log.warning("images for review are not stored: %s", error, extra=extra)
