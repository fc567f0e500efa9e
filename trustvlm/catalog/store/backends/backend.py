"""The seam between a catalog and the database that holds it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from sqlalchemy import Connection, Engine

from trustvlm.catalog.store.backends.database import CHANGE
from trustvlm.catalog.store.backends.file_backend import FileBackend
from trustvlm.catalog.store.location import FileLocation, Location, ServerLocation
from trustvlm.errors import Unavailable
from trustvlm.system.signals import unbroken
from trustvlm.types.backups import Scrubbed


class Backend(Protocol):
    """A database that holds a catalog.

    In every database write transactions of a catalog follow each other, and each sees
    everything that was committed before it began. A read transaction sees one committed state. A
    change is durable when its transaction has ended.

    Attributes:
        engine: its connections begin a transaction as their option
            :data:`~trustvlm.catalog.store.backends.database.CHANGE` says; disposing of it closes
            every connection that is not in use.
    """

    engine: Engine

    def check(self, connection: Connection, *, committed: bool = False) -> None:
        """Make sure that the transaction of `connection` is one of the catalog that was opened.

        Args:
            committed: the transaction has ended.

        Raises:
            Unavailable: the catalog was moved, deleted or replaced since.
        """

    def translated(self) -> AbstractContextManager[None]:
        """Turns the database's errors inside the block into trustvlm's."""

    def version(self) -> Hashable:
        """Equal for two calls only if nothing was committed between them; None where that cannot
        be told."""

    def reclaim(self, *, wait: bool, rewrite: bool = False) -> Scrubbed | None:
        """Take away what the database keeps of rows that were deleted, as far as it can.

        Args:
            wait: for readers that still see them; otherwise it is Busy at once.
            rewrite: write the files of all tables again, where the database keeps deleted rows in
                them; what was done. None where it does not, or was not asked to.

        Raises:
            Busy: readers were in its way.
        """


def _server_backend(location: ServerLocation, **options: bool) -> Backend:
    """Imports the driver of PostgreSQL where one is needed only."""
    try:
        from trustvlm.catalog.store.backends.server_backend import ServerBackend
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "psycopg":
            raise
        raise Unavailable(
            "a catalog in PostgreSQL needs the driver psycopg: pip install 'trustvlm[postgres]'"
        ) from error
    return ServerBackend(location, **options)


_BACKENDS: dict[type[Location], Callable[..., Backend]] = {
    FileLocation: FileBackend,
    ServerLocation: _server_backend,
}


def open_backend(location: Location, *, read_only: bool = False, create: bool = False) -> Backend:
    """The back end for a location.

    Raises:
        NotFound: nothing is there, and `create` does not allow for that.
    """
    return _BACKENDS[type(location)](location, read_only=read_only, create=create)


@contextmanager
def changing_schema(location: Location) -> Iterator[Connection]:
    """A transaction that may create and change tables, at a location that may be empty; every
    connection is closed behind it."""
    backend = open_backend(location, create=True)
    try:
        with (
            unbroken(),
            backend.translated(),
            backend.engine.connect().execution_options(**{CHANGE: "schema"}) as connection,
            connection.begin(),
        ):
            yield connection
    finally:
        backend.engine.dispose()
