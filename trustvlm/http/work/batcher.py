"""Dynamic micro-batching: one thread owns the hardware, and calls that wait meanwhile share its
next run.

A batch holds the waiting calls with the same key (verb, space, options): with little load no call
waits for others; with much load batches grow. Only after a batch of several calls the thread
lingers for up to a tenth of the time that it took: the clients of that batch are about to ask
again, and would otherwise always miss the next batch. Where a batch fails, each of its calls is run
alone, so that a bad query fails no other. The answers of a batch wake the event loop once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass
from typing import Any

from trustvlm.errors import Overloaded
from trustvlm.http.guard.tracing import Spans
from trustvlm.system.background import Failures

log = logging.getLogger("trustvlm.http")

LONGEST_LINGER_S = 0.01

Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Payloads → an answer for each."""


@dataclass(eq=False)
class _Call:
    """A call that waits.

    Attributes:
        loop: the event loop of its caller; None: the caller is a thread that waits.
        context: of its caller, in which it is run; a batch in that of its first call.
        result, error: one of them is given to `answer`.
    """

    key: Hashable
    run: Run
    payload: Any
    rows: int
    deadline: float
    answer: asyncio.Future[Any] | Future[Any]
    loop: asyncio.AbstractEventLoop | None
    context: Context
    result: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Give the caller its answer; a caller that has left takes none."""
        if self.answer.done():
            return
        if self.error is None:
            self.answer.set_result(self.result)
        elif isinstance(self.error, StopIteration):  # which no future takes
            self.answer.set_exception(RuntimeError(f"a call raised {self.error!r}"))
        else:
            self.answer.set_exception(self.error)


class Batcher:
    """The owner of one piece of hardware.

    Args:
        capacity: calls that may wait. most_rows: of a batch (a single call may have more).
        observe: called with (calls, rows) of each batch. spans: gets a span of each.
    """

    def __init__(
        self,
        name: str,
        *,
        capacity: int,
        most_rows: int,
        deadline_s: float,
        observe: Callable[[int, int], None] = lambda calls, rows: None,
        spans: Spans | None = None,
    ) -> None:
        self.name = name
        self._observe, self._spans = observe, spans
        self._capacity, self._most_rows, self._deadline_s = capacity, most_rows, deadline_s
        self._waiting: deque[_Call] = deque()
        self._changed = threading.Condition()
        self._closed = self._lingering = False
        self._last_calls, self._last_s = 0, 0.0
        self._failures = Failures(log, f"the thread {name}")
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
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        self._queue(key, run, payload, rows, answer, loop)
        return await answer

    def ask_now(self, key: Hashable, run: Run, payload: Any, rows: int) -> Any:
        """As :meth:`ask`, for a thread that may wait."""
        answer = Future[Any]()
        self._queue(key, run, payload, rows, answer, None)
        return answer.result()

    def _queue(
        self,
        key: Hashable,
        run: Run,
        payload: Any,
        rows: int,
        answer: asyncio.Future[Any] | Future[Any],
        loop: asyncio.AbstractEventLoop | None,
    ) -> None:
        deadline = time.monotonic() + self._deadline_s
        call = _Call(key, run, payload, rows, deadline, answer, loop, copy_context())
        with self._changed:
            if self._closed:
                raise Overloaded("the service is shutting down; try again")
            if len(self._waiting) >= self._capacity:
                raise Overloaded(f"{self._capacity} calls wait already ({self.name}); try again")
            self._waiting.append(call)
            if not self._lingering:
                self._changed.notify()

    def close(self) -> None:
        """Answer the waiting calls, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while (batch := self._next_batch()) is not None:
            if batch:
                begin = time.monotonic()
                with self._failures.logged():
                    self._answer(batch)
                    self._observe(len(batch), sum(call.rows for call in batch))
                self._last_calls, self._last_s = len(batch), time.monotonic() - begin
                _settle(batch)

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
        batch = [call for call in batch if not call.answer.done()]  # the others' callers have left
        now = time.monotonic()
        late = [call for call in batch if now > call.deadline]
        for call in late:
            limit = f"{self._deadline_s:g} s ({self.name})"
            call.error = Overloaded(f"the call waited for more than {limit}; try again")
        _settle(late)
        return [call for call in batch if call.error is None]

    def _linger(self) -> None:
        """Wait for calls that come soon. The thread sleeps: none of them wakes it."""
        if self._last_calls < 2:
            return
        until = time.monotonic() + min(LONGEST_LINGER_S, 0.1 * self._last_s)
        self._lingering = True
        while not self._closed and (left := until - time.monotonic()) > 0:
            self._changed.wait(left)
        self._lingering = False

    def _answer(self, batch: list[_Call]) -> None:
        try:
            answers = batch[0].context.run(self._run, batch)
        except BaseException as error:
            if len(batch) == 1:
                batch[0].error = error
                return
            for call in batch:
                self._answer([call])
            return
        if len(answers) != len(batch):
            wrong = RuntimeError(f"expected {len(batch)} answers to a batch, got {len(answers)}")
            for call in batch:
                call.error = wrong
            raise wrong
        for call, answer in zip(batch, answers, strict=True):
            call.result = answer

    def _run(self, batch: Sequence[_Call]) -> Sequence[Any]:
        payloads = [call.payload for call in batch]
        if self._spans is None:
            return batch[0].run(payloads)
        with self._spans.batch(self.name, [call.context for call in batch]):
            return batch[0].run(payloads)


def _settle(calls: Sequence[_Call]) -> None:
    """Give callers their answers, those of one event loop together: each wake of a loop costs a
    system call."""
    by_loop: dict[asyncio.AbstractEventLoop | None, list[_Call]] = {}
    for call in calls:
        by_loop.setdefault(call.loop, []).append(call)
    for loop, settled in by_loop.items():
        if loop is None:
            _settle_all(settled)
        else:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(_settle_all, settled)


def _settle_all(calls: Sequence[_Call]) -> None:
    for call in calls:
        call.settle()
