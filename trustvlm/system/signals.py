"""Leaving when asked to (SIGTERM): at once, but not out of the middle of a transaction.

The command line installs the handler; the catalog marks its write transactions. Signals are handled
in the main thread, so a transaction of another thread is not waited for here: that is done by
closing the service, which ends its threads.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Terminated", "leaving_on_sigterm", "unbroken"]


class Terminated(KeyboardInterrupt):
    """The process was asked to end. A KeyboardInterrupt: what cleans up after Ctrl-C cleans up
    after this."""


_depth = 0
_asked = False


@contextmanager
def leaving_on_sigterm() -> Iterator[None]:
    """Within the block SIGTERM raises :class:`Terminated` in the main thread, after the transaction
    in progress there."""
    if (
        threading.current_thread() is not threading.main_thread()
    ):  # Python refuses handlers elsewhere
        yield
        return
    before = signal.signal(signal.SIGTERM, _handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def unbroken() -> Iterator[None]:
    """Puts off leaving until the block has ended."""
    global _asked, _depth
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if _asked and not _depth:
            _asked = False
            raise Terminated


def _handle(number: int, frame: FrameType | None) -> None:
    global _asked
    if _depth:
        _asked = True
    else:
        raise Terminated
