"""Everything that is particular to PostgreSQL: connection settings, transactions, and what its
errors mean.

A write transaction first takes an advisory lock, then reads and writes at READ COMMITTED: writers
follow each other, and each sees all that was committed before it had the lock. (At REPEATABLE READ
the statement that waits for the lock would already fix what is seen.) Readers take no lock and see
one state, REPEATABLE READ. synchronous_commit is on for every role: a commit returns
after the server's log was synced.
"""

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo
from psycopg.pq import Format
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    Engine,
    PoolProxiedConnection,
    any_,
    create_engine,
    event,
    literal,
)
from sqlalchemy.exc import DBAPIError, InvalidatePoolError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from trustvlm.catalog.store.backends import server_upkeep
from trustvlm.catalog.store.backends.copy_rows import (
    copy_rows,
    insert_few,
    last_ids,
    set_column_storage,
    set_last_ids,
)
from trustvlm.catalog.store.backends.database import CHANGE, DATABASE, HISTORY, Database
from trustvlm.catalog.store.backends.server_refusals import why_refused
from trustvlm.catalog.store.columns import json_text, no_text
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.errors import Busy, Damaged, InvalidInput, ReadOnly, TrustVLMError, Unavailable

LOCK_TIMEOUT_S = 30.0
OLDEST_SERVER = 130000
"""PostgreSQL 13, the first that tells its snapshots apart as we ask for it."""

_SERVICE = frozenset({"job", "key"})
"""Kinds of changes that have a lock of their own, for they touch no other table: the progress of a
job need not wait until ten thousand images are committed."""

_CONNECTION = {
    "autocommit": True,  # the driver begins nothing by itself; `_begin` below does
    "connect_timeout": 10,
    # A host that vanished is noticed within half a minute.
    "keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
    "application_name": "trustvlm",
}  # fmt: skip
_SESSION = """
SET search_path TO "{schema}";
SET synchronous_commit TO on;
SET client_encoding TO 'UTF8';
SET timezone TO 'UTC';
SET lock_timeout TO {lock_ms};
SET statement_timeout TO 0;
SET idle_in_transaction_session_timeout TO 0;
SELECT pg_advisory_lock_shared({in_use})
"""
_SERVER = """
SELECT pg_is_in_recovery(), current_setting('server_encoding'),
  current_setting('server_version_num')::int,
  current_setting('fsync'), current_setting('full_page_writes'),
  CASE WHEN pg_is_in_recovery() THEN NULL
    ELSE substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) END
"""
_READ = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"
_WRITE = """
BEGIN ISOLATION LEVEL READ COMMITTED, READ WRITE;
SET LOCAL idle_in_transaction_session_timeout TO '5min';
SELECT pg_advisory_xact_lock({key})
"""

_OWN_TABLES = "pg_catalog."

IN_USE = "in use"
"""Name of the lock that every connection to a catalog shares: what puts another catalog into its
place takes it alone."""

_open: weakref.WeakSet[psycopg.Connection[Any]] = weakref.WeakSet()
"""The connections of this process."""


def _among(column: Any, values: Sequence[Any]) -> ColumnElement[bool]:
    """One array in place of many parameters: a quarter of the time, of the server and here."""
    values_array: ColumnElement[Any] = literal(list(values), ARRAY(column.type))
    is_one: ColumnElement[bool] = column == any_(values_array)
    return is_one


_DATABASE = Database(
    "PostgreSQL",
    server_upkeep.problems,
    server_upkeep.broken_references,
    server_upkeep.indexes,
    server_upkeep.rebuild_index,
    last_ids,
    set_last_ids,
    _among,
    copy_rows,
    set_column_storage,
    insert_few,
)


class _BinaryCursor(psycopg.Cursor[Any]):
    """Gets results in binary form: as text, vectors take twice the time. Rows of the server's
    system tables come as text, which SQLAlchemy reads."""

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        self.format = Format.TEXT if _OWN_TABLES in str(query) else Format.BINARY
        return super().execute(query, *args, **options)


