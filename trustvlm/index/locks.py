"""Who may touch a faiss index at the same time.

Both locks have one contract: :meth:`shared` around reading, :meth:`exclusive` around changing. On
the CPU any number of searches may run together, but an ``add`` moves the memory they read. On a GPU
not even two searches may share one resources object, so its lock has one owner at a time whatever
it does. Neither lock is reentrant.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

__all__ = ["AccessLock", "OwnerLock", "SharedLock"]


class AccessLock(Protocol):
    """What a store needs of its lock."""

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Held while reading."""
        ...

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Held while changing."""
        ...


class SharedLock:
    """Many readers or one writer; a waiting writer goes before new readers, so a stream of searches
    cannot starve it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._readers = 0
        self._writing = False
        self._writers_waiting = 0

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._changed:
            self._changed.wait_for(lambda: not (self._writing or self._writers_waiting))
            self._readers += 1
        try:
            yield
        finally:
            with self._changed:
                self._readers -= 1
                if not self._readers:
                    self._changed.notify_all()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._changed:
            self._writers_waiting += 1
            try:
                self._changed.wait_for(lambda: not (self._writing or self._readers))
                self._writing = True
            finally:  # an interrupt while waiting must not shut readers out for ever
                self._writers_waiting -= 1
                if not self._writing:
                    self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._writing = False
                self._changed.notify_all()


class OwnerLock:
    """One thread at a time, reader or writer."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def shared(self) -> Iterator[None]:
        with self._lock:
            yield

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with self._lock:
            yield
