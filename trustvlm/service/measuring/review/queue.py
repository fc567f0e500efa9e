"""The review queue of one space, as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from trustvlm.catalog.rows import labels, spaces
from trustvlm.catalog.rows.review import items, states
from trustvlm.reading.review.files import QueueFiles
from trustvlm.service.home.home import Home
from trustvlm.service.measuring.review import answers
from trustvlm.service.measuring.review.answers import image_of, queries_of
from trustvlm.service.measuring.review.logged import add_logged
from trustvlm.service.query.score import score
from trustvlm.types.bounds import choice, flags, identifier, whole
from trustvlm.types.review import (
    STATES,
    TRAYS,
    AddedLogged,
    AddLoggedOptions,
    ReviewItem,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
    TrayCounts,
)
from trustvlm.types.tables.evidence import Evidence
from trustvlm.types.tables.verdict import Verdict


class ReviewQueue(QueueFiles):
    """Images of a space that wait for a person: those whose verdict was not accepted (tray
    "review"), some drawn at random (tray "sample"), and proposed support images (tray "proposal").
    Made by :meth:`TrustService.review`.

    Images come from :meth:`TrustService.score` with review=True, and from the HTTP service once
    :meth:`collect` has switched that on. Each waits with its embeddings, a small picture where it
    came as an image, and its verdict. :meth:`add_logged` adds answers of the log. Errors of every
    method: NotFound for an unknown space or item.
    """

    def __init__(self, space: str, ready: Callable[[], Home], writable: Callable[[], Home]) -> None:
        self.space = space
        self._ready, self._writable = ready, writable

    def status(self) -> ReviewStatus:
        """Whether the space collects, and how many items each tray has."""
        return _status(self._ready(), self.space)

    def collect(self, collecting: bool, *, discard: bool = False) -> ReviewStatus:
        """Switch on or off that images which the HTTP service scores go into the queue. Only calls
        without a rule, parameters or a choice of labels count: others are experiments.

        Args:
            discard: delete the items that wait or were skipped, with their pictures.
        """
        flags(collecting=collecting, discard=discard)
        home = self._writable()
        with home.catalog.write("review") as connection:
            space_id = spaces.find_id(connection, self.space)
            states.set_collecting(connection, space_id, bool(collecting))
        while discard:
            with home.catalog.write("review") as connection:
                space_id = spaces.find_id(connection, self.space)
                some = items.delete_some(connection, space_id, items.CHUNK_ROWS, answered=False)
            if some < items.CHUNK_ROWS:
                break
        return _status(home, self.space)

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
        """Put answers of the space's log into the queue, by the names of their images: the log
        holds no images, so a person finds them by name, and answers neither calibrate nor become
        support images. A random sample is watched by :meth:`TrustService.monitor`.

        Left out are answers on claims and those whose image has no name (`Queries.sources`).

        Args:
            sample: draw this number of all answers at random, for the tray "sample"; None: the
                newest ones, for the tray "review". seed: the same draw for the same answers.
            limit: at most this number of the newest; None: 100.
            since, until: answered at or after, and before a time with a time zone.
            decision: only "accept", "review" or "unknown"; None: without a sample those that were
                not accepted. label: only answers of this label, by its name then.

        Raises:
            InvalidInput: a number out of range, or a sample beside limit, decision or label.
        """
        options = AddLoggedOptions(
            sample=sample, seed=seed, limit=limit, since=since, until=until, decision=decision,
            label=label,
        )  # fmt: skip
        return add_logged(self._writable(), self.space, options)

    def items(
        self,
        *,
        tray: str | None = None,
        state: str | None = "open",
        limit: int = 100,
        cursor: int | None = None,
    ) -> ReviewPage:
        """A page of items, oldest first.

        Args:
            tray: one of :data:`trustvlm.types.review.TRAYS`; None: all. state: "open", "answered"
                or "skipped"; None: all.
            limit: most items of the page. cursor: the `next_cursor` of the page before.

        Raises:
            InvalidInput: no such tray or state.
        """
        _checked("tray", tray, TRAYS)
        _checked("state", state, STATES)
        most, after = whole("limit", limit), _after(cursor)
        with self._ready().catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            rows = items.page(connection, space_id, tray, state, after, most + 1)
        more = len(rows) > most
        return ReviewPage(tuple(rows[:most]), rows[most - 1].id if more else None)

    def next(self, *, tray: str | None = None, after: int | None = None) -> ReviewQuestion | None:
        """The oldest open item behind the item `after`, or else of all, with what helps to answer
        it; None: nothing waits. Raises InvalidInput."""
        _checked("tray", tray, TRAYS)
        home = self._ready()
        with home.catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            item = items.next_open(connection, space_id, tray, _after(after))
        return None if item is None else _question_of(home, self.space, item.id)

    def question(self, item: int) -> ReviewQuestion:
        """An item with what helps to answer it: likely labels and their nearest support images, as
        the space is now."""
        return _question_of(self._ready(), self.space, item)

    def picture(self, item: int) -> bytes | None:
        """The small JPEG of an item; None: it came as an embedding, or there is no such item."""
        number = identifier("item", item)
        with self._ready().catalog.read() as connection:
            space_id = spaces.find_id(connection, self.space)
            return items.thumbnail(connection, space_id, number)

    def answer(self, item: int, truth: str | None, *, use_as_support: bool = False) -> ReviewItem:
        """Say the right label of an item. It is stored as feedback: of the tray "sample" as drawn
        at random, which calibrates and is monitored, of others as chosen.

        To give the same answer again changes nothing, and completes one that was interrupted. Where
        the image becomes a support image, `taught` of the item says what that changes.

        Args:
            truth: a label of the space; None: none of the labels.
            use_as_support: make the image a support image of that label, too; then it calibrates no
                more. That of a proposal becomes one always.

        Raises:
            NotFound: no such label. Conflict: the item was answered in another way.
        """
        return answers.answer(self._writable(), self.space, item, truth, use_as_support)

    def skip(self, item: int) -> ReviewItem:
        """Put an item aside; it can be answered later. Raises Conflict: it is answered."""
        return answers.skip(self._writable(), self.space, item)

    def undo(self, item: int) -> ReviewItem:
        """Take an answer back, with its feedback and the support image that it made, or bring back
        a skipped item: it waits again."""
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


def _checked(name: str, value: str | None, choices: tuple[str, ...]) -> None:
    if value is not None:
        choice(name, value, choices)


def _after(cursor: int | None) -> int:
    return 0 if cursor is None or cursor == 0 else identifier("cursor", cursor)


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
