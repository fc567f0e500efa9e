"""The processes that serve a home: each holds a lock on its own file in the home, and the lock ends
with the process."""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path

__all__ = ["Worker"]

FOLDER = "workers"


class Worker:
    """This process among those that serve a home; the work of a dead one can be taken over."""

    def __init__(self, home: Path) -> None:
        self.id = str(uuid.uuid4())
        self._folder = home / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._descriptor = os.open(
            self._folder / self.id, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

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
