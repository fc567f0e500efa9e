"""What a review queue is, of a home and of a service elsewhere alike."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from trustvlm.errors import Conflict, InvalidInput, ReadOnly, TrustVLMError
from trustvlm.reading.review.files import (
    NONE_OF_THEM,
    answers_of,
    csv_text,
    mismatch,
    read_answers,
    tasks_text,
    unstored,
)
from trustvlm.types.bounds import choice, flags, identifier, path_of, whole
from trustvlm.types.messages.commands import suggested, word
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.meant import GIVE_NONE
from trustvlm.types.review import (
    FORMATS,
    STATES,
    TRAYS,
    AddedLogged,
    AddLoggedOptions,
    CollectOptions,
    ReviewExport,
    ReviewImport,
    ReviewItem,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
)

_PAGE = 1_000


class ReviewQueue(ABC):
    """Images of a space that wait for a person: those whose verdict was not accepted (tray
    "review"), some drawn at random (tray "sample"), and proposed support images (tray "proposal").
    Made by :meth:`trustvlm.TrustService.review` and :meth:`trustvlm.Client.review`.

    Images come from :meth:`trustvlm.TrustService.score` with review=True, and from the HTTP service
    once :meth:`collect` has switched that on. Each waits with its embeddings, a small picture where
    it came as an image, and its verdict. :meth:`add_logged` adds answers of the log. Errors of
    every method: NotFound for an unknown space or item.
    """

    @abstractmethod
    def status(self) -> ReviewStatus:
        """Whether the space collects, and how many items each tray has."""

    def collect(self, collecting: bool, *, discard: bool = False) -> ReviewStatus:
        """Switch on or off that images which the HTTP service scores go into the queue. Only calls
        without a rule, parameters or a choice of labels count: others are experiments.

        Args:
            discard: delete the items that wait or were skipped, with their pictures.
        """
        flags(collecting=collecting, discard=discard)
        return self._collect(CollectOptions(collecting=bool(collecting), discard=bool(discard)))

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
        support images. A random sample is watched by :meth:`trustvlm.TrustService.monitor`.

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
        options.checked()
        return self._add_logged(options)

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
        return self._items(_tray(tray), _state(state), whole("limit", limit), _after(cursor))

    def next(self, *, tray: str | None = None, after: int | None = None) -> ReviewQuestion | None:
        """The oldest open item behind the item `after`, or else of all, with what helps to answer
        it; None: nothing waits. Raises InvalidInput."""
        return self._next(_tray(tray), _after(after))

    @abstractmethod
    def question(self, item: int) -> ReviewQuestion:
        """An item with what helps to answer it: likely labels and their nearest support images, as
        the space is now."""

    @abstractmethod
    def picture(self, item: int) -> bytes | None:
        """The small JPEG of an item; None: it came as an embedding, or there is no such item."""

    @abstractmethod
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

    @abstractmethod
    def skip(self, item: int) -> ReviewItem:
        """Put an item aside; it can be answered later. Raises Conflict: it is answered."""

    @abstractmethod
    def undo(self, item: int) -> ReviewItem:
        """Take an answer back, with its feedback and the support image that it made, or bring back
        a skipped item: it waits again."""

    def export(
        self,
        path: str | Path,
        *,
        format: str = "csv",
        tray: str | None = None,
        state: str | None = "open",
    ) -> int:
        """Write items to a file, to answer them elsewhere; how many.

        Args:
            path: the file, which is replaced, unless it is such a file with answers that are not
                stored. format: "csv" (a column `truth` to fill in) or
                "label-studio" (tasks with predictions; the picture of each is in it).

        Raises:
            InvalidInput: no such format, tray or state. ReadOnly: the file cannot be written.
            Conflict: it has answers that are not stored.
        """
        file = path_of("path", path)
        _keep_answers(self, file)
        exported = self._exported(choice("format", format, FORMATS), _tray(tray), _state(state))
        try:
            file.write_text(
                exported.content, encoding="utf-8", errors="backslashreplace", newline=""
            )
        except OSError as error:
            raise ReadOnly(f"{path} cannot be written: {error.strerror}") from error
        return exported.items

    def import_answers(self, path: str | Path) -> ReviewImport:
        """Store the answers of a file that :meth:`export` wrote and a person, or Label Studio
        (export format JSON), filled in: each by itself, so that one that cannot be stored stops no
        other.

        Raises:
            NotFound: no such file. InvalidInput: another kind of file. ReadOnly.
        """
        return import_text(self, read_answers(path_of("path", path)), str(path))

    def _exported(self, format: str, tray: str | None, state: str | None) -> ReviewExport:
        return items_text(self, format, tray, state)

    @abstractmethod
    def _collect(self, options: CollectOptions) -> ReviewStatus:
        """See :meth:`collect`."""

    @abstractmethod
    def _add_logged(self, options: AddLoggedOptions) -> AddedLogged:
        """See :meth:`add_logged`."""

    @abstractmethod
    def _items(self, tray: str | None, state: str | None, limit: int, after: int) -> ReviewPage:
        """See :meth:`items`; `after`: 0 for the first page."""

    @abstractmethod
    def _next(self, tray: str | None, after: int) -> ReviewQuestion | None:
        """See :meth:`next`."""


def _tray(tray: str | None) -> str | None:
    return None if tray is None else choice("tray", tray, TRAYS)


def _state(state: str | None) -> str | None:
    return None if state is None else choice("state", state, STATES)


def _after(cursor: int | None) -> int:
    first = cursor is None or (isinstance(cursor, int) and cursor == 0)
    return 0 if first else identifier("cursor", cursor)


def items_text(
    queue: ReviewQueue, format: str, tray: str | None, state: str | None
) -> ReviewExport:
    """Items as the text of the file that :meth:`ReviewQueue.export` writes."""
    items = list(_all(queue, tray, state))
    text = csv_text(items) if format == "csv" else tasks_text(items, queue.picture)
    return ReviewExport(len(items), text)


def _keep_answers(queue: ReviewQueue, path: Path) -> None:
    """Make sure that a file has no answers of a person that would be lost with it.

    Raises:
        Conflict: it has some about items of this queue.
    """
    if not path.is_file():
        return
    try:
        given = [one for one in answers_of(str(path), read_answers(path)) if one.given]
    except InvalidInput:  # no file of answers
        return
    items = {item.id: item for item in _all(queue, None, None)} if given else {}
    if answers := unstored(given, items):
        raise Conflict(
            f"{path} has {count(len(answers), 'answer')} that the queue does not have; import the "
            f"file first ({suggested('review import', files=f'SPACE {word(str(path))}')}), choose "
            f"another one, or delete it"
        )


def import_text(
    queue: ReviewQueue,
    text: str,
    name: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ReviewImport:
    """Store the answers of the text of a file, as :meth:`ReviewQueue.import_answers` does.

    Args:
        name: what messages call the file. progress: called with (answers done, answers in all).

    Raises:
        InvalidInput: it is none of the two formats.
    """
    answers = list(answers_of(name, text))
    items = {item.id: item for item in _all(queue, None, None)}
    answered = same = unanswered = 0
    failures: list[tuple[int, str]] = []
    for done, one in enumerate(answers):
        progress(done, len(answers))
        item = items.get(one.item)
        if (problem := one.problem or mismatch(one, item)) is not None:
            failures.append((one.item, problem))
        elif not one.given:
            unanswered += 1
        else:
            try:
                queue.answer(one.item, one.truth)
            except TrustVLMError as error:
                reason = str(error).replace(GIVE_NONE, f'write "{NONE_OF_THEM}"')
                failures.append((one.item, reason))
                continue
            before = item is not None and item.state == "answered"
            answered, same = answered + (not before), same + before
    return ReviewImport(answered, same, unanswered, tuple(failures))


def _all(queue: ReviewQueue, tray: str | None, state: str | None) -> Iterator[ReviewItem]:
    cursor = None
    while True:
        page = queue.items(tray=tray, state=state, limit=_PAGE, cursor=cursor)
        yield from page.items
        if (cursor := page.next_cursor) is None:
            return
