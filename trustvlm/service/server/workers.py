"""Which processes of a service are alive: each holds a lock on a file of its own in the home, which
dies with it."""

from __future__ import annotations

import fcntl
import os
import uuid
from contextlib import suppress
from pathlib import Path

__all__ = ["Worker"]

FOLDER = "workers"


class Worker:
    """This process among those that serve a home. What a dead one had begun can be taken over."""

    def __init__(self, home: Path) -> None:
        self.id = str(uuid.uuid4())
        self._folder = home / FOLDER
        self._folder.mkdir(exist_ok=True)
        self._descriptor = os.open(
            self._folder / self.id, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600
        )
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def alive(self, worker: str) -> bool:
        """Whether the process of that id still runs."""
        if worker == self.id:
            return True
        path = self._folder / worker
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:  # somebody holds it
            return True
        path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """Be gone."""
        with suppress(FileNotFoundError):
            (self._folder / self.id).unlink()
        os.close(self._descriptor)
