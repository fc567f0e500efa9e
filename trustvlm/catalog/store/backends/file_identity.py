"""Whether the catalog's files are still those that this process opened.

A home that is moved away, restored by hand or mounted over while a service runs leaves the service
with open files that have no name any more: SQLite goes on writing into them, and no other process
reads them. Device and inode show the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy import Connection, PoolProxiedConnection

from trustvlm.errors import Unavailable

_LOG = "trustvlm-log"  # key of a connection's `info`


class FileIdentity:
    """The identity of a catalog file and of its write-ahead log."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._names = os.fspath(path), f"{path}-wal"
        self._file = _identity(self._names[0])

    def check(
        self, connection: Connection | PoolProxiedConnection, *, committed: bool = False
    ) -> None:
        """Make sure that a transaction of `connection` is one of the files that have the catalog's
        names.

        Args:
            connection: one in whose transaction something was read or locked, so that SQLite has
                opened the log.
            committed: the transaction has ended; otherwise nothing was changed yet.

        Raises:
            Unavailable: a file was moved, deleted or replaced since it was opened.
        """
        log = _identity(self._names[1])
        if connection.info.get(_LOG) is None:
            # The log exists as long as a connection is open that has read it.
            connection.info[_LOG] = log
        if _identity(self._names[0]) == self._file and log == connection.info[_LOG]:
            return
        lost = "the change went into the old file and is lost with it"
        raise Unavailable(
            f"{self._path.parent} was moved, deleted or replaced while this process had it "
            f"open: {lost if committed else 'nothing was changed'}; restart every program that "
            f"uses this home"
        )


def _identity(path: str) -> tuple[int, int] | None:
    """(device, inode) of a file; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of a Path it takes four times as long
    except OSError:
        return None
    return status.st_dev, status.st_ino
