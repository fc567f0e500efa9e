"""The review queue of a space elsewhere."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from trustvlm.client.transport import Wire, json_body, path_of, read
from trustvlm.reading.review.files import QueueFiles
from trustvlm.types.bounds import choice, flags, identifier, whole
from trustvlm.types.json_form import to_plain
from trustvlm.types.review import (
    FORMATS,
    STATES,
    TRAYS,
    AddedLogged,
    AddLoggedOptions,
    ReviewExport,
    ReviewItem,
    ReviewNext,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
)

_PAGE = 1_000


class ReviewQueue(QueueFiles):
    """Images of a space that wait for a person; see :meth:`trustvlm.TrustService.review`, whose
    methods these are. Made by :meth:`Client.review`."""

    def __init__(self, wire: Wire, space: str) -> None:
        self._wire, self.space = wire, space
        self._parts = ("spaces", space, "review")

    def status(self) -> ReviewStatus:
        """Whether the space collects, and how many items each tray has."""
        return self._wire.get(ReviewStatus, *self._parts)

    def collect(self, collecting: bool, *, discard: bool = False) -> ReviewStatus:
        """Switch on or off that images which the service scores go into the queue; with `discard`,
        delete the items that wait or were skipped."""
        flags(collecting=collecting, discard=discard)
        content = {"collecting": bool(collecting), "discard": bool(discard)}
        return self._wire.write(ReviewStatus, "POST", *self._parts, **content)

    def add_logged(
        self,
        *,
        sample: int | None = None,
        seed: int = 0,
        limit: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        decision: str | None = None,
        label: str | None = None,
    ) -> AddedLogged:
        """Put answers of the space's log into the queue, by the names of their images; with
        `sample`, that many drawn at random. Raises InvalidInput."""
        options = AddLoggedOptions(
            sample=sample, seed=seed, limit=limit, since=since, until=until, decision=decision,
            label=label,
        )  # fmt: skip
        options.checked()
        return self._wire.write(AddedLogged, "POST", *self._parts, "logged", **to_plain(options))

    def items(
        self,
        *,
        tray: str | None = None,
        state: str | None = "open",
        limit: int = 100,
        cursor: int | None = None,
    ) -> ReviewPage:
        """A page of items, oldest first. Raises InvalidInput: no such tray or state."""
        query, most = _checked(tray, state), whole("limit", limit)
        items: list[ReviewItem] = []
        while True:
            query |= {"limit": min(most - len(items), _PAGE), "cursor": _after(cursor)}
            page = self._wire.get(ReviewPage, *self._parts, "items", **query)
            items += page.items
            cursor = page.next_cursor
            if cursor is None or len(items) == most:
                return ReviewPage(tuple(items), cursor)

    def next(self, *, tray: str | None = None, after: int | None = None) -> ReviewQuestion | None:
        """The oldest open item behind the item `after`, or else of all; None: nothing waits."""
        query = _checked(tray, None) | {"state": None, "after": _after(after)}
        return self._wire.get(ReviewNext, *self._parts, "next", **query).question

    def question(self, item: int) -> ReviewQuestion:
        """An item with likely labels and their nearest support images."""
        return self._wire.get(ReviewQuestion, *self._of(item))

    def picture(self, item: int) -> bytes | None:
        """The small JPEG of an item; None: it came as an embedding, or there is no such item."""
        picture = self._wire.picture(*self._of(item), "picture")
        if picture is None:
            self.status()  # a space that is not there is another matter
        return picture

    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        """Say the right label of an item (None: none of the labels). Raises NotFound: no such item
        or label. Conflict: it was answered in another way. InvalidInput."""
        flags(use_as_support=use_as_support)
        path = path_of(*self._of(item), "answer")
        content = {"truth": truth, "use_as_support": bool(use_as_support)}  # null: no label
        return read(ReviewItem, self._wire.ask("POST", path, body=json_body(content), write=True))

    def skip(self, item: int) -> ReviewItem:
        """Put an item aside; it can be answered later. Raises Conflict: it is answered."""
        return self._wire.write(ReviewItem, "POST", *self._of(item), "skip")

    def undo(self, item: int) -> ReviewItem:
        """Take an answer back, or bring back a skipped item: it waits again."""
        return self._wire.write(ReviewItem, "POST", *self._of(item), "undo")

    def _exported(self, format: str, tray: str | None, state: str | None) -> ReviewExport:
        query = {"format": choice("format", format, FORMATS)} | _checked(tray, state)
        return self._wire.get(ReviewExport, *self._parts, "export", **query)

    def _of(self, item: int) -> tuple[str, ...]:
        return (*self._parts, "items", str(identifier("item", item)))


def _checked(tray: str | None, state: str | None) -> dict[str, Any]:
    """Query parameters that choose items. Raises InvalidInput: no such tray or state."""
    return {
        "tray": None if tray is None else choice("tray", tray, TRAYS),
        "state": "any" if state is None else choice("state", state, STATES),
    }


def _after(cursor: int | None) -> int | None:
    return None if cursor is None or cursor == 0 else identifier("cursor", cursor)
