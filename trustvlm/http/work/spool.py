"""Files of clients that cannot be read as they come: kept on the home's disk, without a name, while
they are read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from starlette.concurrency import run_in_threadpool

from trustvlm.errors import Overloaded, TooLarge, Unavailable
from trustvlm.service.server.server_home import ServerHome

__all__ = ["MOST_FILES", "Spool"]

MOST_FILES = 4
"""Files that one process takes at once: each has a reader beside it."""

_AT_ONCE = 2**20


class Spool:
    """The files of one process: so many at once, and so many bytes of all. Used by the event loop's
    thread only."""

    def __init__(self, home: ServerHome, most_bytes: int) -> None:
        self._home, self._most_bytes = home, most_bytes
        self._files = self._bytes = 0

    @contextmanager
    def file(self) -> Iterator[Received]:
        """A new file, gone when the block ends or the process dies.

        Raises:
            Overloaded: there are as many as there may be.
        """
        if self._files >= MOST_FILES:
            raise Overloaded(f"{MOST_FILES} files are being imported already; try again", 10)
        self._files += 1
        try:
            with self._home.spool() as file:
                received = Received(self, file)
                try:
                    yield received
                finally:
                    self._bytes -= received.size
        finally:
            self._files -= 1

    def count(self, size: int, more: int) -> None:
        """Take `more` bytes for a file of `size` bytes so far.

        Raises:
            TooLarge: it has more than all may have. Overloaded: with the others there are as many
                as there may be.
        """
        if size + more > self._most_bytes:
            raise TooLarge(
                f"the file has more than {self._most_bytes} bytes, the limit (setting "
                f"serve_spool_bytes)"
            )
        if self._bytes + more > self._most_bytes:
            raise Overloaded(
                "the files being imported take as much disk as they may; try again", 10
            )
        self._bytes += more


class Received:
    """One file on its way."""

    def __init__(self, spool: Spool, file: BinaryIO) -> None:
        self.file, self.size = file, 0
        self._spool = spool

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Write all that comes.

        Raises:
            TooLarge, Overloaded: see :meth:`Spool.count`. Unavailable: the disk is full.
        """
        waiting: list[bytes] = []
        held = 0
        async for piece in pieces:
            self._spool.count(self.size, len(piece))
            self.size += len(piece)
            waiting.append(piece)
            held += len(piece)
            if held >= _AT_ONCE:
                await self._write(waiting)
                waiting, held = [], 0
        await self._write(waiting)

    async def _write(self, pieces: list[bytes]) -> None:
        def work() -> None:
            self.file.writelines(pieces)
            self.file.flush()

        try:
            await run_in_threadpool(work)
        except OSError as error:
            raise Unavailable(
                f"the file cannot be kept on the server's disk: {error.strerror or error}"
            ) from error
