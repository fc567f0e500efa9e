"""One catalog: its file, its engine, and the two kinds of transaction."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, insert, select, text

from trustvlm.catalog.rows.expectation import Expectation
from trustvlm.catalog.store import schema, sqlite
from trustvlm.catalog.store.file_identity import FileIdentity
from trustvlm.catalog.store.models import CatalogState
from trustvlm.catalog.store.sqlite import make_engine, translated
from trustvlm.catalog.upkeep.copy_catalog import facts_of
from trustvlm.errors import Busy, Damaged, NotFound
from trustvlm.system.durable import make_folder
from trustvlm.system.fault_points import reached
from trustvlm.system.signals import unbroken
from trustvlm.types.backups import CatalogFacts

__all__ = ["Catalog"]

_EPOCH = select(CatalogState.epoch)


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

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        """Open the catalog file `path`.

        Raises:
            NotFound: there is none.
            SchemaMismatch: it is older or newer than this program.
        """
        if not path.is_file():
            raise NotFound(f"no catalog at {path}")
        self.path = path
        self.read_only = read_only
        self._joined = _JoinedWrites()
        self.expectation = Expectation()
        self._identity = FileIdentity(path)
        self._engine = make_engine(path, read_only=read_only)
        try:
            with self.read() as connection:
                schema.check(connection, path.parent)
        except BaseException:
            self.close()
            raise

    @classmethod
    def create(cls, path: Path) -> Catalog:
        """The catalog at `path`, made at the newest schema when there is none. Safe when several
        processes do it at once."""
        # A file without tables is one that a process is making.
        if not path.is_file() or cls.schema_of(path, read_only=False) is None:
            make_folder(path.parent)
            reached("home.made")
            cls.upgrade(path)
        return cls(path)

    @classmethod
    def upgrade(cls, path: Path, *, expected: CatalogFacts | None = None) -> None:
        """Bring the file `path` to the newest schema in one transaction, creating it when it is not
        there.

        Raises:
            Busy: it is no longer what was `expected`; nothing was changed.
        """
        engine = make_engine(path, read_only=False)
        try:
            with (
                unbroken(),
                translated(path),
                engine.connect().execution_options(write=True) as connection,
                connection.begin(),
            ):
                reached("schema.begun")
                if expected is not None and facts_of(connection, path) != expected:
                    raise Busy(
                        f"{path} was written while it was backed up; stop what writes to it, "
                        f"and try again"
                    )
                schema.upgrade(connection)
                if connection.scalar(select(CatalogState.epoch)) is None:
                    state = {"id": 1, "epoch": str(uuid.uuid4()), "created_at": datetime.now(UTC)}
                    connection.execute(insert(CatalogState), [state])
                reached("schema.written")
            reached("schema.committed")
        finally:
            engine.dispose()

    @staticmethod
    def schema_of(path: Path, *, read_only: bool = True) -> str | None:
        """The schema revision of the file `path`; None for an empty file.

        Not `read_only`, it also reads a file whose making was cut short: SQLite first undoes what
        was half done.
        """
        engine = make_engine(path, read_only=read_only)
        try:
            with translated(path), engine.connect() as connection:
                return schema.current(connection)
        finally:
            engine.dispose()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A read transaction: everything read through it is one state."""
        if self._joined.connection is not None:
            yield self._joined.connection
            return
        with translated(self.path), self._engine.connect() as connection, connection.begin():
            self._identity.check(connection)
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
        with (
            unbroken(),
            translated(self.path),
            self._engine.connect().execution_options(write=True) as connection,
        ):
            with connection.begin():
                self._identity.check(connection)
                self.expectation.check(connection, what)
                yield connection
                reached(f"{what}.written")
            self._identity.check(connection, committed=True)
            reached(f"{what}.committed")

    def epoch(self, connection: Connection) -> str:
        """Identifies this history of the catalog: revisions of different epochs are not
        comparable."""
        epoch: str | None = connection.scalar(_EPOCH)
        if epoch is None:
            raise Damaged(f"{self.path} has lost its epoch; run 'trustvlm verify --all --repair'")
        return epoch

    def checkpoint(self, *, wait: bool = True) -> None:
        """Move the write-ahead log into the file and truncate it (after a purge, so that nothing
        purged stays in the log).

        Raises:
            Busy: readers kept the log in use, for the busy timeout or, without `wait`, just now.
        """
        milliseconds = int(1000 * sqlite.BUSY_TIMEOUT_S)
        deadline = time.monotonic() + (sqlite.BUSY_TIMEOUT_S if wait else 0)
        with (
            translated(self.path),
            self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection,
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
                f"the log of {self.path} was in use all the time, so purged rows are still in "
                f"it; purge again"
            )

    def close(self) -> None:
        """Close every connection that is not in use."""
        self._engine.dispose()
