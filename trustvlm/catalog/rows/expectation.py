"""What a caller believes of a space when it changes it: the revision that it last read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection

from trustvlm.catalog.rows.spaces import require_revision

__all__ = ["Expectation"]

BOOKKEEPING = frozenset({"call", "fit", "job", "key", "originals", "purge"})
"""Kinds of write transactions that are no change of a space's content that a caller asked for."""


class Expectation(threading.local):
    """The (space, revision) that this thread expects when its next change begins."""

    pending: tuple[str, int] | None = None

    @contextmanager
    def of(self, space: str, revision: int) -> Iterator[None]:
        """Expect it of the first change within the block."""
        self.pending = (space, revision)
        try:
            yield
        finally:
            self.pending = None

    def check(self, connection: Connection, what: str) -> None:
        """Check it in the write transaction `connection` of the kind `what`, once. Raises NotFound,
        Conflict."""
        if self.pending is not None and what not in BOOKKEEPING:
            require_revision(connection, *self.pending)
            self.pending = None
