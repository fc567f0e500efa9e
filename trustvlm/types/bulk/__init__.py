"""What bulk work did, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trustvlm.types.json_form import Answer

__all__ = ["BulkReport", "BulkStatus", "BulkVerdicts", "FailedUnit", "LabelTally", "Work"]

Work = Literal["score", "embed"]


@dataclass(frozen=True)
class LabelTally(Answer):
    """How many rows got a label or, with claims, are claimed to have it, and how they were decided.

    Attributes:
        corrected: rows whose classifier had predicted another label.
    """

    label: str
    rows: int
    accepted: int
    review: int
    unknown: int
    corrected: int


@dataclass(frozen=True, repr=False)
class BulkVerdicts(Answer):
    """How many rows were decided in each way.

    Attributes:
        corrected: rows whose rule predicts another label than the classifier.
        by_label: for each label that was predicted or, of rows that are claimed to have a label,
            for each claimed one; most rows first.
        claimed: rows that are claimed to have a label of the space. better_label: those among them
            for which another label fits better. not_a_label: rows whose claim is none of the labels
            that take part.
    """

    accepted: int
    review: int
    unknown: int
    corrected: int
    by_label: tuple[LabelTally, ...]
    claimed: int = 0
    better_label: int = 0
    not_a_label: int = 0


@dataclass(frozen=True)
class FailedUnit(Answer):
    """A part of the input that could not be read, so that it has no file; and the reason."""

    unit: str
    reason: str


@dataclass(frozen=True, repr=False)
class BulkReport(Answer):
    """What a call of bulk work did.

    Attributes:
        work: whether rows were scored or only embedded. space, out: for which space, and where the
            files are.
        units: files that this call (or its shard) is to write. done_before: those that were there.
            done_now: those that this call wrote.
        rows, failed: rows of all these files, and those among them that have a reason in the column
            `failure` in place of an answer.
        failed_units: parts of the input that could not be read.
        first_revision, last_revision: of the space, as the rows have it; None: no row has one.
        seconds: that this call took. cpu_seconds: CPU time of its workers for the rows that they
            wrote, without that of the sandboxes that read files. rows_a_second: rows that it wrote,
            by its time; None: none.
        verdicts: how the rows were decided; None for embedding.
    """

    work: Work
    space: str
    out: str
    units: int
    done_before: int
    done_now: int
    rows: int
    failed: int
    failed_units: tuple[FailedUnit, ...]
    first_revision: int | None
    last_revision: int | None
    seconds: float
    cpu_seconds: float
    rows_a_second: float | None
    verdicts: BulkVerdicts | None


@dataclass(frozen=True, repr=False)
class BulkStatus(Answer):
    """How far the bulk work in a folder is.

    Attributes:
        work: whether rows are scored or only embedded. space: for which space. input: from where.
        rule: the rule; None for embedding.
        units: files that there will be. done: those that are there. other: files that are there,
            but were made with other settings: `redo` makes them again.
        running: files that a process is writing now.
        rows, failed: rows that are there, and those among them without an answer.
        total_rows: rows that there will be; None: not known, as shards are counted when read.
        first_revision, last_revision: of the space, as the rows have it; None: no row has one.
        verdicts: how the rows were decided; None for embedding.
    """

    work: Work
    space: str
    input: str
    rule: str | None
    units: int
    done: int
    other: int
    running: int
    rows: int
    total_rows: int | None
    failed: int
    first_revision: int | None
    last_revision: int | None
    verdicts: BulkVerdicts | None
