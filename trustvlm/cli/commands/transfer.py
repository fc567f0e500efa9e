"""Spaces as Parquet files: out of a home, and into one."""

from __future__ import annotations

import json
from pathlib import Path

import click

from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import count, quoted, shown, utf8
from trustvlm.cli.session import Session

__all__ = ["export", "import_"]


@click.command()
@click.argument("space", type=utf8)
@click.argument("folder", type=click.Path(path_type=Path))
@click.pass_obj
def export(session: Session, space: str, folder: Path) -> None:
    """Write SPACE as Parquet files into the new folder FOLDER.

    Labels, support images with their embeddings and thumbnails, and a manifest: for pandas, DuckDB
    and the like, and for 'trustvlm import'. What was removed, calibrations and feedback are not
    exported.
    """
    with (
        session.reading() as service,
        progress_bar(service.get_space(space).label_count, "labels") as bar,
    ):
        done = service.export_space(space, folder, progress=bar.advance)
    what = f"{count(done.labels, 'label')}, {count(done.supports, 'support image')}"
    click.echo(
        f"exported space {quoted(done.space)} at revision {done.revision}, {what}: "
        f"{shown(done.folder)}"
    )


@click.command("import")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--as",
    "name",
    metavar="NAME",
    type=utf8,
    help="Name of the space.  [default: that of the exported one]",
)
@click.pass_obj
def import_(session: Session, folder: Path, name: str | None) -> None:
    """Make a space of the FOLDER that 'trustvlm export' wrote.

    The space is there wholly or not at all. It is pinned to the same encoders. The home is made
    when it is missing.
    """
    with (
        session.writing(create=True) as service,
        progress_bar(_label_count(folder), "labels") as bar,
    ):
        row = service.import_space(folder, name=name, progress=bar.advance)
    what = f"{count(row.label_count, 'label')}, {count(row.support_count, 'support image')}"
    click.echo(f"imported space {quoted(row.name)}: {what}")


def _label_count(folder: Path) -> int:
    """How many labels there will be, for the bar only."""
    try:
        return int(
            json.loads((folder / "manifest.json").read_text())["files"]["labels.parquet"]["rows"]
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0
