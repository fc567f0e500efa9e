"""The log of a space's answers: switched on and off, listed, drawn from, exported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, details, row_writer, say
from trustvlm.cli.printing.safe_text import note, quoted
from trustvlm.cli.reading.options import (
    FORMAT,
    SPACE,
    Bounded,
    file,
    flag,
    log_options,
    number,
    text,
)
from trustvlm.cli.session import Session
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import chance

if TYPE_CHECKING:
    from trustvlm.reading.verdict_log.files import VerdictLog

_PAGE = 1_000

COLUMNS = [
    Column("at", lambda row: str(row["at"])[:19].replace("T", " ")),
    Column("decision", "decision"),
    Column("probability", lambda row: chance(row["probability"]), right=True),
    Column("label", "label", "bold", narrow="end"),
    Column("claimed", "claimed", optional=True, narrow="end"),
    Column("node", "node", optional=True, rank=2),
    Column("why", "reason_code", rank=1),
    Column("source", "source", optional=True, narrow="end"),
    Column("request", "request_id", optional=True, rank=3),
]


@click.command("log-verdicts")
@SPACE
@number("--days", bounds="log_days", help="Delete rows of this age.  [default: as it is, or 30]")
@click.option(
    "--rows",
    type=Bounded("log_rows"),
    help="Keep this number of the newest rows.  [default: as it is, or 100000]",
)
@flag("--off", help="Log no further answers; rows are still deleted at their age.")
@flag("--discard", help="Delete the rows that are there.")
@flag("--status", "status_", help="Change nothing; say what the log keeps and holds.")
@click.pass_obj
def log_verdicts(session: Session, /, space: str, off: bool, status_: bool, **options: Any) -> None:
    """Keep a log of a space's answers.

    Each answer of 'trustvlm score' and 'trustvlm serve' becomes a row: when, the request, the
    label, the decision and its probability, the revision and the calibration. Images and embeddings
    are never logged. 'trustvlm space verdicts' reads the log.
    """
    if status_ and (off or options != {"days": None, "rows": None, "discard": False}):
        raise click.UsageError("--status changes nothing: leave the other options out.")
    with session.reading() if status_ else session.writing() as service:
        log = service.verdict_log(space)
        made = log.status() if status_ else log.switch(not off, **options)
    if status_:
        details({key: value for key, value in made.to_dict().items() if value is not None})
        return
    state = "logging from now on" if made.logging else "not logging"
    say(
        f"space {quoted(space)}: {state}; {count(made.stored, 'row')} stored, deleted after "
        f"{made.days:g} days and beyond the newest {made.rows:,}"
    )


@click.command()
@SPACE
@log_options
@text("--request-id", metavar="ID", help="Only answers to this HTTP request.")
@click.option(
    "--limit",
    type=click.IntRange(1, 10_000_000),
    help="How many of the newest; not with --sample.  [default: 100; with --out all]",
)
@file("--out", "-o", "path", metavar="FILE", help="Write a .parquet file instead of a table.")
@FORMAT
@click.pass_obj
def verdicts(
    session: Session, /, space: str, limit: int | None, path: Path | None, form: str, **which: Any
) -> None:
    """List logged answers, newest first.

    TIME is 2030-01-31, 2030-01-31T12:00 (UTC) or an age such as 24h or 7d.
    """
    with session.reading() as service:
        log = service.verdict_log(space)
        if path is not None:
            written = log.export(path, limit=limit, **which)
            say(f"{count(written, 'row')} written to {path}")
        else:
            written = _list(log, form, limit, which)
        if not written:
            note_nothing(log, space, which)


def note_nothing(log: VerdictLog, space: str, which: Mapping[str, Any]) -> None:
    """Say why no logged answer is among those that the options of a command ask for."""
    status, label = log.status(), which.get("label")
    if not status.logging:
        note(f"the space logs no answers; {suggested('space log-verdicts', space)} makes it do so")
    if label is not None and not log.page(label=label, limit=1).verdicts:
        note(f"no logged answer has the label '{label}'")
    elif status.stored:
        note(f"none of {count(status.stored, 'logged answer')} fits")
    elif status.logging:
        note("no answers are logged yet")


def _list(log: VerdictLog, form: str, limit: int | None, which: dict[str, Any]) -> int:
    """Write up to `limit` rows, or those of a sample; how many."""
    writer, cursor, written = row_writer(form, COLUMNS), None, 0
    if limit is None and which["sample"] is None:
        from trustvlm.types.verdict_log import PAGE

        limit = PAGE
    while True:
        some = None if limit is None else min(limit - written, _PAGE)
        page = log.page(limit=some, cursor=cursor, **which)
        writer.write(row.to_dict() for row in page.verdicts)
        written, cursor = written + len(page.verdicts), page.next_cursor
        if cursor is None:
            return written
        if limit is not None and written >= limit:
            note("there are more: --limit lists them, --out FILE.parquet writes all")
            return written
