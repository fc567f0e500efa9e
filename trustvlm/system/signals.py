"""SIGTERM ends the process at once, but not within a transaction.

The command line installs the handler; the catalog marks its write transactions. Python handles
signals in the main thread: transactions of other threads end when the service is closed.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import current_thread, main_thread
from types import FrameType


class Terminated(KeyboardInterrupt):
    """The process was asked to end: what cleans up after Ctrl-C cleans up after this."""


_depth = 0
_terminate_later = False


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated` in the main thread, after the transaction
    in progress there."""
    if current_thread() is not main_thread():  # Python refuses handlers elsewhere
        yield
        return
    before = signal.signal(signal.SIGTERM, _handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def unbroken() -> Iterator[None]:
    """Put off :class:`Terminated` until the block has ended."""
    global _terminate_later, _depth
    if current_thread() is not main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _terminate_later and not _depth:
            _terminate_later = False
            raise Terminated


def _handle(number: int, frame: FrameType | None) -> None:
    global _terminate_later
    if not _depth:
        raise Terminated
    _terminate_later = True
