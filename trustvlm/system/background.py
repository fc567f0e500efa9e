"""Work that no caller waits for: an error of it that was not expected is logged, and the next piece
of work is done after a pause."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0


class Failures:
    """The failures of one piece of background work, such as a thread's loop.

    An error that comes for the first time is logged with its traceback, the same error again in one
    line. After an error the work pauses: a second, twice as long after each further error in a row,
    a minute at most.

    Args:
        log: where the lines go. what: the work, as the subject of a sentence. usual: kinds of
            errors that say enough in one line.
    """

    def __init__(
        self, log: logging.Logger, what: str, usual: tuple[type[Exception], ...] = ()
    ) -> None:
        self._log, self._what, self._usual = log, what, usual
        self._seen: set[tuple[object, ...]] = set()
        self._pause_s = self._until = 0.0

    @property
    def pause_s(self) -> float:
        """Seconds that the pause still lasts; 0.0: there is none."""
        return max(0.0, self._until - time.monotonic())

    @contextmanager
    def logged(self) -> Iterator[None]:
        """Log what the block raises, and go on behind it; not what ends a process or a thread."""
        try:
            yield
        except Exception as error:
            self._pause_s = min(max(FIRST_PAUSE_S, 2 * self._pause_s), LONGEST_PAUSE_S)
            self._until = time.monotonic() + self._pause_s
            self._write(error)
        else:
            self._pause_s = self._until = 0.0

    def _write(self, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        place = (frames[-1].filename, frames[-1].lineno) if frames else ()
        kind = (type(error), *place)
        if isinstance(error, self._usual):
            self._log.warning("%s failed: %s", self._what, error)
            return
        if kind in self._seen:
            self._log.error("%s failed again: %s: %s", self._what, type(error).__name__, error)
            return
        self._seen.add(kind)
        self._log.error("%s failed; it goes on", self._what, exc_info=error)


class OneAtATime:
    """Background work of one kind that is begun when it is due: never two pieces at a time, and
    none while the pause after a failure lasts. Safe to use from several threads.

    Args:
        failures: where errors go that the work does not expect. name: of its threads.
    """

    def __init__(self, failures: Failures, name: str) -> None:
        self._failures, self._name = failures, name
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    def begin(self, work: Callable[[], object]) -> None:
        """Call `work` in a thread, unless a piece of work is under way or a pause lasts."""
        with self._guard:
            if self._failures.pause_s or (self._thread is not None and self._thread.is_alive()):
                return
            self._thread = threading.Thread(
                target=self._logged, args=(work,), name=self._name, daemon=True
            )
            self._thread.start()

    def wait(self) -> None:
        """Wait until the piece of work under way has ended."""
        thread = self._thread
        if thread is not None and thread.is_alive():  # not so in the child of a fork
            thread.join()

    def _logged(self, work: Callable[[], object]) -> None:
        with self._failures.logged():
            work()
