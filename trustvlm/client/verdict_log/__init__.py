"""The verdict log of a space elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trustvlm.client.codec import options_query, read
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.reading.verdict_log.files import LogFiles
from trustvlm.types.bounds import flags, whole
from trustvlm.types.verdict_log import LogFilter, LoggedPage, LogOptions, VerdictLogStatus

__all__ = ["VerdictLog"]


class VerdictLog(LogFiles):
    """What a space elsewhere answered; see :meth:`trustvlm.TrustService.verdict_log`, whose methods
    these are. Made by :meth:`Client.verdict_log`."""

    def __init__(self, wire: Wire, space: str) -> None:
        self._wire, self.space = wire, space
        self._path = path_of("spaces", space, "verdict-log")

    def status(self) -> VerdictLogStatus:
        """Whether the space logs, what it keeps, and what is there."""
        return read(VerdictLogStatus, self._wire.ask("GET", self._path))

    def switch(
        self,
        logging: bool,
        *,
        days: float | None = None,
        rows: int | None = None,
        discard: bool = False,
    ) -> VerdictLogStatus:
        """Switch the log on or off, and say what it keeps. Raises InvalidInput: a number out of
        range."""
        flags(logging=logging, discard=discard)
        options = LogOptions(logging=bool(logging), days=days, rows=rows, discard=bool(discard))
        answer = self._wire.ask("POST", self._path, body=json_body(vars(options)), write=True)
        return read(VerdictLogStatus, answer)

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
        """Rows of the log, newest first; with `sample`, that many drawn at random. Raises
        InvalidInput."""
        which = LogFilter(
            since=since, until=until, decision=decision, label=label, request_id=request_id
        ).checked()
        query: dict[str, Any] = {
            name: value.isoformat() if isinstance(value, datetime) else value
            for name, value in vars(which).items()
        }
        query |= {"limit": whole("limit", limit, bounds="log_page"), "cursor": cursor}
        if sample is not None:
            query |= {"sample": whole("sample", sample, bounds="log_page"), "seed": seed}
        path = path_of("spaces", self.space, "verdicts")
        answer = self._wire.ask("GET", path, query=options_query(list(query.items())))
        return read(LoggedPage, answer)
