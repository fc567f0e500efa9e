"""The verdict log of one space, as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.errors import InvalidInput
from trustvlm.reading.verdict_log.files import LogFiles
from trustvlm.service.home.home import Home
from trustvlm.service.home.verdict_log.trim import trim
from trustvlm.types.bounds import flags, whole
from trustvlm.types.verdict_log import (
    DAYS,
    ROWS,
    LogFilter,
    LoggedPage,
    LogOptions,
    VerdictLogStatus,
)


class VerdictLog(LogFiles):
    """What a space answered, where it logs that: see docs/history.md. Made by
    :meth:`TrustService.verdict_log`.

    Errors of every method: NotFound for an unknown space.
    """

    def __init__(self, space: str, ready: Callable[[], Home], writable: Callable[[], Home]) -> None:
        self.space = space
        self._ready, self._writable = ready, writable

    def status(self) -> VerdictLogStatus:
        """Whether the space logs, what it keeps, and what is there."""
        return _status(self._flushed(self._ready()), self.space)

    def switch(
        self,
        logging: bool,
        *,
        days: float | None = None,
        rows: int | None = None,
        discard: bool = False,
    ) -> VerdictLogStatus:
        """Switch the log on or off. Every process logs from its next call on.

        Args:
            days: age at which a row is deleted, 0.001 to 36,500; None: as it is, at first 30. This
                goes on while the log is off.
            rows: newest rows that are kept, 1 to 10,000,000; None: as it is, at first 100,000.
            discard: delete the rows that are there.

        Raises:
            InvalidInput: a number out of range. ReadOnly: the home cannot be written.
        """
        flags(logging=logging, discard=discard)
        options = LogOptions(logging=bool(logging), days=days, rows=rows, discard=bool(discard))
        home = self._flushed(self._writable())
        with home.catalog.write("verdict_log") as connection:
            space_id = spaces.find_id(connection, self.space)
            kept = _kept(options, spaces.verdict_log(connection, space_id))
            spaces.set_verdict_log(connection, space_id, kept)
        deleted = log_rows.CHUNK_ROWS if discard else 0
        while deleted:
            with home.catalog.write("verdict_log") as connection:
                deleted = log_rows.delete_some(connection, space_id)
        trim(home.catalog, space_id, kept)
        return _status(home, self.space)

    def page(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        decision: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> LoggedPage:
        """Rows of the log, newest first.

        Args:
            since, until: answered at or after, and before a time with a time zone.
            decision: "accept", "review" or "unknown". label: the predicted label, by its name
                then. request_id: of an HTTP request.
            limit: most rows of the page, up to 10,000. cursor: the `next_cursor` of the page
                before, with the same filter.
            sample: in place of a page, this number of rows drawn at random, each with the same
                chance; all, where there are fewer. seed: the same draw for the same rows.

        Raises:
            InvalidInput: a value out of range, or a cursor beside a sample.
        """
        which = LogFilter(
            since=since, until=until, decision=decision, label=label, request_id=request_id
        ).checked()
        most = whole("limit", limit, bounds="log_page")
        before = None if cursor is None else log_rows.place_of(cursor)
        drawn = None if sample is None else whole("sample", sample, bounds="log_page")
        seed = whole("seed", seed)
        if cursor is not None and drawn is not None:
            raise InvalidInput("sample: a sample is one page; leave out the cursor")
        with self._flushed(self._ready()).catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            if drawn is not None:
                ids = np.array(log_rows.ids(connection, space_id, which), dtype=np.int64)
                if len(ids) > drawn:
                    ids = np.random.default_rng(seed).choice(ids, drawn, replace=False)
                return LoggedPage(tuple(log_rows.by_ids(connection, ids.tolist())), None)
            rows = log_rows.page(connection, space_id, which, before, most + 1)
        following = log_rows.cursor_of(rows[most - 1]) if len(rows) > most else None
        return LoggedPage(tuple(rows[:most]), following)

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
