"""Threads for the work that is not batched, with a bounded number of waiting calls."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import TypeVar

from trustvlm.errors import Overloaded
from trustvlm.system.background import Failures

log = logging.getLogger("trustvlm.http")

T = TypeVar("T")


class Lane:
    """Threads with a bounded queue.

    A call whose client has left, or whose deadline has passed, is not begun. A call that was begun
    is finished: its commits stay. It runs in a copy of its caller's context, which names the author
    of changes.
    """

    def __init__(self, name: str, threads: int, capacity: int, deadline_s: float) -> None:
        self.name = name
        self._threads, self._capacity, self._deadline_s = threads, capacity, deadline_s
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"trustvlm-{name}")
        self._guard = threading.Lock()
        self._calls = 0
        self._failures = Failures(log, f"background work of {name}")

    @property
    def depth(self) -> int:
        """Calls that wait."""
        return max(0, self._calls - self._threads)

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done by a thread of the lane.

        Raises:
            Overloaded: too many calls wait, or this one waited too long.
        """
        with self._guard:
            if self._calls >= self._capacity + self._threads:
                raise Overloaded(f"{self._capacity} calls wait already ({self.name}); try again")
            self._calls += 1
        deadline = time.monotonic() + self._deadline_s

        def work_in_time() -> T:
            if time.monotonic() > deadline:
                limit = f"{self._deadline_s:g} s ({self.name})"
                raise Overloaded(f"the call waited for more than {limit}; try again")
            return work()

        try:
            future = self._executor.submit(copy_context().run, work_in_time)
        except RuntimeError as error:
            self._count_down()
            raise Overloaded("the service is shutting down; try again") from error
        future.add_done_callback(lambda _: self._count_down())
        # Cancelling the await cancels a call that is not begun.
        return await asyncio.wrap_future(future)

    def post(self, work: Callable[[], object]) -> None:
        """Do `work` soon, however many calls wait; no caller waits for it."""

        def work_alone() -> None:
            with self._failures.logged():
                work()

        with suppress(RuntimeError):  # the lane is closed
            self._executor.submit(work_alone)

    def _count_down(self) -> None:
        with self._guard:
            self._calls -= 1

    def close(self) -> None:
        """Finish the accepted calls, and take no more."""
        self._executor.shutdown(wait=True)
