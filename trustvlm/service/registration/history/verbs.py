"""The verbs that say what happened to a space, and what it answered."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trustvlm.catalog.rows.history import changes as change_rows
from trustvlm.catalog.rows.history import revisions as revision_rows
from trustvlm.catalog.rows.history.changes import Place
from trustvlm.errors import InvalidInput
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.service.home.home import Home
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.registration.history.verdict_log import HomeVerdictLog
from trustvlm.types.bounds import got, whole
from trustvlm.types.rows import ChangePage, HistoryRow

_PAGE = 1_000
_CURSOR = re.compile(r"([0-9]{1,18})-(label|support)-([0-9]{1,18})")
_LARGEST = 2**63 - 1


class HistoryVerbs(OpenHome):
    """The log of a space's revisions, what changed since one of them, and the log of answers."""

    def verdict_log(self, space: str) -> VerdictLog:
        """The verdict log of a space: what it answered, once the log is switched on."""
        return HomeVerdictLog(space, self._ready, self._writable, self.place)

    def history(self, space: str, since: int = 0) -> Iterator[HistoryRow]:
        """The revisions of a space after `since`, oldest first: when, by whom and by which kind of
        change each was made.

        The log holds the last 100,000 revisions, and none from before the home had a log (schema
        0012). It holds no names of labels: what is purged leaves nothing in it.

        Raises:
            NotFound: no such space. InvalidInput: a negative revision.
        """
        since, home = whole("since", since), self._ready()
        return _revisions(home, home.space(space).id, since)

    def changes(
        self, space: str, since: int = 0, *, limit: int = 1_000, cursor: str | None = None
    ) -> ChangePage:
        """The labels and support images that changed after revision `since`, each once, as it is
        now: what a copy elsewhere must apply to be equal to the space.

        To follow a space, read page after page until `next_cursor` is None, apply them, and begin
        the next time with `since` set to the `revision` of the first page. Where `epoch` is another
        one than before, begin again with `since` 0.

        Args:
            since: 0 lists everything, removed and purged rows too.
            limit: rows of a page, at most 10,000.
            cursor: `next_cursor` of the page before, with the same `since`.

        Raises:
            NotFound: no such space. InvalidInput: a number out of range, or no such cursor.
        """
        since, limit = whole("since", since), whole("limit", limit, bounds="changes")
        after = (since, "support", _LARGEST) if cursor is None else _place(cursor)
        home = self._ready()
        with home.read(space) as (connection, record):
            rows = change_rows.page(connection, record.id, since, after, limit + 1)
            epoch = f"{home.catalog.epoch(connection)}/{record.id}"
        following = None
        if len(rows) > limit:
            last = rows[limit - 1]
            following = f"{last.revision}-{last.kind}-{last.id}"
        complete = since == 0 or since >= record.log_start
        return ChangePage(record.revision, tuple(rows[:limit]), following, complete, epoch)


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


def _place(cursor: object) -> Place:
    """The place that the cursor of a page of changes names. Raises InvalidInput."""
    match = _CURSOR.fullmatch(cursor) if isinstance(cursor, str) else None
    if match is None:
        raise InvalidInput(f"cursor: expected the next_cursor of a page, got {got(cursor)}")
    return int(match[1]), match[2], int(match[3])
