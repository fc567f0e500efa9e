"""Looking for damage in a home, and mending it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, as_json, row_writer
from trustvlm.cli.printing.progress import Bar, progress_bar
from trustvlm.cli.printing.safe_text import count, quoted, shown, utf8
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import FOUND_DAMAGE, Damaged, SchemaMismatch

if TYPE_CHECKING:
    from trustvlm.types.verification import VerifyReport

__all__ = ["verify"]

SHOWN = 50

DAMAGE = [
    Column("space", lambda row: row["space"] or ""),
    Column("what", lambda row: row["what"], lambda row: "bold"),
    Column("problem", lambda row: row["problem"], narrow="words"),
    Column("--repair", lambda row: row["does"], narrow="words"),
]
MENDED = DAMAGE[:3]
QUARANTINE = [
    Column("since", lambda row: f"{row['since']:%Y-%m-%d %H:%M}", rank=1),
    Column("space", lambda row: row["space"] or ""),
    Column("row", lambda row: f"{row['kind']} {row['row_id']}", lambda row: "bold"),
    Column("name", lambda row: row["name"] or ""),
    Column("reason", lambda row: row["reason"], narrow="words"),
]


@click.command()
@click.argument("space", type=utf8, required=False)
@click.option("--all", "everything", is_flag=True, help="The whole home, removed spaces too.")
@click.option(
    "--repair", is_flag=True, help="Make anew what is derived, put what is damaged into quarantine."
)
@click.option("--json", "json_", is_flag=True, help="Print what was found as JSON.")
@click.pass_context
def verify(
    ctx: click.Context, space: str | None, everything: bool, repair: bool, json_: bool
) -> None:
    """Check every row and snapshot of SPACE, or of the whole home.

    Exit code 6 when something is damaged (with --repair: is damaged still). A repair deletes
    nothing: what it takes out of service lies in quarantine, where it is listed, until 'trustvlm
    purge'.
    """
    exactly_one(SPACE=space, all=everything or None)
    session: Session = ctx.obj
    report = _report(session, space, repair)
    click.echo(as_json(report.to_dict(), indent=2)) if json_ else _print(report, repair)
    if not report.clean:
        ctx.exit(FOUND_DAMAGE)


def _report(session: Session, space: str | None, repair: bool) -> VerifyReport:
    """The report; of a catalog that cannot be opened, what keeps it from that."""
    from trustvlm.catalog import Catalog
    from trustvlm.service.verify.verify import unopened

    try:
        with session.writing() if repair else session.reading() as service, _progress() as progress:
            return service.verify(space, repair=repair, progress=progress)
    except Damaged as error:
        return unopened(session.home, session.catalog, str(error))
    except SchemaMismatch:
        if Catalog.schema_of(session.catalog) is not None:
            raise
        return unopened(
            session.home,
            session.catalog,
            "it holds no tables: it is empty, or cut short to nothing",
        )


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Shows (rows done, rows in all) as a bar, which begins when the total is known."""
    with ExitStack() as stack:
        bar: Bar | None = None
        before = 0

        def progress(done: int, total: int) -> None:
            nonlocal bar, before
            bar = stack.enter_context(progress_bar(total, "rows")) if bar is None else bar
            bar.advance(done - before)
            before = done

        yield progress


def _print(report: VerifyReport, repair: bool) -> None:
    from trustvlm.types.verification import REMEDIES

    looked = ", ".join(count(number, kind) for kind, number in sorted(report.checked.items()))
    click.echo(f"looked at {shown(report.home)}: {looked or 'nothing could be read'}")
    for note in report.notes:
        click.echo(f"note: {shown(note)}")
    if report.repaired:
        click.echo(f"\nmended or put into quarantine: {count(len(report.repaired), 'thing')}")
        _table(MENDED, [vars(row) for row in report.repaired])
    if report.quarantined:
        click.echo(
            f"\nin quarantine: {count(report.quarantined, 'row')} ('trustvlm purge' deletes)"
        )
        _table(QUARANTINE, [vars(row) for row in report.quarantine])
    if report.clean:
        click.echo("\nno damage")
        return
    click.echo(
        f"\n{'damaged still' if repair else 'damaged'}: "
        f"{count(len(report.damage) + report.more, 'thing')}"
    )
    _table(DAMAGE, [vars(row) | {"does": REMEDIES[row.remedy]} for row in report.damage])
    if not repair and any(row.remedy != "backup" for row in report.damage):
        name = "--all" if len(report.spaces) != 1 else quoted(report.spaces[0])
        click.echo(f"to mend what can be: trustvlm verify {name} --repair")


def _table(columns: list[Column], rows: list[dict[str, Any]]) -> None:
    row_writer("table", columns).write(rows[:SHOWN])
    if len(rows) > SHOWN:
        click.echo(f"… and {len(rows) - SHOWN} more (--json lists them)")
