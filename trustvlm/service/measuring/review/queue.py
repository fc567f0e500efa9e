"""The review queue of one space, as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trustvlm.catalog.rows import labels, spaces
from trustvlm.catalog.rows.review import items, states
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.service.home.home import Home
from trustvlm.service.measuring.review import answers
from trustvlm.service.measuring.review.answers import image_of, queries_of
from trustvlm.service.measuring.review.logged import add_logged
from trustvlm.service.query.score import score
from trustvlm.types.bounds import identifier
from trustvlm.types.messages.placed import placed
from trustvlm.types.review import (
    STATES,
    TRAYS,
    AddedLogged,
    AddLoggedOptions,
    CollectOptions,
    ReviewItem,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
    TrayCounts,
)
from trustvlm.types.tables.evidence import Evidence
from trustvlm.types.tables.verdict import Verdict


@placed
class HomeReviewQueue(ReviewQueue):
    """Images of a space of an open home that wait for a person."""

    def __init__(
        self, space: str, ready: Callable[[], Home], writable: Callable[[], Home], place: str
    ) -> None:
        self.space, self.place = space, place
        self._ready, self._writable = ready, writable

    def status(self) -> ReviewStatus:
        return _status(self._ready(), self.space)

    def _collect(self, options: CollectOptions) -> ReviewStatus:
        home = self._writable()
        with home.catalog.write("review") as connection:
            space_id = spaces.find_id(connection, self.space)
            states.set_collecting(connection, space_id, options.collecting)
        while options.discard:
            with home.catalog.write("review") as connection:
                space_id = spaces.find_id(connection, self.space)
                some = items.delete_some(connection, space_id, items.CHUNK_ROWS, answered=False)
            if some < items.CHUNK_ROWS:
                break
        return _status(home, self.space)

    def _add_logged(self, options: AddLoggedOptions) -> AddedLogged:
        return add_logged(self._writable(), self.space, options)

    def _items(self, tray: str | None, state: str | None, limit: int, after: int) -> ReviewPage:
        with self._ready().catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            rows = items.page(connection, space_id, tray, state, after, limit + 1)
        more = len(rows) > limit
        return ReviewPage(tuple(rows[:limit]), rows[limit - 1].id if more else None)

    def _next(self, tray: str | None, after: int) -> ReviewQuestion | None:
        home = self._ready()
        with home.catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            item = items.next_open(connection, space_id, tray, after)
        return None if item is None else _question_of(home, self.space, item.id)

    def question(self, item: int) -> ReviewQuestion:
        return _question_of(self._ready(), self.space, item)

    def picture(self, item: int) -> bytes | None:
        number = identifier("item", item)
        with self._ready().catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            return items.thumbnail(connection, space_id, number)

    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        return answers.answer(self._writable(), self.space, item, truth, use_as_support)

    def skip(self, item: int) -> ReviewItem:
        return answers.skip(self._writable(), self.space, item)

    def undo(self, item: int) -> ReviewItem:
        return answers.undo(self._writable(), self.space, item)


def _status(home: Home, space: str) -> ReviewStatus:
    with home.catalog.read() as connection:
        space_id = spaces.find_id(connection, space)
        numbers = items.counts(connection, space_id)
        collecting = states.collects(connection, space_id)
        missed = states.missed(connection, space_id)
    trays = dict.fromkeys([*TRAYS, *(tray for tray, _ in numbers)])
    counts = (TrayCounts(tray, *(numbers.get((tray, one), 0) for one in STATES)) for tray in trays)
    return ReviewStatus(collecting, home.review.share, home.review.items, missed, tuple(counts))


CHOICES = 5
NEAREST = 3


def _question_of(home: Home, space_name: str, item_id: int) -> ReviewQuestion:
    """See :meth:`ReviewQueue.question`."""
    space, item, image = image_of(home, space_name, item_id)
    if image is None:  # of the log: nothing to compare with
        return ReviewQuestion(item, (item.predicted,), item.predicted, None, Evidence((), ()))
    verdict = score(home, space_name, queries_of(image), None, CHOICES, None, None)[0]
    with home.catalog.read() as connection:
        exists = labels.find_many(connection, space.id, [item.predicted])
    likely = _likely(verdict, [item.predicted] if item.predicted in exists else [])
    return ReviewQuestion(item, likely, verdict.label, verdict.rival, verdict.evidence(NEAREST))


def _likely(verdict: Verdict, first: Sequence[str]) -> tuple[str, ...]:
    """Up to five labels, each once: the predicted one first, then those that speak against it."""
    others = (verdict.label, verdict.rival, verdict.nearest_prototype, *verdict.top_labels)
    names = dict.fromkeys(name for name in (*first, *others) if name is not None)
    return tuple(names)[:CHOICES]
