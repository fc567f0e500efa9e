"""Deletes the rows of logs that are older, or more, than the space keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.verdict_log import rows as log_rows


def trim(catalog: Catalog, space_id: int, kept: Mapping[str, Any]) -> int:
    """Cut the log of a space to what it keeps, in transactions of bounded size; how many rows
    went."""
    total = 0
    while True:
        with catalog.write("verdict_log") as connection:
            number = log_rows.trim_some(connection, space_id, kept["days"], kept["rows"])
        total += number
        if not number:
            return total


def trim_all(catalog: Catalog) -> int:
    """Cut the logs of all spaces, also of those that log no longer; how many rows went. Without
    logs this is one look at the spaces."""
    with catalog.read() as connection:
        logs = spaces.verdict_logs(connection)
        due = {
            space_id: kept
            for space_id, kept in logs.items()
            if log_rows.is_due(connection, space_id, kept["days"], kept["rows"])
        }
    return sum(trim(catalog, space_id, kept) for space_id, kept in due.items())
