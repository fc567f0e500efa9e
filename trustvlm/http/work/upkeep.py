"""What a serving process does every few seconds, whether requests come or not: it shows that it is
alive, and ends the jobs of processes that are not."""

from __future__ import annotations

import logging
from threading import Event, Thread

from trustvlm.errors import TrustVLMError
from trustvlm.service.server.server_home import ServerHome
from trustvlm.service.server.workers import HOLD_EVERY_S, Worker
from trustvlm.system.background import Failures

log = logging.getLogger("trustvlm.http")

SWEEP_EVERY_S = 3600.0


class Upkeep:
    """One thread, from the start of a process to its end, or until its service is closed.
    `every_s`: how often it looks."""

    def __init__(self, home: ServerHome, worker: Worker, every_s: float = HOLD_EVERY_S) -> None:
        self._home, self._worker, self._every_s = home, worker, every_s
        self._gone: dict[str, float] = {}
        self._is_away = False
        self._failures = Failures(log, "looking after jobs and workers")
        self._closing = Event()
        self._look()
        self._thread = Thread(target=self._run, name="trustvlm-upkeep", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread still looks."""
        return self._thread.is_alive()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        looks = 0
        while not self._closing.wait(max(self._every_s, self._failures.pause_s)):
            if self._home.is_closed:
                return
            looks += 1
            with self._failures.logged():
                self._look()
                if looks % round(SWEEP_EVERY_S / self._every_s) == 0:
                    self._home.sweep()

    def _look(self) -> None:
        """Hold the own lock, drop calls that were given up, and end the jobs of the dead. While the
        catalog is away: say so once, and begin to count again when it is back, since all locks were
        lost with its server."""
        try:
            self._worker.hold()
            self._home.drop_calls()
            orphans = self._home.end_orphans(self._worker, self._gone)
        except TrustVLMError as error:
            if not self._is_away and not self._home.is_closed:
                log.warning("the catalog cannot be used: %s", error)
            self._is_away = True
            self._gone.clear()
            return
        if self._is_away:
            log.info("the catalog can be used again")
        self._is_away = False
        for job in orphans:
            log.warning("a job of a process that has died is failed", extra={"job": job})
