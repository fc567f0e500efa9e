"""A catalog in an SQLite file, which every process of one machine opens by itself.

A home that is moved away, restored by hand or mounted over while a service runs leaves the service
with open files that have no name any more: SQLite goes on writing into them, and no other process
reads them. Device and inode show the difference.
"""

from __future__ import annotations

import os
import time
from contextlib import AbstractContextManager

from sqlalchemy import Connection, PoolProxiedConnection, event, text

from trustvlm.catalog.store import sqlite
from trustvlm.catalog.store.backends.commit_watch import CommitWatch
from trustvlm.catalog.store.location import FileLocation
from trustvlm.errors import Busy, NotFound, Unavailable

_LOG = "trustvlm-log"  # key of a connection's `info`


class FileBackend:
    """See :class:`trustvlm.catalog.store.backends.backend.Backend`."""

    def __init__(self, location: FileLocation, *, read_only: bool, create: bool) -> None:
        if not create and not location.path.is_file():
            raise NotFound(f"no catalog at {location}")
        self._path = location.path
        self._names = os.fspath(self._path), f"{self._path}-wal"
        self._file = _identity(self._names[0])
        self.engine = sqlite.make_engine(self._path, read_only=read_only)
        watch = CommitWatch(self.engine, self._data_version)
        self.version = watch.version
        event.listen(self.engine, "engine_disposed", lambda _: watch.close())

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

    def translated(self) -> AbstractContextManager[None]:
        """See :func:`trustvlm.catalog.store.sqlite.translated`."""
        return sqlite.translated(self._path)

    def _data_version(self, connection: PoolProxiedConnection) -> int:
        """A number that changes when another connection commits; of the files that were opened."""
        # Through the driver: SQLAlchemy's way to one row takes ten times as long.
        cursor = connection.cursor()
        cursor.execute("PRAGMA data_version")
        [(number,)] = cursor.fetchall()
        self.check(connection)
        return int(number)

    def reclaim(self, *, wait: bool, rewrite: bool = False) -> None:
        """Move the write-ahead log into the file and truncate it, so that nothing that was deleted
        stays in the log: deleted rows are overwritten in the file at once, so that there is nothing
        to `rewrite`."""
        milliseconds = int(1000 * sqlite.BUSY_TIMEOUT_S)
        deadline = time.monotonic() + (sqlite.BUSY_TIMEOUT_S if wait else 0)
        with (
            self.translated(),
            self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
        ):
            connection.execute(text(f"PRAGMA busy_timeout={milliseconds if wait else 0}"))
            # SQLite waits for readers, but says "busy" at once when another checkpoint is under
            # way.
            while busy := connection.execute(text("PRAGMA wal_checkpoint(TRUNCATE)")).one()[0]:
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.01)
            connection.execute(text(f"PRAGMA busy_timeout={milliseconds}"))
        if busy:
            raise Busy(
                f"the log of {self._path} was in use all the time, so purged rows are still in "
                f"it; purge again"
            )


def _identity(path: str) -> tuple[int, int] | None:
    """(device, inode) of a file; None where there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - of a Path it takes four times as long
    except OSError:
        return None
    return status.st_dev, status.st_ino
