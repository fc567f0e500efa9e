"""The revision of a space that a caller has read before it changes the space."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from trustvlm.catalog.rows.spaces import require_revision

BOOKKEEPING = frozenset({"call", "fit", "job", "key", "originals", "purge"})
"""Kinds of write transactions that are no change of a space's content that a caller asked for."""


class Expectation(threading.local):
    """The (space, revision) that this thread expects when it begins its next change."""

    pending: tuple[str, int] | None = None

    @contextmanager
    def of(self, space: str, revision: int) -> Iterator[None]:
        """Expect this revision of the first change within the block."""
        self.pending = (space, revision)
        try:
            yield
        finally:
            self.pending = None

    def check(self, connection: Connection, what: str) -> None:
        """Check the expected revision, once, in a write transaction of the kind `what`. Raises
        NotFound, Conflict."""
        if self.pending is not None and what not in BOOKKEEPING:
            require_revision(connection, *self.pending)
            self.pending = None
