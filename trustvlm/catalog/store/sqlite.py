"""Everything that is particular to SQLite: connection settings, transactions, and what its errors
mean.

WAL with synchronous=FULL: a commit returns after the log was synced, so what was acknowledged
survives a power cut. Writers begin with BEGIN IMMEDIATE and wait for each other; readers never wait
and see one consistent state.
"""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from json import JSONDecodeError
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import ColumnElement, Connection, Engine, SQLColumnExpression, create_engine, event
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import NullPool, QueuePool

from trustvlm.catalog.store.backends.database import CHANGE, DATABASE, MOST_PROBLEMS, Database
from trustvlm.catalog.store.columns import json_text, no_text
from trustvlm.errors import Busy, Damaged, ReadOnly, TrustVLMError, Unavailable
from trustvlm.types.messages.commands import suggested

BUSY_TIMEOUT_S = 30.0
POOL_SIZE = 64
"""Transactions that one process may have open at once."""
PAGE_SIZE = 16384
"""Bytes. A 768-d float32 vector is 3 KB: at the default of 4 KB each page would hold one and waste
a quarter."""

CHECKPOINT_PAGES = 4_000
"""Pages of the log after which SQLite copies them into the file: 64 MB, some chunks of a bulk
registration, so that pages of the indexes, which every chunk touches, are copied and synced once
for all of them."""

CACHE_KIB = 16 * 1024
"""Of each connection: what a transaction writes at most (16 MB of vectors). The pool goes round its
connections, so that the cache of each is filled in time: with 64 MiB a service that is written to
took half a gigabyte for them."""

_DAMAGED = ("malformed", "not a database", "could not decode", "no such table", "no such column")
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)
_UNAVAILABLE = ("database or disk is full", "disk i/o error", "unable to open database file")
_TO_OPEN = 64 * 1024
"""Bytes that the folder of a catalog needs to be opened, by readers, too: SQLite puts the index of
its log there."""


def make_engine(path: Path, *, read_only: bool) -> Engine:
    """An engine over the SQLite file `path`; connections begin transactions as their option
    :data:`~trustvlm.catalog.store.backends.database.CHANGE` says."""

    unwritable = read_only and not os.access(path.parent, os.W_OK)

    def connect() -> sqlite3.Connection:
        location = f"file:{quote(str(path))}"
        if read_only:
            location += "?mode=ro"
            wal = path.with_name(path.name + "-wal")
            if unwritable and not (wal.exists() and wal.stat().st_size):
                # no shared-memory file can be made here, and nothing is in the log
                location += "&immutable=1"
        # isolation_level None: the driver begins nothing by itself; `_begin` below does.
        connection = sqlite3.connect(
            location,
            uri=True,
            timeout=BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
        cursor = connection.cursor()
        if not read_only:
            # Takes effect only before the first table.
            cursor.execute(f"PRAGMA page_size={PAGE_SIZE}")
            _enter_wal(cursor)
            cursor.execute("PRAGMA synchronous=FULL")
            cursor.execute("PRAGMA secure_delete=ON")
            cursor.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
        cursor.close()
        return connection

    # An immutable connection never looks at the file again, but its owner may write: a new one for
    # each transaction.
    pool: dict[str, Any] = {"poolclass": NullPool}
    if not unwritable:
        sizes = {"pool_size": 8, "max_overflow": POOL_SIZE - 8, "pool_timeout": BUSY_TIMEOUT_S}
        pool = {"poolclass": QueuePool} | sizes
    database = Database(
        "SQLite", problems, broken_references, indexes, rebuild_index, _last_ids, _set_last_ids,
        _among,
    )  # fmt: skip
    options = {DATABASE: database}
    engine = create_engine(
        "sqlite://", creator=connect, json_serializer=json_text, execution_options=options, **pool
    )
    event.listen(engine, "begin", _begin)
    event.listen(engine, "invalidate", _give_up)
    return engine


def _enter_wal(cursor: sqlite3.Cursor) -> None:
    """Two processes that both make the file a WAL one: SQLite answers one of them "locked" at once,
    without its timeout."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _begin(connection: Connection) -> None:
    write = CHANGE in connection.get_execution_options()
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _give_up(connection: sqlite3.Connection, record: Any, error: BaseException | None) -> None:
    """Undo what a connection was doing that SQLAlchemy drops, as it does after Ctrl-C within a
    statement.

    Closing alone does not: SQLite keeps a closed connection, and its write lock, as long as
    a cursor of it is held, and the traceback of the exception does.
    """
    connection.rollback()


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turns SQLite's errors inside the block into trustvlm's."""
    try:
        yield
    except DBAPIError as error:
        raise _meaning(error.orig, path) from error
    except sqlite3.Error as error:
        raise _meaning(error, path) from error
    # Of a column: what users write as JSON is not read inside a transaction.
    except JSONDecodeError as error:
        raise Damaged(
            f"{path} holds a value that is no JSON ({error}); run "
            f"{suggested('verify', options='--all')}"
        ) from error
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        raise Unavailable(
            f"{path}: {error.strerror}; check the disk's free space and health"
        ) from error
    except UnicodeEncodeError as error:
        raise no_text(error) from error
    except PoolTimeout as error:
        raise Busy(
            f"more than {POOL_SIZE} calls at once on {path}, for {BUSY_TIMEOUT_S:g} s; try again"
        ) from error


def _meaning(error: Any, path: Path) -> TrustVLMError:
    message = str(error)
    lower = message.lower()
    if "locked" in lower or "busy" in lower:
        return Busy(
            f"another process kept the write lock of {path} for more than {BUSY_TIMEOUT_S:g} s; "
            f"try again"
        )
    if "readonly" in lower or "read-only" in lower:
        return ReadOnly(
            f"{path.parent} cannot be written (SQLite: {message}); open it with read_only=True "
            f"or make it writable"
        )
    if any(part in lower for part in _DAMAGED):
        return Damaged(
            f"{path} is not a sound SQLite file ({message}); "
            f"{suggested('verify', options='--all')} looks closer, a backup brings it back"
        )
    if any(part in lower for part in _UNAVAILABLE):
        return Unavailable(f"{path}: {message}; {_remedy(path)}")
    raise error  # a fault of ours, not of the user's: let it show


def _remedy(path: Path) -> str:
    """What to do where SQLite cannot open, read or write the file of a catalog."""
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError):  # the folder cannot be reached either
        if shutil.disk_usage(path.parent).free < _TO_OPEN:
            return f"the disk is full: make room; to read a home, too, takes {_TO_OPEN >> 10} KiB"
        if not os.access(path.parent, os.W_OK) and log.stat().st_size:
            return (
                f"{log.name} holds changes, which can be read only where the folder can be "
                f"written: open the home once there, or copy it with that file and open the copy"
            )
    return "check the disk's free space and permissions"


