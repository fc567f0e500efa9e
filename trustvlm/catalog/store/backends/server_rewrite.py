"""Writing the files of a catalog's tables again, without what was deleted."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

from trustvlm.catalog.store.models import Base
from trustvlm.errors import Busy
from trustvlm.types.backups import Scrubbed

_SIZE = """
SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class
WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
"""
_STILL_SEEN = re.compile(r"\d+")  # how many deleted rows: the first number of what VACUUM details
_REMAINS = (
    "the server's log keeps purged bytes until it reuses its files; archives of it, backups and "
    "standbys keep them longer"
)


def rewrite(connection: psycopg.Connection[Any]) -> Scrubbed:
    """Rewrite all tables, one after the other; no process reads or writes a table meanwhile. Then
    let the server begin another file of its log, where the role may.

    Raises:
        Busy: a transaction still sees rows that were deleted, so that they are in the new files,
            too. psycopg.Error: another one.
    """
    refused: list[str] = []
    seen: list[str] = []

    def notice(said: psycopg.errors.Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            refused.append(str(said.message_primary))
        elif said.message_detail and (number := _STILL_SEEN.match(said.message_detail)):
            seen.extend([number[0]] if int(number[0]) else [])

    before = _size(connection)
    connection.add_notice_handler(notice)
    try:
        for table in sorted(Base.metadata.tables):
            statement = SQL("VACUUM (FULL, VERBOSE, ANALYZE) {}").format(Identifier(table))
            connection.execute(statement)
    finally:
        connection.remove_notice_handler(notice)
    if seen:
        raise Busy(
            "the tables were rewritten, but a transaction still sees rows that were deleted, so "
            "their bytes are in the new files; end it and scrub again"
        )
    return Scrubbed(before, _size(connection), _switched(connection), (*refused, _REMAINS))


def _size(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(_SIZE).fetchone()
    assert row is not None
    return int(row[0])


def _switched(connection: psycopg.Connection[Any]) -> bool:
    """Whether the server began another file of its log; a plain role may not ask for that."""
    try:
        connection.execute("SELECT pg_switch_wal()")
    except psycopg.errors.InsufficientPrivilege:
        return False
    return True
