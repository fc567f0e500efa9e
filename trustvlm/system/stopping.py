"""Stopping long work between two of its steps.

The HTTP service runs jobs under :func:`stoppable`; long work calls :func:`may_stop` in each of its
loops, at the latest before it commits: less than a microsecond outside of :func:`stoppable`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_check: ContextVar[Callable[[], object] | None] = ContextVar("stop_check", default=None)


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
