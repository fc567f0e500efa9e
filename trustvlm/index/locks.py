"""Who may touch a faiss index at the same time.

On the CPU any number of searches may run together, but an ``add`` moves the memory they read. On a
GPU not even two searches may share one resources object: its lock has one owner at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class SharedLock:
    """Up to `readers` readers (None: any number) or one writer. A waiting writer goes before new
    readers, so that a stream of searches cannot starve it. Not reentrant."""

    def __init__(self, readers: int | None = None) -> None:
        self._most = readers
        self._changed = threading.Condition()
        self._readers = self._waiting = 0
        self._writing = False

    def _may_read(self) -> bool:
        full = self._most is not None and self._readers >= self._most
        return not (self._writing or self._waiting or full)

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Held while reading."""
        with self._changed:
            self._changed.wait_for(self._may_read)
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Held while changing."""
        with self._changed:
            self._waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._writing or self._readers))
                self._writing = True
            finally:  # an interrupt while waiting must not shut readers out for ever
                self._waiting -= 1
                self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
