"""One catalog: where it is, and the two kinds of transaction."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Hashable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, insert, select

from trustvlm.catalog.rows.spaces import require_revision
from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.backend import changing_schema, open_backend
from trustvlm.catalog.store.backends.database import AUTHOR, CHANGE, HISTORY
from trustvlm.catalog.store.location import FileLocation, Location, location_of
from trustvlm.catalog.store.models import CatalogState
from trustvlm.catalog.upkeep.copy_catalog import facts_of, renew_epoch
from trustvlm.errors import Busy, Damaged
from trustvlm.system.author import current_author
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import make_folder
from trustvlm.system.signals import unbroken
from trustvlm.system.stages import stage
from trustvlm.types.backups import CatalogFacts, Scrubbed
from trustvlm.types.messages.commands import suggested

_EPOCH = select(CatalogState.epoch)


class Changed(Exception):
    """Something was committed since the version that was to be read."""


class _JoinedWrites(threading.local):
    """The transaction that a thread's writes are joined in, see :meth:`Catalog.together`."""

    stack: ExitStack | None = None
    connection: Connection | None = None

    def end(self) -> None:
        self.stack = self.connection = None


class Catalog:
    """An open catalog. Transactions from several threads and processes may overlap; after a fork
    open it again.

    Opening checks the schema and creates nothing; :meth:`create` and :meth:`upgrade` do.
    """

    def __init__(self, place: Location | Path, *, read_only: bool = False) -> None:
        """Open the catalog at a location, or in the SQLite file of a path.

        Raises:
            NotFound: there is none.
            SchemaMismatch: it is older or newer than this program.
        """
        self.location = location_of(place)
        self.read_only = read_only
        self.author: str | None = None
        """Of changes whose context names none, see :mod:`trustvlm.system.author`."""
        self._joined = _JoinedWrites()
        self.expectation = Expectation()
        self._backend = open_backend(self.location, read_only=read_only)
        try:
            with self.read() as connection:
                schema.check(connection, self.location.command("db upgrade"))
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, place: Location | Path) -> Catalog:
        """The catalog at a location, made at the newest schema when there is none. Safe when
        several processes do it at once."""
        location = location_of(place)
        is_missing = isinstance(location, FileLocation) and not location.path.is_file()
        # Tables that are missing are those that a process is making.
        if is_missing or cls.schema_of(location, read_only=False) is None:
            if isinstance(location, FileLocation):
                make_folder(location.path.parent)
            reached("home.made")
            cls.upgrade(location)
        return cls(location)

    @classmethod
    def upgrade(cls, place: Location | Path, *, expected: CatalogFacts | None = None) -> None:
        """Bring the catalog at a location to the newest schema in one transaction, creating it when
        it is not there.

        Raises:
            Busy: it is no longer what was `expected`; nothing was changed.
        """
        location = location_of(place)
        with changing_schema(location) as connection:
            reached("schema.begun")
            if expected is not None and facts_of(connection, location) != expected:
                raise Busy(
                    f"{location} was written while it was backed up; stop what writes to it, and "
                    f"try again"
                )
            schema.upgrade(connection)
            if connection.scalar(select(CatalogState.epoch)) is None:
                state = {"id": 1, "epoch": str(uuid.uuid4()), "created_at": datetime.now(UTC)}
                connection.execute(insert(CatalogState), [state])
            reached("schema.written")
        reached("schema.committed")

    @staticmethod
    def schema_of(place: Location | Path, *, read_only: bool = True) -> str | None:
        """The schema revision of the catalog at a location; None where it has no tables.

        Not `read_only`, it also reads a file whose making was cut short: SQLite first undoes what
        was half done.
        """
        backend = open_backend(location_of(place), read_only=read_only, create=True)
        try:
            with backend.translated(), backend.engine.connect() as connection:
                return schema.current(connection)
        finally:
            backend.engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything read through it is one state."""
        if self._joined.connection is not None:
            yield self._joined.connection
            return
        backend = self._backend
        with (
            stage("transaction"),
            backend.translated(),
            backend.engine.connect() as connection,
            connection.begin(),
        ):
            backend.check(connection)
            yield connection

    def version(self) -> Hashable:
        """A number of the catalog's state, equal for two calls only if no process committed between
        them. Reads no row and takes some microseconds.

        None where states cannot be compared: for a thread that sees its own uncommitted changes
        (see :meth:`together`), and in a home that cannot be written.
        """
        if self._joined.connection is not None:
            return None
        try:
            return self._backend.version()
        except Exception:
            with self._backend.translated():
                raise

    @contextmanager
    def read_at(self, version: Hashable) -> Iterator[Connection]:
        """A read transaction of exactly this version.

        Raises:
            Changed: something was committed since.
        """
        with self.read() as connection:
            self.epoch(connection)  # from the first statement on the transaction's state is fixed
            if self.version() != version:
                raise Changed
            yield connection

    @contextmanager
    def write(self, what: str = "other") -> Iterator[Connection]:
        """A write transaction; durable when the block ends, undone when it raises.

        `what` is one of :data:`trustvlm.system.fault_points.CHANGES`: which steps a test can name.
        """
        joined = self._joined
        if joined.stack is None:
            with self._transaction(what) as connection:
                yield connection
            return
        if joined.connection is None:
            joined.connection = joined.stack.enter_context(self._transaction(what))
        yield joined.connection

    @contextmanager
    def together(self) -> Iterator[None]:
        """Make one transaction of the writes that this thread makes within the block: begun with
        the first of them, durable when the block ends, undone when it raises. Nothing that waits
        for others may be done after the first one."""
        with ExitStack() as stack:
            self._joined.stack = stack
            try:
                yield
            finally:  # before the stack ends: nothing joins a transaction that is being committed
                self._joined.end()

    @contextmanager
    def _transaction(self, what: str) -> Iterator[Connection]:
        backend, author = self._backend, current_author() or self.author
        options = {CHANGE: what, AUTHOR: author}
        with (
            stage("transaction"),
            unbroken(),
            backend.translated(),
            backend.engine.connect().execution_options(**options) as connection,
        ):
            with connection.begin():
                backend.check(connection)
                self.expectation.check(connection, what)
                yield connection
                reached(f"{what}.written")
            backend.check(connection, committed=True)
            reached(f"{what}.committed")

    def epoch(self, connection: Connection) -> str:
        """Identifies this history of the catalog: revisions of different epochs are not
        comparable."""
        epoch: str | None = connection.scalar(_EPOCH)
        if epoch is None:
            raise Damaged(
                f"{self.location} has lost its epoch; run "
                f"{suggested('verify', options='--all --repair')}"
            )
        # A server that was reset to an earlier time goes through the same revisions again.
        history = connection.info.get(HISTORY)
        return epoch if history is None else f"{epoch}/{history}"

    def begin_history(self) -> str:
        """Begin another history of the catalog, after its database was put back to an earlier time;
        its epoch. Caches and snapshots from before are void."""
        with self.write("repair.whole") as connection:
            return renew_epoch(connection)

    def reclaim(self, *, wait: bool = True, rewrite: bool = False) -> Scrubbed | None:
        """Take away what the database keeps of purged rows beside the tables, as far as it can;
        see :meth:`Backend.reclaim`.

        Raises:
            Busy: readers were in its way, for the busy timeout or, without `wait`, just now.
        """
        return self._backend.reclaim(wait=wait, rewrite=rewrite)

    def translated(self) -> AbstractContextManager[None]:
        """Turns the database's errors inside the block into trustvlm's, within a transaction."""
        return self._backend.translated()

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._backend.engine.dispose()


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
