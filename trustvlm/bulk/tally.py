"""Counts of what the files of the output hold."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.bulk.inputs.columns import FAILURE
from trustvlm.types.bulk import BulkVerdicts, LabelTally

if TYPE_CHECKING:
    import pyarrow

_CLAIMS = ("claimed", "claimed_id", "better_label")
_COLUMNS = ("label", "decision", "corrected_from", "revision", *_CLAIMS, FAILURE)


@dataclass
class Tally:
    """Counts of rows.

    Attributes:
        rows, failed: all, and those without an answer.
        decided: (label that it is about, decision, whether the label was corrected) → rows.
        claims: see :class:`BulkVerdicts`.
        revisions: of the space, in the rows.
    """

    rows: int = 0
    failed: int = 0
    decided: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    revisions: set[int] = field(default_factory=set)
    claims: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, table: pyarrow.Table) -> Tally:
        """The counts of a table."""
        import pyarrow as pa
        import pyarrow.compute as pc

        failed = len(table) - table.column(FAILURE).null_count
        tally = cls(len(table), failed)
        if "label" not in table.column_names:
            return tally
        table = table.filter(pc.is_valid(table.column("label")))
        tally.revisions.update(table.column("revision").unique().to_pylist())
        about, tally.claims = _claims(table)
        columns = {"label": about, "decision": table.column("decision")}
        columns["corrected"] = pc.is_valid(table.column("corrected_from"))
        counts = pa.table(columns).group_by([*columns]).aggregate([([], "count_all")])
        for row in counts.to_pylist():
            tally.decided[row["label"], row["decision"], row["corrected"]] = row["count_all"]
        return tally

    @classmethod
    def read(cls, path: Path) -> Tally:
        """The counts of a finished file; columns that are not counted are not read."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            names = [name for name in _COLUMNS if name in file.schema_arrow.names]
            return cls.of(file.read(columns=names))

    def add(self, other: Tally) -> None:
        """Count the rows of another tally, too."""
        self.rows += other.rows
        self.failed += other.failed
        self.decided.update(other.decided)
        self.claims.update(other.claims)
        self.revisions |= other.revisions

    def verdicts(self) -> BulkVerdicts:
        """How the rows were decided."""
        labels: dict[str, Counter[str]] = {}
        for (label, decision, corrected), count in self.decided.items():
            of_label = labels.setdefault(label, Counter())
            of_label.update({"rows": count, decision: count, "corrected": corrected * count})
        by_label = [_of_label(label, counts) for label, counts in labels.items()]
        by_label.sort(key=lambda one: (-one.rows, one.label))
        return BulkVerdicts(
            accepted=sum(one.accepted for one in by_label),
            review=sum(one.review for one in by_label),
            unknown=sum(one.unknown for one in by_label),
            corrected=sum(one.corrected for one in by_label),
            by_label=tuple(by_label),
            claimed=self.claims["claimed"],
            better_label=self.claims["better_label"],
            not_a_label=self.claims["not_a_label"],
        )

    def range(self) -> dict[str, Any]:
        """The first and the last revision, as the answers name them."""
        some = sorted(self.revisions)
        first, last = (some[0], some[-1]) if some else (None, None)
        return {"first_revision": first, "last_revision": last}


def _claims(table: pyarrow.Table) -> tuple[Any, Counter[str]]:
    """(the label that each row is about: the claimed one, where a claim is a label; counts of
    claims)."""
    import pyarrow.compute as pc

    label = table.column("label")
    if "claimed_id" not in table.column_names:
        return label, Counter()
    is_label = pc.fill_null(pc.greater_equal(table.column("claimed_id"), 0), False)
    better = pc.and_(is_label, pc.is_valid(table.column("better_label")))
    said = pc.is_valid(table.column("claimed"))
    masks = {"claimed": is_label, "better_label": better, "not_a_label": pc.and_not(said, is_label)}
    counts = Counter({name: int(pc.sum(mask).as_py() or 0) for name, mask in masks.items()})
    return pc.if_else(is_label, table.column("claimed"), label), counts


def _of_label(label: str, counts: Counter[str]) -> LabelTally:
    return LabelTally(
        label, counts["rows"], counts["accept"], counts["review"], counts["unknown"],
        counts["corrected"],
    )  # fmt: skip
