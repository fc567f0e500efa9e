"""The verdict log of one space, as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.service.home.home import Home
from trustvlm.service.home.verdict_log.writer import trim
from trustvlm.types.messages.placed import placed
from trustvlm.types.verdict_log import (
    DAYS,
    PAGE,
    ROWS,
    LogFilter,
    LoggedPage,
    LogOptions,
    VerdictLogStatus,
)


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
