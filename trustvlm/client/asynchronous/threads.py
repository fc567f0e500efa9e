"""Methods of a blocking object as methods of an asynchronous one, with equal signatures: each call
runs in a thread."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextvars import ContextVar, copy_context
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from trustvlm.errors import Unavailable

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
