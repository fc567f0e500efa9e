"""The processes that serve a catalog: each holds a lock, and the lock ends with the process. Those
of a catalog in a file lock files of their own in the home, those of one on a server lock there."""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from trustvlm.catalog.store.location import ServerLocation
from trustvlm.service.home.home import Home

FOLDER = "workers"
HOLD_EVERY_S = 5.0
"""A process that serves makes sure this often that it holds its lock."""


class Worker(Protocol):
    """This process among those that serve a catalog; the work of a dead one can be taken over.

    Attributes:
        id: under which its work is stored.
        sure_s: seconds that another process must have been gone before its jobs are ended: the
            locks of a server that was restarted are gone until their processes take them again.
    """

    @property
    def sure_s(self) -> float: ...

    @property
    def id(self) -> str: ...

    def alive(self, worker: str) -> bool:
        """Whether the process of this id still runs."""

    def hold(self) -> None:
        """Make sure that the lock is held. Raises Unavailable, Busy."""

    def close(self) -> None:
        """Give up the lock."""


def worker_of(home: Home) -> Worker:
    """Register this process as one that serves the catalog of a home."""
    location = home.catalog.location
    if isinstance(location, ServerLocation):
        from trustvlm.catalog.server.presence import Presence  # needs the server's driver

        return Presence(location)
    return _FileWorker(home.folder)


class _FileWorker:
    """A process that holds a lock on a file in the home."""

    sure_s = 0.0

    def __init__(self, home: Path) -> None:
        self.id = str(uuid.uuid4())
        self._folder = home / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._descriptor = os.open(
            self._folder / self.id, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def hold(self) -> None:
        """Do nothing: the lock lasts as long as the process."""

    def alive(self, worker: str) -> bool:
        """Whether the process of this id still runs."""
        if worker == self.id:
            return True
        path = self._folder / worker
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:  # its process holds the lock
            return True
        path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """Remove the file, and with it the lock."""
        with suppress(FileNotFoundError):
            (self._folder / self.id).unlink()
        os.close(self._descriptor)
