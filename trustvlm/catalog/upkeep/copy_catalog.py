"""Copies of catalogs of any schema: made while others write, described, given a new epoch.

A copy is made page by page (SQLite's backup API) inside one read transaction. In WAL mode a reader
keeps no writer waiting and no writer changes what a reader sees, so the copy is one state of the
catalog, needs no write lock at all, and ends after one pass however much is written meanwhile;
outside a transaction the backup API would start over with each foreign commit. VACUUM INTO would
give a smaller file, at several times the processor's work and of a transaction's length. What it
costs: until it ends, the write-ahead log cannot be reset, and grows with what is written.

Only columns are named here that every schema since 0001 has.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, create_engine, func, insert, inspect, select, text, update

from trustvlm.catalog.store import schema
from trustvlm.catalog.store.backends.database import CHANGE
from trustvlm.catalog.store.location import Location
from trustvlm.catalog.store.models import CatalogState, Label, Space, Support
from trustvlm.catalog.store.sqlite import make_engine, translated
from trustvlm.errors import Busy, Damaged, Unavailable
from trustvlm.system.files.durable import sync
from trustvlm.types.backups import CatalogFacts, SpaceFacts
from trustvlm.types.messages.commands import suggested


def copy_catalog(
    source: Path, target: Path, pages: int, progress: Callable[[int, int], None] | None = None
) -> None:
    """Copy the catalog `source`, as it is at one moment, to the new file `target`, which is on disk
    when this returns.

    Args:
        progress: called with (bytes done, bytes in all) after each `pages` pages.

    Raises:
        Damaged, Busy, Unavailable: the source cannot be read, or the target not be written.
    """
    engine = make_engine(source, read_only=True)
    try:
        with (
            translated(source),
            engine.connect() as connection,
            connection.begin(),
            closing(sqlite3.connect(target)) as copy,
        ):
            page = connection.scalar(text("PRAGMA page_size")) or 0
            # The first read fixes the state that is copied.
            connection.scalar(select(func.count()).select_from(text("sqlite_master")))
            copy.execute("PRAGMA synchronous=OFF")  # synced once, below

            def report(status: int, remaining: int, total: int) -> None:
                if progress is not None:
                    progress(page * (total - remaining), page * total)

            driver = connection.connection.driver_connection
            assert driver is not None
            try:
                driver.backup(copy, pages=pages, progress=report, sleep=0)
            except sqlite3.OperationalError as error:
                if "malformed" in str(error):
                    raise
                raise Unavailable(
                    f"{target.parent} cannot hold a copy of {source}: {error}"
                ) from error
    finally:
        engine.dispose()
    sync(target)


@contextmanager
def _at_rest(path: Path) -> Iterator[Connection]:
    """A connection to a catalog that no process writes; nothing appears beside the file, and
    nothing in it is trusted."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True)
        connection.execute("PRAGMA trusted_schema=OFF")
        return connection

    engine = create_engine("sqlite://", creator=connect)
    try:
        with translated(path), engine.connect() as connection:
            yield connection
    finally:
        engine.dispose()


def facts(path: Path) -> CatalogFacts:
    """What the catalog `path`, which no process writes, is, after SQLite's own check of its
    structure.

    Raises:
        Damaged: it is no sound SQLite file, or no catalog. SchemaMismatch: it is newer than this
            program.
    """
    with _at_rest(path) as connection:
        check = str(connection.scalar(text("PRAGMA quick_check(1)")))
        if check != "ok":
            raise Damaged(
                f"{path} is not a sound SQLite file ({check.splitlines()[-1]:.200}); see "
                f"{suggested('verify', options='--all')}"
            )
        others = (
            "SELECT type || ' ' || name FROM sqlite_master WHERE type NOT IN ('table', 'index')"
        )
        if (other := connection.scalar(text(f"{others} LIMIT 1"))) is not None:
            raise Damaged(f"{path} holds the {other}; a catalog has tables and indexes only")
        return facts_of(connection, path)


def facts_of(connection: Connection, place: Location | Path) -> CatalogFacts:
    """What a catalog is, without a check of its structure.

    Raises:
        Damaged: it is no catalog. SchemaMismatch: it is newer than this program.
    """
    revision = schema.current(connection)
    if revision is None:
        raise Damaged(f"{place} is no catalog of trustvlm: it has no schema")
    schema.refuse_newer(revision)
    epoch = connection.scalar(select(CatalogState.epoch))
    if epoch is None:
        raise Damaged(f"{place} has lost its epoch; restore a backup")
    # Both are counted in an index that holds no vectors.
    labels = _live_counts(connection, Label, Label.name)
    supports = _live_counts(connection, Support, Support.content_hash)
    live = select(Space.id, Space.name, Space.revision).where(Space.removed_at.is_(None))
    spaces = [
        SpaceFacts(row.name, row.revision, labels.get(row.id, 0), supports.get(row.id, 0))
        for row in connection.execute(live)
    ]
    return CatalogFacts(revision, epoch, tuple(sorted(spaces, key=lambda space: space.name)))


def _live_counts(connection: Connection, table: Any, column: Any) -> dict[int, int]:
    """Space id → number of live rows."""
    live = select(table.space_id, func.count(column)).where(table.removed_revision.is_(None))
    return {row[0]: row[1] for row in connection.execute(live.group_by(table.space_id))}


def renew_epoch(connection: Connection) -> str:
    """Begin another history: every cache and snapshot of the catalog, in every process, is void
    once this commits."""
    epoch = str(uuid.uuid4())
    if not connection.execute(update(CatalogState).values(epoch=epoch)).rowcount:
        state = {"id": 1, "epoch": epoch, "created_at": datetime.now(UTC)}
        connection.execute(insert(CatalogState), [state])
    return epoch


def disown_originals(connection: Connection) -> None:
    """Let a copy of a catalog, of any schema, have no shared folder of originals: that of the
    catalog it was copied from is not its own."""
    columns = {column["name"] for column in inspect(connection).get_columns("catalog_state")}
    if "originals_id" in columns:
        connection.execute(update(CatalogState).values(originals_id=None))


def renew_epoch_of(path: Path) -> None:
    """Begin another history of a catalog file that no process has open, of any schema; no log is
    left beside it."""
    engine = make_engine(path, read_only=False)
    try:
        with (
            translated(path),
            engine.connect().execution_options(**{CHANGE: "repair"}) as connection,
            connection.begin(),
        ):
            renew_epoch(connection)
            disown_originals(connection)
    finally:
        engine.dispose()  # the last connection moves the log into the file, and takes it away


@contextmanager
def unused(path: Path) -> Iterator[None]:
    """Keep every other process away from the catalog `path` within the block.

    The file may be renamed there, with its folder: no log lies beside it. (SQLite looks for the log
    by name, so that renaming a file in use would give it the log of another.)

    Raises:
        Busy: another process has it open. Damaged, Unavailable: it cannot be read.
    """
    uri = f"file:{quote(str(path))}?mode=rw"
    with closing(sqlite3.connect(uri, uri=True, timeout=1.0, isolation_level=None)) as connection:
        try:
            with translated(path):
                # Needs to be alone; opening makes it WAL again.
                connection.execute("PRAGMA journal_mode=DELETE").fetchone()
                connection.execute("BEGIN EXCLUSIVE")
        except Busy as error:
            raise Busy(
                f"{path.parent} is in use by another process; stop what uses it and try again"
            ) from error
        try:
            yield
        finally:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
