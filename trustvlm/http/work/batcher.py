"""Dynamic micro-batching: one thread owns the hardware, and calls that wait meanwhile share its
next run.

A batch holds the waiting calls with the same key (verb, space, options): with little load no call
waits for others; with much load batches grow. Only after a batch of several calls the thread
lingers for up to a tenth of the time that it took: the clients of that batch are about to ask
again, and would otherwise always miss the next batch. Where a batch fails, each of its calls is run
alone, so that a bad query fails no other.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from trustvlm.errors import Overloaded

__all__ = ["Batcher"]

LONGEST_LINGER_S = 0.01

Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Payloads → an answer for each."""


@dataclass(eq=False)
class _Call:
    key: Hashable
    run: Run
    payload: Any
    rows: int
    deadline: float
    answer: Future[Any] = field(default_factory=Future)


class Batcher:
    """The owner of one piece of hardware.

    Args:
        capacity: calls that may wait. most_rows: of a batch (a single call may have more).
        observe: called with (calls, rows) of each batch.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        most_rows: int,
        deadline_s: float,
        observe: Callable[[int, int], None] = lambda calls, rows: None,
    ) -> None:
        self.name = name
        self._observe = observe
        self._capacity, self._most_rows, self._deadline_s = capacity, most_rows, deadline_s
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._last_calls, self._last_s = 0, 0.0
        self._thread = threading.Thread(target=self._work, name=f"trustvlm-{name}", daemon=True)
        self._thread.start()

    @property
    def depth(self) -> int:
        """Calls that wait."""
        return len(self._waiting)

    async def ask(self, key: Hashable, run: Run, payload: Any, rows: int) -> Any:
        """The answer to one call; a call whose caller is cancelled before its turn is not run.

        Args:
            run: answers the payloads of calls with this key, in the owner's thread.

        Raises:
            Overloaded: too many calls wait, or this one waited too long. What `run` raises.
        """
        return await asyncio.wrap_future(self._queue(key, run, payload, rows))

    def ask_now(self, key: Hashable, run: Run, payload: Any, rows: int) -> Any:
        """As :meth:`ask`, for a thread that may wait."""
        return self._queue(key, run, payload, rows).result()

    def _queue(self, key: Hashable, run: Run, payload: Any, rows: int) -> Future[Any]:
        call = _Call(key, run, payload, rows, time.monotonic() + self._deadline_s)
        with self._changed:
            if self._closed:
                raise Overloaded("the service is shutting down; try again")
            if len(self._waiting) >= self._capacity:
                raise Overloaded(f"{self._capacity} calls wait already ({self.name}); try again")
            self._waiting.append(call)
            self._changed.notify()
        return call.answer

    def close(self) -> None:
        """Answer the waiting calls, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                self._observe(len(batch), sum(call.rows for call in batch))
                begin = time.monotonic()
                self._answer(batch)
                self._last_calls, self._last_s = len(batch), time.monotonic() - begin

    def _next_batch(self) -> list[_Call] | None:
        """The oldest call and those that join it, without those that came to nothing; None: closed,
        and no call waits."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return None
            self._linger()
            first = self._waiting.popleft()
            batch, rows, others = [first], first.rows, deque[_Call]()
            while self._waiting:
                call = self._waiting.popleft()
                if call.key == first.key and rows + call.rows <= self._most_rows:
                    batch.append(call)
                    rows += call.rows
                else:
                    others.append(call)
            self._waiting = others
        return [call for call in batch if self._begin(call)]

    def _linger(self) -> None:
        if self._last_calls < 2:
            return
        until = time.monotonic() + min(LONGEST_LINGER_S, 0.1 * self._last_s)
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)

    def _begin(self, call: _Call) -> bool:
        """Whether the call is still waited for, and in time."""
        if not call.answer.set_running_or_notify_cancel():
            return False
        if time.monotonic() > call.deadline:
            limit = f"{self._deadline_s:g} s ({self.name})"
            error = Overloaded(f"the call waited for more than {limit}; try again")
            call.answer.set_exception(error)
            return False
        return True

    def _answer(self, batch: list[_Call]) -> None:
        try:
            answers = batch[0].run([call.payload for call in batch])
        except BaseException as error:
            if len(batch) == 1:
                batch[0].answer.set_exception(error)
                return
            for call in batch:
                self._answer([call])
            return
        for call, answer in zip(batch, answers, strict=True):
            call.answer.set_result(answer)