def problems(connection: Connection) -> list[str]:
    """What SQLite finds wrong with the file: its pages, its indexes, values missing where there
    must be one."""
    messages = connection.exec_driver_sql(f"PRAGMA integrity_check({MOST_PROBLEMS})")
    return [str(message) for (message,) in messages if message != "ok"]


def broken_references(connection: Connection) -> Iterator[tuple[str, int, str]]:
    """(table, row id, table that it points into) of each foreign key that points to nothing."""
    for table, row_id, parent, _ in connection.exec_driver_sql("PRAGMA foreign_key_check"):
        yield table, row_id, parent


def indexes(connection: Connection) -> list[str]:
    """The names of the indexes that can be rebuilt."""
    query = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL ORDER BY name"
    return [name for (name,) in connection.exec_driver_sql(query)]


def rebuild_index(connection: Connection, name: str) -> None:
    """Rebuild an index from its table, or drop it where damaged rows break its uniqueness: while
    it is there and disagrees with its table, SQLite refuses to mend these."""
    quoted = name.replace('"', '""')
    try:
        connection.exec_driver_sql(f'REINDEX "{quoted}"')
    except IntegrityError:
        connection.exec_driver_sql(f'DROP INDEX "{quoted}"')


def _last_ids(connection: Connection, tables: Sequence[str]) -> dict[str, int]:
    rows = connection.exec_driver_sql("SELECT name, seq FROM sqlite_sequence")
    last: dict[str, int] = {name: number for name, number in rows}
    return {table: last.get(table, 0) for table in tables}


def _set_last_ids(connection: Connection, ids: Mapping[str, int]) -> None:
    for table, last in ids.items():
        if not last:
            continue
        connection.exec_driver_sql("DELETE FROM sqlite_sequence WHERE name = ?", (table,))
        insert = "INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)"
        connection.exec_driver_sql(insert, (table, last))


def _among(column: SQLColumnExpression[Any], values: Sequence[Any]) -> ColumnElement[bool]:
    return column.in_(values)
