"""What commands of bulk work print."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, as_json, details, row_writer
from trustvlm.cli.printing.safe_text import note
from trustvlm.types.tables.probability import percent

if TYPE_CHECKING:
    from trustvlm.types.bulk import BulkReport, BulkStatus, BulkVerdicts

_LABELS = 20
LABELS = [
    Column("label", "label", "bold"),
    Column("rows", "rows", right=True, form=","),
    Column("accepted", "accepted", right=True, form=","),
    Column("review", "review", right=True, form=",", rank=2),
    Column("unknown", "unknown", right=True, form=",", rank=1),
    Column("corrected", "corrected", right=True, form=",", rank=3),
]


def print_report(report: BulkReport, form: str) -> None:
    """What a call did."""
    if form == "json":
        click.echo(as_json(report.to_dict(), indent=2))
        return
    files = f"{report.done_now:,} written now, {report.done_before:,} were there"
    if report.failed_units:
        files += f", {len(report.failed_units):,} failed"
    pace = "" if report.rows_a_second is None else f" ({report.rows_a_second:,.0f} rows a second)"
    details(
        {
            "files": f"{report.units:,} in {report.out}: {files}",
            "rows": _rows(report.rows, report.failed),
            "time": f"{report.seconds:,.1f} s{pace}",
            "revision": _revisions(report),
        }
    )
    _verdicts(report.verdicts)


def print_status(status: BulkStatus, form: str) -> None:
    """How far the work is."""
    if form == "json":
        click.echo(as_json(status.to_dict(), indent=2))
        return
    files = f"{status.done:,} of {status.units:,}"
    files += f", {status.running:,} in work" if status.running else ""
    files += f", {status.other:,} of other settings (--redo)" if status.other else ""
    total = "" if status.total_rows is None else f" of {status.total_rows:,}"
    rule = "" if status.rule is None else f", rule {status.rule}"
    details(
        {
            "work": f"{status.work}, space {status.space}{rule}",
            "input": status.input,
            "files": files,
            "rows": _rows(status.rows, status.failed, total),
            "revision": _revisions(status),
        }
    )
    _verdicts(status.verdicts)


def _rows(rows: int, failed: int, total: str = "") -> str:
    unread = f", {failed:,} without an answer (column failure)" if failed else ""
    return f"{rows:,}{total}{unread}"


def _revisions(answer: BulkReport | BulkStatus) -> str:
    first, last = answer.first_revision, answer.last_revision
    if first is None or first == last:
        return "–" if first is None else str(first)
    return f"{first} to {last}: --redo makes all of one revision"


def _verdicts(verdicts: BulkVerdicts | None) -> None:
    if verdicts is None or not verdicts.by_label:
        return
    decided = verdicts.accepted + verdicts.review + verdicts.unknown
    names = ("accepted", "review", "unknown", "corrected")
    counts = {name: getattr(verdicts, name) for name in names}
    details({name: f"{count:,} ({percent(count / decided)})" for name, count in counts.items()})
    if verdicts.claimed or verdicts.not_a_label:
        better, none = verdicts.better_label, verdicts.not_a_label
        fits = f"another label fits {better:,} of them better"
        details({"claims": f"{verdicts.claimed:,}; {fits}; {none:,} more are no label"})
    click.echo()
    row_writer("table", LABELS).write(map(asdict, verdicts.by_label[:_LABELS]))
    if (left := len(verdicts.by_label) - _LABELS) > 0:
        note(f"{left:,} more labels; --format json has all")
