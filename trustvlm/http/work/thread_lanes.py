"""Threads that do the work which is not batched, with a bounded number of calls that may wait for
them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from trustvlm.errors import Overloaded

__all__ = ["Lane"]

T = TypeVar("T")


class Lane:
    """Some threads and a bounded queue before them.

    A call whose client has left, or whose deadline has passed, is not begun. One that was begun is
    finished: what it commits stays.
    """

    def __init__(self, name: str, threads: int, capacity: int, deadline_s: float) -> None:
        self.name = name
        self._capacity = capacity
        self._deadline_s = deadline_s
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=f"trustvlm-{name}")
        self._threads = threads
        self._guard = threading.Lock()
        self._there = 0

    @property
    def depth(self) -> int:
        """Calls that wait."""
        return max(0, self._there - self._threads)

    async def run(self, work: Callable[[], T]) -> T:
        """What `work` returns, done by a thread of the lane.

        Raises:
            Overloaded: too many calls wait, or this one waited too long.
        """
        with self._guard:
            if self._there >= self._capacity + self._threads:
                raise Overloaded(f"{self._capacity} calls wait already ({self.name}); try again")
            self._there += 1
        deadline = time.monotonic() + self._deadline_s

        def in_time() -> T:
            if time.monotonic() > deadline:
                raise Overloaded(
                    f"the call waited for more than {self._deadline_s:g} s ({self.name}); try again"
                )
            return work()

        try:
            future = self._executor.submit(in_time)
        except RuntimeError as error:
            self._left()
            raise Overloaded("the service is shutting down; try again") from error
        future.add_done_callback(lambda _: self._left())
        return await asyncio.wrap_future(
            future
        )  # cancelled with it: one that was not begun never will be

    def post(self, work: Callable[[], object]) -> None:
        """Have `work` done soon, however many calls wait; nobody waits for it."""
        with suppress(RuntimeError):  # it was shut down
            self._executor.submit(work)

    def _left(self) -> None:
        with self._guard:
            self._there -= 1

    def close(self) -> None:
        """Finish what was taken on, take on nothing more."""
        self._executor.shutdown(wait=True)
