"""The ids that PostgreSQL gives to rows: each table has a sequence, which never gives one twice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import Connection, text

_LAST = text(
    "SELECT pg_sequence_last_value(CAST(pg_get_serial_sequence(:table, 'id') AS regclass))"
)
_SET = text("SELECT setval(CAST(pg_get_serial_sequence(:table, 'id') AS regclass), :last)")


def last_ids(connection: Connection, tables: Sequence[str]) -> dict[str, int]:
    """The highest id that each table ever gave, 0 for none."""
    return {table: connection.scalar(_LAST, {"table": table}) or 0 for table in tables}


def set_last_ids(connection: Connection, ids: Mapping[str, int]) -> None:
    """Make the next ids higher than these."""
    for table, last in ids.items():
        if last:
            connection.execute(_SET, {"table": table, "last": last})
