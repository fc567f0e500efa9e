"""The stages of long work: how long each takes, and stopping between its steps.

Listeners, such as the metrics of the HTTP service, are told the times; without any a stage costs a
few microseconds. They are "decode" (image files to pixels), "encode" (an encoder's model), "text
pass", "image pass" (all labels, all prototypes), "fuse" (the rule), and "transaction" (of the
catalog; one that reads holds all that is done within it).

The HTTP service runs jobs under :func:`stoppable`; long work calls :func:`may_stop` in each of its
loops, at the latest before it commits: less than a microsecond outside of :func:`stoppable`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

STAGES = ("decode", "encode", "text pass", "image pass", "fuse", "transaction")

LISTENERS: list[Callable[[str, float], None]] = []
"""Called with (stage, seconds), in the thread that did the work."""

_check: ContextVar[Callable[[], object] | None] = ContextVar("stop_check", default=None)


class stage:
    """Tell the listeners how long the block took. A class, as a generator takes ten times as
    long to enter."""

    __slots__ = ("_begin", "_name")

    def __init__(self, name: str) -> None:
        self._name, self._begin = name, 0.0

    def __enter__(self) -> None:
        if LISTENERS:
            self._begin = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        if LISTENERS:
            seconds = time.perf_counter() - self._begin
            for listener in tuple(LISTENERS):
                listener(self._name, seconds)


@contextmanager
def stoppable(check: Callable[[], object]) -> Iterator[None]:
    """Call `check` wherever the block calls :func:`may_stop`; it stops the block by raising."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def may_stop() -> None:
    """Raise what the check of :func:`stoppable` raises, if anything."""
    check = _check.get()
    if check is not None:
        check()
