"""The one background thread of a service: it refits spaces that changed, once they are quiet."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Damaged, TrustVLMError
from trustvlm.service.memory.support_fit import refit, renew
from trustvlm.system.background import Failures
from trustvlm.types.thresholds import Thresholds

log = logging.getLogger("trustvlm")

_FAILED = "the support images of space %s were not refitted: %s"


class BackgroundFit:
    """Refits spaces in the background. Safe to use from several threads; the thread starts with the
    first request."""

    def __init__(self, catalog: Catalog, thresholds: Thresholds) -> None:
        self._catalog, self._thresholds = catalog, thresholds
        self._waiting: dict[str, tuple[float, float]] = {}  # space name → (due, at the latest)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._failures = Failures(log, "refitting in the background")

    def supports_changed(self, connection: Connection, space: SpaceRecord, revision: int) -> None:
        """Refit a small space in this transaction, which made `revision`; a larger one soon.

        A damaged support image of another label does not keep a change from being made: the next
        query names the damage.
        """
        try:
            if not renew(connection, space, revision, self._thresholds):
                self.request(space.name)
        except Damaged as error:
            log.warning(_FAILED, space.name, error)

    def request(self, space: str) -> None:
        """Refit the space `space` soon; asking again puts it off a little."""
        if self._catalog.read_only:
            return
        now = time.monotonic()
        due, latest = now + self._thresholds.fit_quiet_s, now + self._thresholds.fit_patience_s
        with self._changed:
            latest = self._waiting.get(space, (0.0, latest))[1]
            self._waiting[space] = (min(due, latest), latest)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="trustvlm-fit", daemon=True)
                self._thread.start()
            self._changed.notify()

    def refit(self, space: str) -> None:
        """Refit the space `space` now, in the caller's thread."""
        refit(self._catalog, space, self._thresholds)

    def close(self) -> None:
        """Do what is waiting, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread.is_alive():  # not so in the child of a fork
            self._thread.join()

    def _run(self) -> None:
        while (space := self._next()) is not None:
            with self._failures.logged():
                try:
                    self.refit(space)
                except TrustVLMError as error:
                    log.warning(_FAILED, space, error)

    def _next(self) -> str | None:
        """The next space, when it is due; None when closing and nothing waits."""
        with self._changed:
            while self._waiting or not self._closing:
                if not self._waiting:
                    self._changed.wait()
                    continue
                space = min(self._waiting, key=lambda name: self._waiting[name][0])
                due_in = self._waiting[space][0] - time.monotonic()
                left = max(due_in, self._failures.pause_s)
                if left <= 0 or self._closing:
                    del self._waiting[space]
                    return space
                self._changed.wait(left)
        return None
