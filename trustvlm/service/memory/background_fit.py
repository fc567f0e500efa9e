"""The one background thread of a service: it refits spaces that changed, once they are quiet."""

from __future__ import annotations

import logging
import threading
import time

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Damaged, TrustVLMError
from trustvlm.service.memory.evidence_fit import refit, renew
from trustvlm.service.memory.evidence_fit_record import FitSample

__all__ = ["Fitter"]

log = logging.getLogger("trustvlm")

QUIET_S = 0.25
PATIENCE_S = 5.0
"""A space is refitted when it was left alone for so long, or has waited for so long."""


class Fitter:
    """Refits spaces in the background. Safe to use from several threads; the thread starts with the
    first request."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: dict[str, tuple[float, float]] = {}  # space name → (due, at the latest)
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._samples: dict[int, FitSample] = {}  # space id → what its last fit here looked at

    def sample(self, space_id: int) -> FitSample | None:
        """What the last fit of a space that this thread stored looked at."""
        return self._samples.get(space_id)

    def supports_changed(self, connection: Connection, space: SpaceRecord, revision: int) -> None:
        """Refit a small space in this transaction, which made `revision`; a larger one soon.

        A damaged support image of another label does not keep a change from being made: the next
        query names the damage.
        """
        try:
            small = renew(connection, space, revision)
        except Damaged as error:
            log.warning("the support images of space %s were not refitted: %s", space.name, error)
            return
        if not small:
            self.request(space.name)

    def request(self, space: str) -> None:
        """Refit the space `space` soon; asking again puts it off a little."""
        if self._catalog.read_only:
            return
        now = time.monotonic()
        with self._changed:
            latest = self._waiting.get(space, (0.0, now + PATIENCE_S))[1]
            self._waiting[space] = (min(now + QUIET_S, latest), latest)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="trustvlm-fitter", daemon=True
                )
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Do what is waiting, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None and self._thread.is_alive():  # it is not in the child of a fork
            self._thread.join()

    def _run(self) -> None:
        while (space := self._next()) is not None:
            try:
                if (looked_at := refit(self._catalog, space)) is not None:
                    self._samples |= [looked_at]
            except TrustVLMError as error:
                log.warning("the support images of space %s were not refitted: %s", space, error)

    def _next(self) -> str | None:
        """The next space, when it is due; None when closing and nothing waits."""
        with self._changed:
            while True:
                if not self._waiting:
                    if self._closing:
                        return None
                    self._changed.wait()
                    continue
                space = min(self._waiting, key=lambda name: self._waiting[name][0])
                left = self._waiting[space][0] - time.monotonic()
                if left <= 0 or self._closing:
                    del self._waiting[space]
                    return space
                self._changed.wait(left)
