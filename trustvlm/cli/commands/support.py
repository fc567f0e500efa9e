"""Support images: list, add, remove, restore; and purging what was removed."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, as_json, row_dicts, row_writer
from trustvlm.cli.printing.registration import (
    report_known,
    report_vectors,
    require_some_readable,
    summary,
)
from trustvlm.cli.printing.safe_text import note, quoted, utf8, warn
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.attributes import shown_attributes
from trustvlm.cli.reading.folders import check_exclude, exclude_option, images_in
from trustvlm.cli.reading.images import image_options, note_images, report_unreadable
from trustvlm.cli.reading.options import (
    FORMAT,
    ID,
    LABEL,
    PATHS,
    SPACE,
    VECTORS,
    file,
    flag,
    json_flag,
    number,
    text,
    where,
)
from trustvlm.cli.session import Session, exactly_one, pass_local
from trustvlm.types.attributes.values import parse_attributes
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.types.backups import Scrubbed
    from trustvlm.types.registration import RemovedSupports
    from trustvlm.types.support.proposals import RemovedProposals

MOST_NAMED = 50
"""Ids that the command for undoing names."""

SUPPORTS = [
    Column("id", "id", right=True),
    Column("label", "label"),
    Column("registered as", "registered_as", rank=2),
    Column("source", "source", narrow="end"),
    Column("attributes", shown_attributes, rank=3, narrow="words", optional=True),
    Column(
        "marks", lambda row: ", ".join(m for m in ("proposed", "kept") if row[m]), optional=True
    ),
    Column("revision", "revision", right=True, rank=1),
]
IDS = click.argument("ids", metavar="ID...", nargs=-1, required=True, type=ID)

LABEL_IF_ANY = click.argument("label", type=utf8, required=False)
IDS_IF_ANY = click.argument("ids", metavar="[ID...]", nargs=-1, type=ID)


@click.group()
def support() -> None:
    """List, add, update, remove and restore support images."""


@support.command("list")
@SPACE
@LABEL_IF_ANY
@where()
@VECTORS
@FORMAT
@click.pass_obj
def list_(
    session: Session, space: str, label: str | None, where: str | None, vectors: bool, form: str
) -> None:
    """List SPACE's support images, or those of LABEL, with their ids.

    Marked are images that 'trustvlm propose' chose, and those that a person kept where an audit
    doubted them.
    """
    options: dict[str, Any] = {"filter": where, "vectors": vectors}
    with session.reading() as service:
        writer, after = row_writer(form, SUPPORTS), 0
        while rows := service.list_supports(space, label, after=after, limit=1_000, **options):
            writer.write(row_dicts(rows, vectors))
            after = rows[-1].id
            if len(rows) < 1_000:
                break


@support.command("count")
@SPACE
@LABEL_IF_ANY
@where()
@click.pass_obj
def count_(session: Session, space: str, label: str | None, where: str | None) -> None:
    """Print how many support images SPACE has, or LABEL, or fit --where."""
    with session.reading() as service:
        click.echo(service.count_supports(space, label, filter=where))


@support.command()
@SPACE
@LABEL
@PATHS
@file(
    "--vectors",
    metavar="FILE.npz",
    help="Embeddings in the arrays image_vectors and, for search by text, "
    "classifier_image_vectors.",
)
@exclude_option
@image_options
@text(
    "--attributes", metavar="JSON", help='Attributes of all these images: \'{"season": "summer"}\'.'
)
@flag("--keep-originals", help="Keep the image files in the home; see 'trustvlm register --help'.")
@json_flag(help="Print what changed as JSON, with the ids of the new support images.")
@click.pass_obj
def add(
    session: Session,
    space: str,
    label: str,
    paths: tuple[Path, ...],
    vectors: Path | None,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    attributes: str | None,
    keep_originals: bool,
    json_: bool,
) -> None:
    """Add support images to a label that exists.

    PATHS are image files, and folders, which are searched through.
    """
    exactly_one(PATHS=paths, vectors=vectors)
    images = _images(paths, exclude, vectors)
    options = reading | images | {"keep_originals": keep_originals}
    if attributes is not None:
        options["image_attributes"] = parse_attributes(attributes, "--attributes")
    with session.writing() as service:
        result = service.add_support(space, label, **options)
    report_unreadable(result.failures)
    note_images(result.notes)
    report_vectors(space, result)
    report_known(space, result, bring_back=True)
    click.echo(as_json(result.to_dict()) if json_ else summary(result, f"label {quoted(label)}"))
    require_some_readable(result, len(images.get("images", ())))


def _images(
    paths: tuple[Path, ...], exclude: tuple[str, ...], vectors: Path | None
) -> dict[str, Any]:
    """The images or vectors, as the arguments of the library's verb."""
    from trustvlm.cli.reading.arrays import support_vectors

    check_exclude(exclude, paths)
    if vectors is not None:
        return support_vectors(vectors)
    return {"images": images_in(paths, exclude)}


