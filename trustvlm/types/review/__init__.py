"""The review queue: images that wait for a person's answer, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.types.bounds import DECISIONS, FORMATS, STATES, TRAYS, whole
from trustvlm.types.json_form import Answer, Time, ZonedTime
from trustvlm.types.options import Name, OneOf, Options, WholeNumber, Within, says
from trustvlm.types.tables.evidence import Evidence
from trustvlm.types.verdict_log import LogFilter, check_draw

__all__ = [
    "FORMATS", "STATES", "TRAYS", "AddLoggedOptions", "AddedLogged", "AnswerOptions",
    "CollectOptions", "ReviewExport", "ReviewImport", "ReviewItem", "ReviewNext", "ReviewPage",
    "ReviewQuestion", "ReviewStatus", "Taught", "TrayCounts",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class CollectOptions(Options):
    """Whether images that are scored go into the review queue."""

    collecting: Annotated[
        bool, says("store images that are not accepted, and a random share of all")
    ]
    discard: Annotated[bool, says("delete the items that wait, and those that were skipped")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(Options):
    """What a person says of an image."""

    truth: Annotated[Name | None, says("the right label; null: none of the labels")]
    use_as_support: Annotated[bool, says("make it a support image of that label, too")] = False


@dataclass(frozen=True, kw_only=True)
class AddLoggedOptions(Options):
    """Which answers of a space's log go into its review queue."""

    sample: Annotated[
        Annotated[WholeNumber, Within("log_page")] | None,
        says("draw this number at random, for the tray sample; null: the newest, for review"),
    ] = None
    seed: Annotated[WholeNumber, Within("seed"), says("of the draw")] = 0
    limit: Annotated[
        Annotated[WholeNumber, Within("log_page")] | None,
        says("at most this number of the newest; null: 100"),
    ] = None
    since: Annotated[ZonedTime | None, says("answered at or after this time")] = None
    until: Annotated[ZonedTime | None, says("answered before this time")] = None
    decision: Annotated[
        Annotated[str, OneOf(*DECISIONS)] | None,
        says("only these; null: without a sample those that were not accepted"),
    ] = None
    label: Annotated[Name | None, says("only answers of this label, by its name then")] = None

    def checked(self) -> LogFilter:
        """What is read of the log. Raises InvalidInput: options that do not go together, or a
        number out of range."""
        whole("seed", self.seed)
        for name in ("sample", "limit"):
            if (value := getattr(self, name)) is not None:
                whole(name, value, bounds="log_page")
        check_draw(
            self.sample, self.seed, "stands for all answers",
            limit=self.limit, decision=self.decision, label=self.label,
        )  # fmt: skip
        return LogFilter(
            since=self.since, until=self.until, decision=self.decision, label=self.label
        ).checked()


@dataclass(frozen=True)
class AddedLogged(Answer):
    """What became of answers of the log that were chosen for the review queue.

    Attributes:
        added: items that are new in the queue. chosen: answers that were chosen; the others of them
            were in the queue already, or found no room.
        unnamed: answers that could not be chosen, since their image has no name that a person could
            find it by.
    """

    added: int
    chosen: int
    unnamed: int


@dataclass(frozen=True, repr=False)
class Taught(Answer):
    """What a new support image changes.

    Attributes:
        label_before, decision_before, probability_before: the verdict of its image, right before;
            label, decision, probability: right after. The latter is None where the classifier's
            label stays another one: the image itself is known then.
        waiting: open images of the queue that were compared, the 500 oldest at most. changed: how
            many of them get another label or decision, or a probability that differs by 0.1.
    """

    label_before: str
    decision_before: str
    probability_before: float | None
    label: str
    decision: str
    probability: float | None
    waiting: int
    changed: int


@dataclass(frozen=True, repr=False)
class ReviewItem(Answer):
    """An image of the review queue, with the verdict that it got when it was scored.

    Attributes:
        tray: "review" (its verdict was not accepted), "sample" (it was drawn at random) or
            "proposal" (it is proposed as a support image).
        state: "open", "answered" or "skipped".
        source: name of the image, where it has one. has_picture: whether a small picture is stored.
        predicted, decision, probability, trust, rule, calibration_id, revision: the verdict.
        truth: the answer: the right label; None: none of the labels, or not answered yet.
        use_as_support: the answer makes it a support image. support_id: which one it became.
        created_at, changed_at: when it was collected, and answered or skipped.
        node: the node of the taxonomy that was answered, where a calibration backs off.
        logged_id: the row of the log of answers that it came from: only the name of its image is
            known. None: it has an image.
        taught: what it changes that the image is a support image, right after it became one.
    """

    id: int
    tray: str
    state: str
    source: str | None
    has_picture: bool
    predicted: str
    decision: str
    probability: float | None
    trust: float | None
    rule: str
    calibration_id: int | None
    revision: int
    truth: str | None
    use_as_support: bool
    support_id: int | None
    created_at: Time
    changed_at: Time | None
    node: str | None = None
    logged_id: int | None = None
    taught: Taught | None = None


@dataclass(frozen=True, repr=False)
class ReviewPage(Answer):
    """Items of the review queue, oldest first; `next_cursor` gives the next page, None: there is
    none."""

    items: tuple[ReviewItem, ...]
    next_cursor: int | None


@dataclass(frozen=True, repr=False)
class ReviewQuestion(Answer):
    """An item as a person is asked about it.

    Attributes:
        choices: up to five labels, the most likely first: the predicted one, its rival, the label
            of the nearest prototype, and those of largest text confidence.
        label, rival: the predicted label and the best other one, as the space judges the image now.
        evidence: their nearest support images, now.
    """

    item: ReviewItem
    choices: tuple[str, ...]
    label: str
    rival: str | None
    evidence: Evidence


@dataclass(frozen=True)
class ReviewNext(Answer):
    """The next item to answer; null: none waits."""

    question: ReviewQuestion | None


@dataclass(frozen=True)
class TrayCounts(Answer):
    """How many items a tray has."""

    tray: str
    open: int
    answered: int
    skipped: int


@dataclass(frozen=True, repr=False)
class ReviewStatus(Answer):
    """The review queue of a space.

    Attributes:
        collecting: whether images that the HTTP service scores go into it by themselves.
        share: of all scored images that are drawn for the tray "sample". limit: most items that may
            wait.
        missed: images drawn at random that found no room, because that many waited.
    """

    collecting: bool
    share: float
    limit: int
    missed: int
    trays: tuple[TrayCounts, ...]


@dataclass(frozen=True)
class ReviewExport(Answer):
    """Items of the review queue as a file: how many, and the text of the file."""

    items: int
    content: str


@dataclass(frozen=True, repr=False)
class ReviewImport(Answer):
    """What became of the answers of a file.

    Attributes:
        answered: items that got their answer. same: items that had this answer. unanswered: items
            of the file without an answer.
        failures: (id, reason) of answers that could not be stored.
    """

    answered: int
    same: int
    unanswered: int
    failures: tuple[tuple[int, str], ...]
