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

__all__ = ["Tally"]

_COLUMNS = ("label", "decision", "corrected_from", "revision", FAILURE)


@dataclass
class Tally:
    """Counts of rows.

    Attributes:
        rows, failed: all, and those without an answer.
        decided: (label, decision, whether the label was corrected) → rows.
        revisions: of the space, in the rows.
    """

    rows: int = 0
    failed: int = 0
    decided: Counter[tuple[str, str, bool]] = field(default_factory=Counter)
    revisions: set[int] = field(default_factory=set)

    @classmethod
    def of(cls, table: pyarrow.Table) -> Tally:
        """The counts of a table."""
        import pyarrow.compute as pc

        failed = len(table) - table.column(FAILURE).null_count
        tally = cls(len(table), failed)
        if "label" not in table.column_names:
            return tally
        table = table.filter(pc.is_valid(table.column("label")))
        tally.revisions.update(table.column("revision").unique().to_pylist())
        grouped = table.select(["label", "decision"]).append_column(
            "corrected", pc.is_valid(table.column("corrected_from"))
        )
        keys = ["label", "decision", "corrected"]
        counts = grouped.group_by(keys).aggregate([([], "count_all")])
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
        )

    def range(self) -> dict[str, Any]:
        """The first and the last revision, as the answers name them."""
        some = sorted(self.revisions)
        first, last = (some[0], some[-1]) if some else (None, None)
        return {"first_revision": first, "last_revision": last}


def _of_label(label: str, counts: Counter[str]) -> LabelTally:
    return LabelTally(
        label, counts["rows"], counts["accept"], counts["review"], counts["unknown"],
        counts["corrected"],
    )  # fmt: skip