@support.command()
@SPACE
@click.argument("support_id", metavar="ID", type=ID)
@text(
    "--attributes",
    metavar="JSON",
    required=True,
    help="In place of all that it has: '{\"season\": \"summer\"}'; '{}' for none.",
)
@flag("--merge", help="Change these keys alone; null takes one away.")
@click.pass_obj
def update(session: Session, space: str, support_id: int, attributes: str, merge: bool) -> None:
    """Give a support image other attributes."""
    given = parse_attributes(attributes, "--attributes")
    with session.writing() as service:
        revision = service.update_support(space, support_id, attributes=given, merge=merge)
    click.echo(f"updated support image {support_id}; revision {revision}")


@support.command()
@SPACE
@IDS_IF_ANY
@flag("--proposed", help="Remove those that 'trustvlm propose' chose.")
@where(help="Remove those whose attributes fit; 'trustvlm support list' shows them first.")
@text("--label", metavar="NAME", help="Of this label: all of them, or with --proposed or --where.")
@click.pass_obj
def remove(
    session: Session,
    space: str,
    ids: tuple[int, ...],
    proposed: bool,
    where: str | None,
    label: str | None,
) -> None:
    """Remove support images: by id, of a label, by filter, or all proposed.

    The ids are numbers in the first column of 'trustvlm support list SPACE LABEL'; 'trustvlm
    register --json' prints those that it adds. 'trustvlm support restore' undoes it until purged.
    """
    by_id, chosen = bool(ids), where is not None or (label is not None and not proposed)
    if by_id + proposed + chosen != 1 or (by_id and label is not None):
        raise click.UsageError("Expected ID..., --proposed, --where or --label, one kind of them.")
    with session.writing() as service:
        if by_id:
            revision = service.remove_support(space, ids)
        else:
            removed: RemovedProposals | RemovedSupports = (
                service.remove_proposed(space, label=label)
                if proposed
                else service.remove_supports(space, label, filter=where)
            )
            ids, revision = removed.ids, removed.revision
    click.echo(f"removed {count(len(set(ids)), 'support image')}; revision {revision}")
    if ids and not by_id:
        undo = here("support restore", space, *(ids if len(ids) <= MOST_NAMED else ["ID..."]))
        note(f"to undo it: {undo}")


@support.command()
@SPACE
@IDS
@click.pass_obj
def restore(session: Session, space: str, ids: tuple[int, ...]) -> None:
    """Bring back removed support images by id.

    'trustvlm support remove' was given the ids; 'trustvlm register --sync' prints this command
    with those that it removed.
    """
    with session.writing() as service:
        revision = service.restore_support(space, ids)
    click.echo(f"restored {count(len(set(ids)), 'support image')}; revision {revision}")


@click.command()
@number(
    "--older-than",
    bounds="hours",
    metavar="HOURS",
    help="Removed longer ago than this.  [default: the undo window]",
)
@flag(
    "--scrub",
    help="Then write the tables of a PostgreSQL server again, which keep bytes of purged rows; in "
    "a maintenance window, for each is locked meanwhile.",
)
@pass_local
def purge(session: Session, older_than: float | None, scrub: bool) -> None:
    """Delete for good what was removed.

    Labels, support images and spaces that were removed longer ago than the undo window (24 hours;
    TRUSTVLM_UNDO_HOURS).
    """
    with session.writing() as service:
        rows = service.purge(older_than=None if older_than is None else timedelta(hours=older_than))
        click.echo(f"purged {count(rows, 'row')}" if rows else "nothing to purge")
        if scrub:
            _print_scrubbed(service.scrub())


def _print_scrubbed(done: Scrubbed | None) -> None:
    if done is None:
        click.echo("nothing to scrub: a catalog in a file overwrites what is purged at once")
        return
    sizes = f"{done.bytes_before / 2**20:,.1f} → {done.bytes_after / 2**20:,.1f} MiB"
    log = "began another file of its log" if done.log_switched else "kept the file of its log"
    click.echo(f"the tables are written again: {sizes}; the server {log}")
    for remark in done.remains:
        warn(remark)
