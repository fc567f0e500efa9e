"""Stopping long work between two of its steps: the caller decides whether it goes on.

The HTTP service runs jobs under :func:`stoppable`; work that may take long calls :func:`may_stop`
in each of its loops, at the latest before it commits. Outside of :func:`stoppable` a call costs
less than a microsecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["may_stop", "stoppable"]

_check: ContextVar[Callable[[], object] | None] = ContextVar("stop_check", default=None)


@contextmanager
def stoppable(check: Callable[[], object]) -> Iterator[None]:
    """Let `check` stop, by raising, what this thread does within the block, wherever that calls
    :func:`may_stop`."""
    token = _check.set(check)
    try:
        yield
    finally:
        _check.reset(token)


def may_stop() -> None:
    """Go on, or raise what the check of :func:`stoppable` raises."""
    check = _check.get()
    if check is not None:
        check()
