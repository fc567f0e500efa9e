"""Backing up a home, and making a home of a backup."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, row_writer
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import count, quoted, shown
from trustvlm.cli.session import Session

if TYPE_CHECKING:
    from trustvlm.types.backups import CatalogFacts

__all__ = ["backup", "restore"]

COLUMNS = [
    Column("space", lambda row: row["name"], lambda row: "bold"),
    Column("labels", lambda row: f"{row['labels']:,}", right=True),
    Column("support images", lambda row: f"{row['supports']:,}", right=True),
    Column("revision", lambda row: str(row["revision"]), right=True, rank=1),
]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE when it is there.")
@click.pass_obj
def backup(session: Session, file: Path, force: bool) -> None:
    """Write the home, as it is at one moment, to FILE.

    Others may go on working. FILE is one archive, checked when it is read; 'trustvlm restore' makes
    a home of it. What is purged later stays in it.
    """
    with session.reading() as service, progress_bar(100, "% backed up") as bar:
        known = 0

        def advance(done: int, total: int) -> None:
            nonlocal known
            percent = 100 * done // max(1, total)
            bar.advance(percent - known)
            known = percent

        made = service.backup(file, force=force, progress=advance)
    click.echo(
        f"backed up schema {made.catalog.schema}, {count(made.originals, 'original')}: "
        f"{shown(made.path)}"
    )
    _print(made.catalog)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    metavar="HOME",
    type=click.Path(path_type=Path),
    help="The home to make.  [default: that of --home]",
)
@click.option(
    "--replace", is_flag=True, help="Replace the home that is there; it is kept beside the new one."
)
@click.option("--check", is_flag=True, help="Only check FILE and say what is in it.")
@click.pass_obj
def restore(session: Session, file: Path, to: Path | None, replace: bool, check: bool) -> None:
    """Make a home of the backup FILE.

    All of FILE is checked before anything is written: one that was cut off or altered is refused. A
    home that is there must be out of use to be replaced.
    """
    from trustvlm.service.backup.restore import check_backup
    from trustvlm.service.backup.restore import restore as make_home

    with progress_bar(file.stat().st_size if file.is_file() else 0, "bytes checked") as bar:
        if check:
            manifest = check_backup(file, progress=bar.advance)
        else:
            done = make_home(file, to or session.home, replace=replace, progress=bar.advance)
    if check:
        click.echo(
            f"sound: a backup of {manifest.created_at:%Y-%m-%d %H:%M} UTC, schema "
            f"{manifest.catalog.schema}"
        )
        _print(manifest.catalog)
        return
    click.echo(f"restored the backup of {done.created_at:%Y-%m-%d %H:%M} UTC: {shown(done.home)}")
    _print(done.catalog)
    if done.replaced is not None:
        click.echo(
            f"the home that was there is now {shown(done.replaced)}; delete it when nothing in "
            f"it is missed"
        )
    if done.outdated:
        click.echo(
            f"its schema {done.catalog.schema} is older: trustvlm --home "
            f"{quoted(str(done.home))} db upgrade"
        )


def _print(catalog: CatalogFacts) -> None:
    row_writer("table", COLUMNS).write(map(vars, catalog.spaces))
