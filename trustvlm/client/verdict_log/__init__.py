"""The verdict log of a space elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trustvlm.client.transport import Wire
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.types.messages.placed import placed
from trustvlm.types.verdict_log import LogFilter, LoggedPage, LogOptions, VerdictLogStatus, in_utc

__all__ = ["RemoteVerdictLog"]


@placed
class RemoteVerdictLog(VerdictLog):
    """What a space elsewhere answered."""

    def __init__(self, wire: Wire, space: str, place: str) -> None:
        self._wire, self.space, self.place = wire, space, place

    def status(self) -> VerdictLogStatus:
        return self._wire.get(VerdictLogStatus, "spaces", self.space, "verdict-log")

    def _switch(self, options: LogOptions) -> VerdictLogStatus:
        parts = ("spaces", self.space, "verdict-log")
        return self._wire.write(VerdictLogStatus, "POST", *parts, **vars(options))

    def _page(
        self, which: LogFilter, limit: int | None, cursor: str | None, sample: int | None, seed: int
    ) -> LoggedPage:
        query: dict[str, Any] = {
            name: in_utc(name, value).isoformat() if isinstance(value, datetime) else value
            for name, value in vars(which).items()
        }
        query |= {"limit": limit, "cursor": cursor, "sample": sample, "seed": seed}
        return self._wire.get(LoggedPage, "spaces", self.space, "verdicts", **query)
