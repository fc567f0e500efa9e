"""The review queue of a space elsewhere."""

from __future__ import annotations

from typing import Any

from trustvlm.client.codec import options_query, read
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.errors import NotFound
from trustvlm.reading.review.files import QueueFiles
from trustvlm.types.bounds import choice, flags, identifier, whole
from trustvlm.types.review import (
    FORMATS,
    STATES,
    TRAYS,
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
        self._path = path_of("spaces", space, "review")

    def status(self) -> ReviewStatus:
        """Whether the space collects, and how many items each tray has."""
        return read(ReviewStatus, self._wire.ask("GET", self._path))

    def collect(self, collecting: bool, *, discard: bool = False) -> ReviewStatus:
        """Switch on or off that images which the service scores go into the queue; with `discard`,
        delete the items that wait or were skipped."""
        flags(collecting=collecting, discard=discard)
        content = {"collecting": bool(collecting), "discard": bool(discard)}
        return read(ReviewStatus, self._write(self._path, content))

    def items(
        self,
        *,
        tray: str | None = None,
        state: str | None = "open",
        limit: int = 100,
        cursor: int | None = None,
    ) -> ReviewPage:
        """A page of items, oldest first. Raises InvalidInput: no such tray or state."""
        query: dict[str, Any] = {"tray": _checked("tray", tray, TRAYS)}
        query |= {"state": _checked("state", state, STATES) or "any"}
        most = whole("limit", limit)
        items: list[ReviewItem] = []
        while True:
            query |= {"limit": min(most - len(items), _PAGE), "cursor": _after(cursor)}
            page = read(ReviewPage, self._get("items", query))
            items += page.items
            cursor = page.next_cursor
            if cursor is None or len(items) == most:
                return ReviewPage(tuple(items), cursor)

    def next(self, *, tray: str | None = None, after: int | None = None) -> ReviewQuestion | None:
        """The oldest open item behind the item `after`, or else of all; None: nothing waits."""
        query = {"tray": _checked("tray", tray, TRAYS), "after": _after(after)}
        return read(ReviewNext, self._get("next", query)).question

    def question(self, item: int) -> ReviewQuestion:
        """An item with likely labels and their nearest support images."""
        return read(ReviewQuestion, self._wire.ask("GET", self._of(item)))

    def picture(self, item: int) -> bytes | None:
        """The small JPEG of an item; None: it came as an embedding, or there is no such item."""
        try:
            return self._wire.fetch("GET", f"{self._of(item)}/picture").content
        except NotFound:
            self._wire.ask("GET", self._path)  # a space that is not there is another matter
            return None

    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        """Say the right label of an item (None: none of the labels). Raises NotFound: no such item
        or label. Conflict: it was answered in another way. InvalidInput."""
        flags(use_as_support=use_as_support)
        content = {"truth": truth, "use_as_support": bool(use_as_support)}
        return read(ReviewItem, self._write(f"{self._of(item)}/answer", content))

    def skip(self, item: int) -> ReviewItem:
        """Put an item aside; it can be answered later. Raises Conflict: it is answered."""
        return read(ReviewItem, self._write(f"{self._of(item)}/skip"))

    def undo(self, item: int) -> ReviewItem:
        """Take an answer back, or bring back a skipped item: it waits again."""
        return read(ReviewItem, self._write(f"{self._of(item)}/undo"))

    def _exported(self, format: str, tray: str | None, state: str | None) -> ReviewExport:
        query: dict[str, Any] = {"format": choice("format", format, FORMATS)}
        query |= {"tray": _checked("tray", tray, TRAYS)}
        query |= {"state": _checked("state", state, STATES) or "any"}
        return read(ReviewExport, self._get("export", query))

    def _of(self, item: int) -> str:
        return f"{self._path}/items/{identifier('item', item)}"

    def _get(self, what: str, query: dict[str, Any]) -> Any:
        pairs = options_query(list(query.items()))
        return self._wire.ask("GET", f"{self._path}/{what}", query=pairs)

    def _write(self, path: str, content: dict[str, Any] | None = None) -> Any:
        body = None if content is None else json_body(content)
        return self._wire.ask("POST", path, body=body, write=True)


def _checked(name: str, value: str | None, choices: tuple[str, ...]) -> str | None:
    return None if value is None else choice(name, value, choices)


def _after(cursor: int | None) -> int | None:
    return None if cursor is None or cursor == 0 else identifier("cursor", cursor)
