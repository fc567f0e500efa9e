"""An open home: what every verb of the service goes through."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from trustvlm.catalog.rows.spaces import require_revision
from trustvlm.errors import ReadOnly, TrustVLMError
from trustvlm.service.home.home import Home
from trustvlm.service.home.purge import purge_expired
from trustvlm.system.background import Failures
from trustvlm.system.pickling import Unpicklable
from trustvlm.types.bounds import whole
from trustvlm.types.messages.commands import at

log = logging.getLogger("trustvlm")

EXPIRY_INTERVAL_S = 60.0
"""A service that changes things looks this often for removed rows that have left their undo
window."""


class OpenHome(Unpicklable):
    """A home that is open until :meth:`close`; a context manager.

    Attributes:
        place: options of the command line that name the home, in the commands of messages; empty
            where the messages are for others than the one who opened it.
    """

    _instead = (
        "a TrustService cannot be pickled or copied: pass the path of its home, and call "
        "trustvlm.open there"
    )

    def __init__(self, home: Home, place: str = "") -> None:
        self._home = home
        self.place = place
        self._next_expiry = 0.0
        self._failures = Failures(log, "purging what has left its undo window")

    def __repr__(self) -> str:
        state = " (closed)" if self._home.closed.is_set() else ""
        return f"<{type(self).__name__} of {self._home.folder}{state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the catalog; every later call raises Unavailable. Verdicts that wait to be logged
        are stored first."""
        self._home.closed.set()
        self._home.verdict_writer.close()
        self._home.background_fit.close()
        self._home.caches.close()
        self._home.catalog.close()

    @contextmanager
    def at_revision(self, space: str, revision: int) -> Iterator[None]:
        """Make the first change within the block only if the space is still at `revision`
        (optimistic concurrency).

        It is checked at once, and again in the transaction of that change: no other change can come
        between. The changes after the first are not checked. Counts for this thread.

        Args:
            revision: the revision that the caller read: of a verdict, of hits, or
                :attr:`SpaceRow.revision`.

        Raises:
            Conflict: the space has changed since; nothing is written. NotFound: no such space.
                InvalidInput: not a revision.
        """
        home, expected = self._ready(), whole("revision", revision)
        with at(self.place), home.catalog.read() as connection:
            require_revision(connection, space, expected)
        with home.catalog.expectation.of(space, expected):
            yield

    def _ready(self) -> Home:
        self._home.check_open()
        return self._home

    def _writable(self) -> Home:
        home = self._ready()
        if home.catalog.read_only:
            raise ReadOnly(
                f"{home.folder} was opened with read_only=True; open it for writing to change it"
            )
        if time.monotonic() >= self._next_expiry:
            self._next_expiry = time.monotonic() + EXPIRY_INTERVAL_S
            self._purge_expired(home)
        return home

    def _purge_expired(self, home: Home) -> None:
        """Purge on the way to another change, which does not fail where this fails."""
        with self._failures.logged():
            try:
                purge_expired(home)
            except TrustVLMError as error:
                log.warning("what has left its undo window was not purged: %s", error)
