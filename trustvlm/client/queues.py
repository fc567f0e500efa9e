"""The review queue and the verdict log of a space elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trustvlm.client.transport import Wire, json_body, path_of, read
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.types.bounds import flags, identifier
from trustvlm.types.json_form import to_plain
from trustvlm.types.messages.placed import placed
from trustvlm.types.review import (
    AddedLogged,
    AddLoggedOptions,
    CollectOptions,
    ReviewExport,
    ReviewItem,
    ReviewNext,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
)
from trustvlm.types.verdict_log import LogFilter, LoggedPage, LogOptions, VerdictLogStatus, in_utc


@placed
class RemoteReviewQueue(ReviewQueue):
    """Images of a space elsewhere that wait for a person."""

    def __init__(self, wire: Wire, space: str, place: str) -> None:
        self._wire, self.space, self.place = wire, space, place
        self._parts = ("spaces", space, "review")

    def status(self) -> ReviewStatus:
        return self._wire.get(ReviewStatus, *self._parts)

    def _collect(self, options: CollectOptions) -> ReviewStatus:
        return self._wire.write(ReviewStatus, "POST", *self._parts, **vars(options))

    def _add_logged(self, options: AddLoggedOptions) -> AddedLogged:
        return self._wire.write(AddedLogged, "POST", *self._parts, "logged", **to_plain(options))

    def _items(self, tray: str | None, state: str | None, limit: int, after: int) -> ReviewPage:
        chosen: dict[str, Any] = {"tray": tray, "state": state or "any", "cursor": after or None}
        parts = (*self._parts, "items")
        pages = list(self._wire.pages(ReviewPage, parts, "items", limit, **chosen))
        return ReviewPage(tuple(one for page in pages for one in page.items), pages[-1].next_cursor)

    def _next(self, tray: str | None, after: int) -> ReviewQuestion | None:
        chosen = {"tray": tray, "after": after or None}
        return self._wire.get(ReviewNext, *self._parts, "next", **chosen).question

    def question(self, item: int) -> ReviewQuestion:
        return self._wire.get(ReviewQuestion, *self._of(item))

    def picture(self, item: int) -> bytes | None:
        picture = self._wire.picture(*self._of(item), "picture")
        if picture is None:
            self.status()  # a space that is not there is another matter
        return picture

    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        flags(use_as_support=use_as_support)
        path = path_of(*self._of(item), "answer")
        content = {"truth": truth, "use_as_support": bool(use_as_support)}  # null: no label
        return read(ReviewItem, self._wire.ask("POST", path, body=json_body(content), write=True))

    def skip(self, item: int) -> ReviewItem:
        return self._wire.write(ReviewItem, "POST", *self._of(item), "skip")

    def undo(self, item: int) -> ReviewItem:
        return self._wire.write(ReviewItem, "POST", *self._of(item), "undo")

    def _exported(self, format: str, tray: str | None, state: str | None) -> ReviewExport:
        chosen = {"format": format, "tray": tray, "state": state or "any"}
        return self._wire.get(ReviewExport, *self._parts, "export", **chosen)

    def _of(self, item: int) -> tuple[str, ...]:
        return (*self._parts, "items", str(identifier("item", item)))


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