class _BinaryServerCursor(psycopg.ServerCursor[Any]):
    """Gets results that are fetched in parts in binary form, see :class:`_BinaryCursor`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.format = Format.BINARY


def make_engine(location: ServerLocation) -> Engine:
    """An engine over a schema of a server; connections begin transactions as their option
    :data:`~trustvlm.catalog.store.backends.database.CHANGE` says."""
    _check_options(location)
    engine = create_engine(
        location.url,
        connect_args=_CONNECTION | {"cursor_factory": _BinaryCursor},
        use_native_hstore=False,
        pool_size=location.pool,
        max_overflow=0,
        pool_use_lifo=True,  # the server plans a statement once for each connection
        pool_timeout=LOCK_TIMEOUT_S,
        hide_parameters=True,
        json_serializer=json_text,
        execution_options={DATABASE: _DATABASE},
    )

    def connect(connection: psycopg.Connection[Any], record: Any) -> None:
        try:
            record.info[HISTORY] = _set_up(connection, location)
        except BaseException:
            connection.close()
            raise

    def begin(connection: Connection) -> None:
        _begin(connection, location)

    event.listen(engine, "connect", connect)
    event.listen(engine, "checkout", _look_for_end)
    event.listen(engine, "begin", begin)
    return engine


def _set_up(connection: psycopg.Connection[Any], location: ServerLocation) -> str:
    """Make a new connection one for catalogs; which of its server's histories it reads."""
    _open.add(connection)
    connection.server_cursor_factory = _BinaryServerCursor
    # A cursor of the driver: it takes several statements at once.
    cursor = psycopg.Cursor(connection)
    lock_ms = int(1000 * LOCK_TIMEOUT_S)
    in_use = lock_key(location, IN_USE)
    settings = _SESSION.format(schema=location.schema, lock_ms=lock_ms, in_use=in_use)
    cursor.execute(settings.encode())
    row = cursor.execute(_SERVER).fetchone()
    assert row is not None
    *facts, history = row
    _refuse_unfit(location, *facts)
    return str(history)


def _check_options(location: ServerLocation) -> None:
    """Raises InvalidInput where the URL has an option that the driver does not know."""
    try:
        make_conninfo("", **dict[str, Any](location.url.query))
    except psycopg.ProgrammingError as error:
        raise InvalidInput(f"database_url: {str(error).strip()}") from error


def _refuse_unfit(
    location: ServerLocation,
    standby: bool,
    encoding: str,
    version: int,
    fsync: str,
    full_page_writes: str,
) -> None:
    """Raises Unavailable where a server cannot keep what a catalog promises."""
    if standby:
        raise Unavailable(
            f"{location} is a standby, which lags behind and cannot be written: give the URL of "
            f"the primary server"
        )
    if version < OLDEST_SERVER:
        raise Unavailable(f"{location} runs PostgreSQL {version // 10000}; expected 13 or newer")
    if encoding != "UTF8":
        raise Unavailable(
            f"{location} stores text as {encoding}; expected a database with the encoding UTF8 "
            f"('createdb --encoding=UTF8 --template=template0 NAME' makes one)"
        )
    off = [
        f"{name}=off"
        for name, value in (("fsync", fsync), ("full_page_writes", full_page_writes))
        if value == "off"
    ]
    if off and not location.unsafe:
        raise Unavailable(
            f"{location} runs with {' and '.join(off)}: a power cut would lose what was "
            f"acknowledged; turn it on (the setting database_unsafe=true opens it nevertheless, "
            f"for tests)"
        )


def _begin(connection: Connection, location: ServerLocation) -> None:
    """Begin the transaction of a connection: one round trip, and for a writer the wait for the
    lock."""
    change = connection.get_execution_options().get(CHANGE)
    driver = connection.connection.driver_connection
    assert driver is not None
    lock_class = "service" if change in _SERVICE else "catalog"
    statement = _READ if change is None else _WRITE.format(key=lock_key(location, lock_class))
    cursor = psycopg.Cursor(driver)
    try:
        cursor.execute(statement.encode())
        if change == "schema":
            _make_schema(cursor, location.schema)
    except psycopg.Error as error:
        if driver.closed:
            connection.invalidate(error)
        raise


def _make_schema(cursor: psycopg.Cursor[Any], schema: str) -> None:
    """Make the schema where it is missing; one that is there needs no right to make others."""
    if cursor.execute("SELECT to_regnamespace(%s)", [f'"{schema}"']).fetchone() == (None,):
        cursor.execute(f'CREATE SCHEMA "{schema}"'.encode())


