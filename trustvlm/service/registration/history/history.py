"""Reads the log of revisions, and the rows that changed since one of them, page by page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trustvlm.catalog.rows.history import changes as change_rows
from trustvlm.catalog.rows.history import revisions as revision_rows
from trustvlm.catalog.rows.history.changes import Place
from trustvlm.errors import InvalidInput
from trustvlm.service.home.home import Home
from trustvlm.types.bounds import got, whole
from trustvlm.types.rows import ChangePage, HistoryRow

_PAGE = 1_000
_CURSOR = re.compile(r"([0-9]{1,18})-(label|support)-([0-9]{1,18})")
_LARGEST = 2**63 - 1


def history(home: Home, space_name: str, since: int) -> Iterator[HistoryRow]:
    """See :meth:`TrustService.history`."""
    since = whole("since", since)
    space = home.space(space_name)
    return _revisions(home, space.id, since)


def _revisions(home: Home, space_id: int, since: int) -> Iterator[HistoryRow]:
    """The revisions of a space after `since`. One transaction a page: none stays open while the
    caller works on the rows."""
    while True:
        with home.catalog.read() as connection:
            rows = revision_rows.page(connection, space_id, since, _PAGE)
        yield from rows
        if len(rows) < _PAGE:
            return
        since = rows[-1].revision


def changes(home: Home, space_name: str, since: int, limit: int, cursor: str | None) -> ChangePage:
    """See :meth:`TrustService.changes`."""
    since, limit = whole("since", since), whole("limit", limit, bounds="changes")
    after = (since, "support", _LARGEST) if cursor is None else _place(cursor)
    with home.read(space_name) as (connection, space):
        rows = change_rows.page(connection, space.id, since, after, limit + 1)
        epoch = f"{home.catalog.epoch(connection)}/{space.id}"
    following = None
    if len(rows) > limit:
        last = rows[limit - 1]
        following = f"{last.revision}-{last.kind}-{last.id}"
    complete = since == 0 or since >= space.log_start
    return ChangePage(space.revision, tuple(rows[:limit]), following, complete, epoch)


def _place(cursor: object) -> Place:
    """The place that the cursor of a page of changes names. Raises InvalidInput."""
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None:
        raise InvalidInput(f"cursor: expected the next_cursor of a page, got {got(cursor)}")
    return int(match[1]), match[2], int(match[3])
