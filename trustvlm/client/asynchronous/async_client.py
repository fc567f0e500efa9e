"""The client for programs that use asyncio: the verbs of :class:`trustvlm.client.Client`, to be
awaited, with equal signatures; each call runs in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar, copy_context
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, cast

from trustvlm.client.client import Client
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.reading.verdict_log.files import VerdictLog

_MOST_CALLS = 1_000

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

LANE: ContextVar[Executor | None] = ContextVar("trustvlm_lane", default=None)
"""The one thread that the calls of this context run in; None: any thread of the object."""

_AT_A_TIME = 1_000  # rows of an iterator that a thread takes before the loop goes on


async def in_thread(threads: Executor, work: Callable[[], T]) -> T:
    """The result of `work`, done by a thread in a copy of this context.

    Where the caller is cancelled, work that was begun goes on; its result is dropped. Raises
    Unavailable: the client is closed.
    """
    run = functools.partial(copy_context().run, work)
    try:
        future = asyncio.get_running_loop().run_in_executor(LANE.get() or threads, run)
    except RuntimeError as error:  # its threads have ended
        raise Unavailable("the client is closed") from error
    return await future


def awaited(verb: Callable[Concatenate[Any, P], R]) -> Callable[Concatenate[Any, P], Awaitable[R]]:
    """A method of `self.blocking` as a coroutine function; threads of `self.threads` run it."""

    @functools.wraps(verb)
    async def call(self: Any, *args: P.args, **kwargs: P.kwargs) -> R:
        method = getattr(self.blocking, verb.__name__)
        return await in_thread(self.threads, functools.partial(method, *args, **kwargs))

    return cast("Callable[Concatenate[Any, P], Awaitable[R]]", call)


def listed(
    verb: Callable[Concatenate[Any, P], Iterator[T]],
) -> Callable[Concatenate[Any, P], AsyncIterator[T]]:
    """A method of `self.blocking` that returns an iterator as an asynchronous generator; its errors
    come with the first row."""

    @functools.wraps(verb)
    async def rows(self: Any, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        method = getattr(self.blocking, verb.__name__)
        iterator = await in_thread(self.threads, functools.partial(method, *args, **kwargs))
        while some := await in_thread(self.threads, functools.partial(_some, iterator)):
            for row in some:
                yield row

    return cast("Callable[Concatenate[Any, P], AsyncIterator[T]]", rows)


def _some(iterator: Iterator[T]) -> list[T]:
    return [row for _, row in zip(range(_AT_A_TIME), iterator, strict=False)]


class _Awaited:
    """Methods of a blocking object, done by threads."""

    def __init__(self, blocking: Any, threads: Executor) -> None:
        self.blocking, self.threads = blocking, threads


class AsyncReviewQueue(_Awaited):
    """The methods of :class:`trustvlm.reading.review.queue.ReviewQueue`, to be awaited. Made by
    :meth:`AsyncClient.review`."""

    status = awaited(ReviewQueue.status)
    collect = awaited(ReviewQueue.collect)
    add_logged = awaited(ReviewQueue.add_logged)
    items = awaited(ReviewQueue.items)
    next = awaited(ReviewQueue.next)
    question = awaited(ReviewQueue.question)
    picture = awaited(ReviewQueue.picture)
    answer = awaited(ReviewQueue.answer)
    skip = awaited(ReviewQueue.skip)
    undo = awaited(ReviewQueue.undo)
    export = awaited(ReviewQueue.export)
    import_answers = awaited(ReviewQueue.import_answers)


class AsyncVerdictLog(_Awaited):
    """The methods of :class:`trustvlm.reading.verdict_log.files.VerdictLog`, to be awaited. Made by
    :meth:`AsyncClient.verdict_log`."""

    status = awaited(VerdictLog.status)
    switch = awaited(VerdictLog.switch)
    page = awaited(VerdictLog.page)
    export = awaited(VerdictLog.export)


class AsyncClient:
    """A :class:`trustvlm.client.Client` whose verbs are awaited, so that an event loop goes on
    meanwhile; an asynchronous context manager.

    Arguments, answers, errors and repeats are those of the client, which makes each call in a
    thread. Verbs that list something are asynchronous iterators. Cancelling a call stops waiting
    for it: a request that was sent is still answered, and a write is still done.

    Args:
        url, key, options: as for :class:`trustvlm.client.Client`.
        calls: how many calls run at a time; others wait. 1 to 1,000.

    Raises:
        InvalidInput: as for the client, or a number of calls out of range.
    """

    def __init__(
        self, url: str, key: str | None = None, *, calls: int = 32, **options: Any
    ) -> None:
        if isinstance(calls, bool) or not isinstance(calls, int) or not 1 <= calls <= _MOST_CALLS:
            raise InvalidInput(
                f"calls: expected a whole number from 1 to {_MOST_CALLS}, got {calls!r:.80}"
            )
        self.blocking = Client(url, key, **options)
        self.threads: Executor = ThreadPoolExecutor(calls, "trustvlm-client")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections; every later call raises Unavailable."""
        self.threads.shutdown(wait=False, cancel_futures=True)
        self.blocking.close()

    @asynccontextmanager
    async def at_revision(self, space: str, revision: int) -> AsyncIterator[None]:
        """Make the first change within the block only if the space is still at `revision`; see
        :meth:`Client.at_revision`. The calls of the block run one after the other."""
        block = self.blocking.at_revision(space, revision)
        lane = ThreadPoolExecutor(1, "trustvlm-client-revision")
        token = LANE.set(lane)
        try:
            await in_thread(lane, block.__enter__)
            try:
                yield
            finally:
                await in_thread(lane, lambda: block.__exit__(None, None, None))
        finally:
            LANE.reset(token)
            lane.shutdown(wait=False)

    def verdict_log(self, space: str) -> AsyncVerdictLog:
        """The verdict log of a space; see :meth:`Client.verdict_log`."""
        return AsyncVerdictLog(self.blocking.verdict_log(space), self.threads)

    def review(self, space: str) -> AsyncReviewQueue:
        """The review queue of a space; see :meth:`Client.review`."""
        return AsyncReviewQueue(self.blocking.review(space), self.threads)

    create_space = awaited(Client.create_space)
    get_space = awaited(Client.get_space)
    list_spaces = listed(Client.list_spaces)
    remove_space = awaited(Client.remove_space)
    restore_space = awaited(Client.restore_space)
    embed = awaited(Client.embed)
    score = awaited(Client.score)
    search = awaited(Client.search)
    project = awaited(Client.project)
    register = awaited(Client.register)
    add_support = awaited(Client.add_support)
    update_label = awaited(Client.update_label)
    update_support = awaited(Client.update_support)
    remove_label = awaited(Client.remove_label)
    remove_labels = awaited(Client.remove_labels)
    restore_label = awaited(Client.restore_label)
    alias = awaited(Client.alias)
    unalias = awaited(Client.unalias)
    remove_support = awaited(Client.remove_support)
    restore_support = awaited(Client.restore_support)
    removed = awaited(Client.removed)
    list_labels = listed(Client.list_labels)
    get_label = awaited(Client.get_label)
    count_labels = awaited(Client.count_labels)
    history = listed(Client.history)
    changes = awaited(Client.changes)
    unknown_labels = awaited(Client.unknown_labels)
    list_supports = awaited(Client.list_supports)
    count_supports = awaited(Client.count_supports)
    remove_supports = awaited(Client.remove_supports)
    thumbnail = awaited(Client.thumbnail)
    set_parents = awaited(Client.set_parents)
    taxonomy = awaited(Client.taxonomy)
    audit = awaited(Client.audit)
    move_support = awaited(Client.move_support)
    keep_support = awaited(Client.keep_support)
    propose = awaited(Client.propose)
    remove_proposed = awaited(Client.remove_proposed)
    evaluate = awaited(Client.evaluate)
    evaluate_stored = awaited(Client.evaluate_stored)
    count_observations = awaited(Client.count_observations)
    calibrate = awaited(Client.calibrate)
    recalibrate = awaited(Client.recalibrate)
    list_calibrations = awaited(Client.list_calibrations)
    remove_calibration = awaited(Client.remove_calibration)
    feedback = awaited(Client.feedback)
    observation_thumbnail = awaited(Client.observation_thumbnail)
    monitor = awaited(Client.monitor)
    list_jobs = awaited(Client.list_jobs)
    get_job = awaited(Client.get_job)
    cancel_job = awaited(Client.cancel_job)
    wait_job = awaited(Client.wait_job)
