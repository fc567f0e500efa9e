"""The verdict log of a space: which answers it keeps, and the rows that it is read as."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Annotated, Literal

from trustvlm.errors import InvalidInput
from trustvlm.types.bounds import DECISIONS, choice, got, whole
from trustvlm.types.bounds import number as bounded
from trustvlm.types.json_form import Answer, Time
from trustvlm.types.messages.counts import count
from trustvlm.types.options import Options, WholeNumber, Within, says
from trustvlm.types.tables.columns import Column, flat_columns
from trustvlm.types.tables.glance import Chance, Decision, Glance, Place
from trustvlm.types.tables.tabular import Tabular
from trustvlm.types.tables.verdict import ReasonCode

__all__ = [
    "DAYS", "PAGE", "ROWS", "LogFilter", "LogOptions", "LoggedPage", "LoggedVerdict",
    "VerdictLogStatus", "check_draw", "in_utc", "log_columns",
]  # fmt: skip

DAYS, ROWS = 30.0, 100_000
"""What a log keeps unless other numbers are given."""
PAGE = 100
"""Rows of a page unless another number is given."""


@dataclass(frozen=True, kw_only=True)
class LogOptions(Options):
    """Whether a space logs its answers, and how many it keeps."""

    logging: Annotated[bool, says("log the answers that are given from now on")]
    days: Annotated[
        Annotated[float, Within("log_days")] | None,
        says(f"age at which a row is deleted; null: as it is, at first {DAYS:g}"),
    ] = None
    rows: Annotated[
        Annotated[WholeNumber, Within("log_rows")] | None,
        says(f"newest rows that are kept; null: as it is, at first {ROWS:,}"),
    ] = None
    discard: Annotated[bool, says("delete the rows that are there")] = False

    def __post_init__(self) -> None:
        if self.days is not None:
            bounded("days", self.days, bounds="log_days")
        if self.rows is not None:
            whole("rows", self.rows, bounds="log_rows")


@dataclass(frozen=True, kw_only=True)
class LogFilter:
    """Which rows of a log are read: those that meet all that is not None.

    Attributes:
        since, until: at or after the one time, before the other; both with a time zone.
        decision: "accept", "review" or "unknown". label: the predicted label, by its name then.
        request_id: of an HTTP request.
    """

    since: datetime | None = None
    until: datetime | None = None
    decision: str | None = None
    label: str | None = None
    request_id: str | None = None

    def checked(self) -> LogFilter:
        """The filter itself. Raises InvalidInput: a value that cannot be right."""
        for name in ("since", "until"):
            time = getattr(self, name)
            if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
                raise InvalidInput(
                    f"{name}: expected a datetime with a time zone, such as "
                    f"datetime(2030, 1, 31, tzinfo=UTC), got {got(time)}"
                )
            if time is not None:
                in_utc(name, time)
        if self.decision is not None:
            choice("decision", self.decision, DECISIONS)
        for name in ("label", "request_id"):
            text = getattr(self, name)
            if text is not None and (not isinstance(text, str) or not text):
                raise InvalidInput(f"{name}: expected a text, got {got(text)}")
        return self


def in_utc(name: str, time: datetime) -> datetime:
    """A time with a time zone in UTC. Raises InvalidInput: it is before the year 1 or after 9999
    there."""
    try:
        return time.astimezone(UTC)
    except OverflowError as error:
        raise InvalidInput(
            f"{name}: expected a time from the year 1 to the year 9999 in UTC, got {time}"
        ) from error


def check_draw(sample: int | None, seed: int, meaning: str, **others: object) -> None:
    """Raises InvalidInput: a sample beside `others` that it does not go with, since it has another
    `meaning`; or a seed without a sample, which draws nothing."""
    for name, value in others.items():
        if sample is not None and value is not None:
            raise InvalidInput(f"sample, {name}: a sample {meaning}; expected one of the two")
    if sample is None and seed:
        raise InvalidInput(f"seed: expected a sample beside it, as a seed is of a draw; got {seed}")


@dataclass(frozen=True, repr=False)
class LoggedVerdict(Answer):
    """An answer that a space gave. Fields that :class:`trustvlm.Verdicts` has mean what they mean
    there, at that time.

    Attributes:
        at: when, by the clock of the machine that answered.
        request_id: of the HTTP request; None: the library or the command line asked.
        source: the name or path that the caller gave with the image; None: none, or an embedding.
        claimed, claimed_id, claimed_probability, claims_calibration_id: None without a claim.
    """

    id: int
    at: Time
    request_id: str | None
    source: str | None
    decision: Literal["accept", "review", "unknown"]
    probability: float | None
    label: str
    reason_code: ReasonCode
    trust: float | None
    label_id: int
    node: str | None
    node_probability: float | None
    rule: str
    revision: int
    calibration_id: int | None
    claimed: str | None
    claimed_probability: float | None
    claimed_id: int | None
    claims_calibration_id: int | None


def log_columns(rows: tuple[LoggedVerdict, ...]) -> dict[str, Column]:
    """The columns of rows of a log, named and typed as those of :meth:`Verdicts.to_arrow`."""
    columns = flat_columns(LoggedVerdict, rows)
    return {field.name: columns[field.name] for field in fields(LoggedVerdict)}


@dataclass(frozen=True, repr=False)
class LoggedPage(Tabular, Answer):
    """Rows of a verdict log, newest first; `next_cursor` gives the next page, None: there is
    none."""

    verdicts: tuple[LoggedVerdict, ...]
    next_cursor: str | None

    def _table(self) -> tuple[dict[str, Column], int]:
        return log_columns(self.verdicts), len(self.verdicts)

    def _glance(self) -> Glance:
        rows = [
            (
                f"{row.at:%Y-%m-%d %H:%M:%S}", Decision(row.decision), Chance(row.probability or 0)
                if row.probability is not None else None,
                row.label, row.reason_code, None if row.source is None else Place(row.source),
            )
            for row in self.verdicts[:50]
        ]  # fmt: skip
        lines = (f"{count(len(self.verdicts), 'logged verdict')}, newest first",)
        names = ("at (UTC)", "decision", "probability", "label", "reason_code", "source")
        return Glance(lines, names, rows, len(self.verdicts))


@dataclass(frozen=True)
class VerdictLogStatus(Answer):
    """The verdict log of a space.

    Attributes:
        logging: whether answers are logged from now on.
        days, rows: age at which a row is deleted, and how many rows are kept.
        stored: rows that are there; accept, review, unknown: with which decision.
        oldest, newest: when the first and the last of them was answered.
        dropped: answers that came faster than they could be stored, or could not be stored, and are
            not in the log; since it was switched on.
    """

    logging: bool
    days: float
    rows: int
    stored: int
    accept: int
    review: int
    unknown: int
    oldest: Time | None
    newest: Time | None
    dropped: int
