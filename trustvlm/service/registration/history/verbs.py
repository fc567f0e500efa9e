"""The verbs that say what happened to a space, and what it answered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.history import changes as change_rows
from trustvlm.catalog.rows.history import revisions as revision_rows
from trustvlm.catalog.rows.history.changes import Place
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.errors import InvalidInput
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.service.home.home import Home
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.home.verdict_log.writer import trim
from trustvlm.types.bounds import got, whole
from trustvlm.types.messages.placed import placed
from trustvlm.types.rows import ChangePage, HistoryRow
from trustvlm.types.verdict_log import (
    DAYS,
    PAGE,
    ROWS,
    LogFilter,
    LoggedPage,
    LogOptions,
    VerdictLogStatus,
)

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


@placed
class HomeVerdictLog(VerdictLog):
    """What a space of an open home answered."""

    def __init__(
        self, space: str, ready: Callable[[], Home], writable: Callable[[], Home], place: str
    ) -> None:
        self.space, self.place = space, place
        self._ready, self._writable = ready, writable

    def status(self) -> VerdictLogStatus:
        return _status(self._flushed(self._ready()), self.space)

    def _switch(self, options: LogOptions) -> VerdictLogStatus:
        home = self._flushed(self._writable())
        with home.catalog.write("verdict_log") as connection:
            space_id = spaces.find_id(connection, self.space)
            kept = _kept(options, spaces.verdict_log(connection, space_id))
            spaces.set_columns(connection, space_id, verdict_log=kept)
        deleted = log_rows.CHUNK_ROWS if options.discard else 0
        while deleted:
            with home.catalog.write("verdict_log") as connection:
                deleted = log_rows.delete_some(connection, space_id)
        trim(home.catalog, space_id, kept)
        return _status(home, self.space)

    def _page(
        self, which: LogFilter, limit: int | None, cursor: str | None, sample: int | None, seed: int
    ) -> LoggedPage:
        before = None if cursor is None else log_rows.place_of(cursor)
        with self._flushed(self._ready()).catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            if sample is not None:
                ids = np.array(log_rows.ids(connection, space_id, which), dtype=np.int64)
                if len(ids) > sample:
                    ids = np.random.default_rng(seed).choice(ids, sample, replace=False)
                return LoggedPage(tuple(log_rows.by_ids(connection, ids.tolist())), None)
            limit = PAGE if limit is None else limit
            rows = log_rows.page(connection, space_id, which, before, limit + 1)
        following = log_rows.cursor_of(rows[limit - 1]) if len(rows) > limit else None
        return LoggedPage(tuple(rows[:limit]), following)

    def _flushed(self, home: Home) -> Home:
        """The home, after what this process answered before is in the log."""
        home.verdict_writer.flush()
        return home


def _kept(options: LogOptions, before: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the log keeps from now on."""
    old = before or {}
    days = old.get("days", DAYS) if options.days is None else float(options.days)
    rows = old.get("rows", ROWS) if options.rows is None else int(options.rows)
    return {"logging": options.logging, "days": days, "rows": rows}


def _status(home: Home, space: str) -> VerdictLogStatus:
    with home.catalog.read() as connection:
        space_id = spaces.find_id(connection, space)
        kept = spaces.verdict_log(connection, space_id) or _kept(LogOptions(logging=False), None)
        facts = log_rows.facts(connection, space_id, LogFilter())
    stored = facts.accept + facts.review + facts.unknown
    return VerdictLogStatus(**kept, stored=stored, **facts._asdict())