def lock_key(location: ServerLocation, name: str) -> int:
    """The number of an advisory lock of a catalog; all catalogs of a database share the numbers."""
    digest = blake2b(f"trustvlm/{location.schema}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def end(connection: PoolProxiedConnection) -> None:
    """Close a connection that was taken out of the pool, even one whose server has ended."""
    driver = connection.dbapi_connection
    connection.invalidate()  # the pool would first ask the server to roll back
    if driver is not None:
        driver.close()


def _look_for_end(connection: psycopg.Connection[Any], record: Any, proxy: Any) -> None:
    """Pass over a connection that has ended while it was in the pool: the server was restarted."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    if connection.closed or poll.poll(0):  # a server that is not asked says nothing but goodbye
        raise InvalidatePoolError


def _leave_to_parent() -> None:
    """After a fork: what the child does to connections, such as closing them, must not reach the
    server, for which they are the parent's."""
    nowhere = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for connection in list(_open):
        if not connection.closed:
            os.dup2(nowhere, connection.fileno(), inheritable=False)
    os.close(nowhere)


os.register_at_fork(after_in_child=_leave_to_parent)


@contextmanager
def translated(location: ServerLocation) -> Iterator[None]:
    """Turns PostgreSQL's errors inside the block into trustvlm's. Their public messages name no
    host, user or schema."""
    try:
        with _translated(location):
            yield
    except TrustVLMError as error:
        if error.public is None and str(location) in str(error):
            error.public = str(error).replace(str(location), "the database")
        raise


@contextmanager
def _translated(location: ServerLocation) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        raise _meaning(error.orig, location) from error
    except psycopg.Error as error:
        raise _meaning(error, location) from error
    except OSError as error:
        raise Unavailable(f"{location}: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise no_text(error) from error
    except PoolTimeout as error:
        raise Busy(
            f"more than {location.pool} calls at once on {location}, for {LOCK_TIMEOUT_S:g} s; "
            f"try again, or raise the setting database_pool"
        ) from error


_BUSY = f"another process kept the write lock for more than {LOCK_TIMEOUT_S:g} s; try again"
_MEANINGS: dict[str, tuple[type[TrustVLMError], str]] = {
    "22021": (InvalidInput, "a text holds a character that cannot be stored"),
    "25006": (ReadOnly, "it can only be read"),
    "25P03": (Unavailable, "the call took too long between two statements; try again"),
    "28": (Unavailable, "the server refuses the login"),
    "40": (Busy, "another transaction was in the way; try again"),
    "25P02": (Damaged, "a statement before this one has failed; a backup brings back what is lost"),
    "42501": (Unavailable, "the role has no right to do this; grant it, or give another user"),
    "42703": (Damaged, "a column is missing; a backup brings it back"),
    "42P01": (Damaged, "a table is missing; a backup brings it back"),
    "53": (Unavailable, "the server has no room left; check its disk, memory and connections"),
    "55P03": (Busy, _BUSY),
    "57": (Unavailable, "the server stopped the statement; try again"),
    "58": (Unavailable, "the server cannot read or write; check its disk"),
    "XX": (Damaged, "the server's files are damaged; a backup brings them back"),
}
"""What an SQLSTATE means, by its five characters or by its class, the first two."""


def _meaning(error: Any, location: ServerLocation) -> TrustVLMError:
    """The error of ours that stands for one of the driver."""
    state = getattr(error, "sqlstate", None)
    if state is None and isinstance(error, psycopg.DataError):
        state = "22021"  # the driver refuses a NUL
    details = " ".join(str(error).split())
    kind, what = _MEANINGS.get(state or "", _MEANINGS.get((state or "")[:2], (None, "")))
    if (state or "08")[:2] in ("08", "3D") and isinstance(error, psycopg.OperationalError):
        kind, what = Unavailable, why_refused(details)  # there is no connection, or none any more
    if kind is None:
        raise error  # a fault of ours, not of the user's: let it show
    meant = kind(f"{location}: {what} (PostgreSQL: {details:.300})")
    meant.public = f"the database: {what}"
    return meant
