"""Support images: list, add, remove, restore; and purging what was removed."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import click

from trustvlm.cli.commands.register import report_drift, require_some_readable, summary
from trustvlm.cli.printing.changes import report_known
from trustvlm.cli.printing.formats import Column, as_json, format_option, row_writer
from trustvlm.cli.printing.safe_text import count, quoted, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.reading.folders import check_exclude, exclude_option, finding
from trustvlm.cli.reading.images import image_options, note_images, report_unreadable
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput

__all__ = ["purge", "support"]

SUPPORT_COLUMNS = [
    Column("id", lambda row: str(row["id"]), right=True),
    Column("label", lambda row: row["label"]),
    Column("registered as", lambda row: row["registered_as"] or "", rank=2),
    Column("source", lambda row: row["source"] or "", narrow="end"),
    Column("revision", lambda row: str(row["revision"]), right=True, rank=1),
]
IDS = click.argument("ids", nargs=-1, required=True, type=click.IntRange(1, 2**63 - 1))


@click.group()
def support() -> None:
    """List, add, remove and restore support images."""


@support.command("list")
@click.argument("space", type=utf8)
@click.argument("label", type=utf8)
@format_option
@click.pass_obj
def list_(session: Session, space: str, label: str, form: str) -> None:
    """List LABEL's support images with their ids."""
    with session.reading() as service:
        row_writer(form, SUPPORT_COLUMNS).write(map(asdict, service.list_supports(space, label)))


@support.command()
@click.argument("space", type=utf8)
@click.argument("label", type=utf8)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--vectors",
    metavar="FILE.npz",
    type=click.Path(path_type=Path),
    help="Vectors of your own: arrays image_vectors and, for search by text, "
    "classifier_image_vectors.",
)
@exclude_option
@image_options
@click.option(
    "--keep-originals",
    is_flag=True,
    help="Keep the image files in the home; see 'trustvlm register --help'.",
)
@click.option(
    "--json",
    "json_",
    is_flag=True,
    help="Print what changed as JSON, with the ids of the new support images.",
)
@click.pass_obj
def add(
    session: Session,
    space: str,
    label: str,
    paths: tuple[Path, ...],
    vectors: Path | None,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    keep_originals: bool,
    json_: bool,
) -> None:
    """Add support images to a label that exists.

    PATHS are image files, and folders, which are searched through.
    """
    from trustvlm.cli.reading.arrays import support_vectors

    exactly_one(PATHS=paths, vectors=vectors)
    check_exclude(exclude, paths)
    with finding(exclude) as finder:
        images = finder.images_of(paths)
    if paths and not images:
        raise InvalidInput(f"no images in {', '.join(map(str, paths))}")
    with session.writing() as service:
        given = {"images": images} if vectors is None else support_vectors(vectors)
        result = service.add_support(
            space, label, **given, keep_originals=keep_originals, **reading
        )
    report_unreadable(result.failures)
    note_images(result.notes)
    report_drift(result)
    report_known(space, result, bring_back=True)
    click.echo(as_json(asdict(result)) if json_ else summary(result, f"label {quoted(label)}"))
    require_some_readable(result, len(images))


@support.command()
@click.argument("space", type=utf8)
@IDS
@click.pass_obj
def remove(session: Session, space: str, ids: tuple[int, ...]) -> None:
    """Remove support images by id.

    'trustvlm support list' prints ids; 'trustvlm support restore' undoes it until purged.
    """
    with session.writing() as service:
        revision = service.remove_support(space, ids)
    click.echo(f"removed {count(len(set(ids)), 'support image')}; revision {revision}")


@support.command()
@click.argument("space", type=utf8)
@IDS
@click.pass_obj
def restore(session: Session, space: str, ids: tuple[int, ...]) -> None:
    """Bring back removed support images by id."""
    with session.writing() as service:
        revision = service.restore_support(space, ids)
    click.echo(f"restored {count(len(set(ids)), 'support image')}; revision {revision}")


@click.command()
@click.option(
    "--older-than",
    type=Bounded("hours"),
    metavar="HOURS",
    help="Removed longer ago than this.  [default: the undo window]",
)
@click.pass_obj
def purge(session: Session, older_than: float | None) -> None:
    """Delete for good what was removed.

    Labels, support images and spaces that were removed longer ago than the undo window (24 hours;
    TRUSTVLM_UNDO_HOURS).
    """
    with session.writing() as service:
        rows = service.purge(older_than=None if older_than is None else timedelta(hours=older_than))
    click.echo(f"purged {count(rows, 'row')}" if rows else "nothing to purge")
