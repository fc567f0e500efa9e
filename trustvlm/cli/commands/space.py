"""Label spaces: create, list, show, remove, restore."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice

import click

from trustvlm.cli.commands.label import LABEL_COLUMNS, label_rows
from trustvlm.cli.commands.reembed import reembed
from trustvlm.cli.printing.formats import Column, Row, details, format_option, row_writer
from trustvlm.cli.printing.safe_text import count, note, quoted, shown, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.session import Session, on_terminal

__all__ = ["space"]


@click.group()
def space() -> None:
    """Create, list, show, remove, restore, re-embed, repoint label spaces.

    A label space is a named set of labels with its templates and its two encoders.
    """


@space.command()
@click.argument("name", type=utf8)
@click.option(
    "--classifier",
    metavar="SPEC",
    type=utf8,
    help="The vision-language model: open_clip:MODEL/PRETRAINED, open_clip:local-dir:PATH, "
    "open_clip:hf-hub:ORG/NAME, "
    "or precomputed:DIM[:TAG] for vectors of your own.",
)
@click.option(
    "--verifier",
    metavar="SPEC",
    type=utf8,
    help="The image encoder: timm:MODEL[@WEIGHTS][?pooling=mean-tokens], an open_clip one, "
    "precomputed:DIM[:TAG], or same: "
    "the classifier's image tower.  [default: same]",
)
@click.option(
    "--template",
    "templates",
    metavar="TEXT",
    multiple=True,
    type=utf8,
    help="Prompt with {} where the label's name goes; repeat it for several.  [default: a "
    "photo of a {}.]",
)
@click.option(
    "--logit-scale",
    type=Bounded("logit_scale"),
    metavar="X",
    help="Scale of the softmax.  [default: the model's own]",
)
@click.option(
    "--preset",
    metavar="NAME",
    help="A whole set-up by name: paper is the reference one of TrustVLM.",
)
@click.option(
    "--recipe",
    metavar="NAME",
    default="flat",
    show_default=True,
    help="Index recipe; see 'trustvlm index list'.",
)
@click.pass_obj
def create(
    session: Session,
    name: str,
    classifier: str | None,
    verifier: str | None,
    templates: tuple[str, ...],
    logit_scale: float | None,
    preset: str | None,
    recipe: str,
) -> None:
    """Create a label space.

    The home is made when it is missing. The space is pinned to its two encoders: other weights or
    another preprocessing are refused later.
    """
    with session.writing(create=True) as service:
        row = service.create_space(
            name,
            classifier=classifier,
            verifier=verifier,
            templates=list(templates) or None,
            logit_scale=logit_scale,
            preset=preset,
            recipe=recipe,
        )
    click.echo(
        f"created space {quoted(row.name)}: classifier {shown(row.classifier)}, verifier "
        f"{shown(row.verifier)}"
    )


SPACE_COLUMNS = [
    Column("space", lambda row: row["name"], lambda row: "bold"),
    Column("labels", lambda row: f"{row['label_count']:,}", right=True),
    Column("support images", lambda row: f"{row['support_count']:,}", right=True),
    Column("classifier", lambda row: row["classifier"], rank=2, narrow="end"),
    Column("verifier", lambda row: row["verifier"], rank=3, narrow="end"),
    Column("recipe", lambda row: row["recipe"], rank=4),
    Column("revision", lambda row: str(row["revision"]), right=True, rank=1),
]


@space.command("list")
@format_option
@click.pass_obj
def list_(session: Session, form: str) -> None:
    """List the label spaces of the home."""
    with session.reading() as service:
        rows: list[Row] = [
            asdict(row) | {"created_at": row.created_at.isoformat()}
            for row in service.list_spaces()
        ]
    row_writer(form, SPACE_COLUMNS).write(rows)
    if not rows:
        note("no spaces yet: 'trustvlm space create' makes one")


@space.command()
@click.argument("name", type=utf8)
@click.option(
    "--limit",
    type=click.IntRange(0, 10**9),
    default=20,
    show_default=True,
    help="How many labels to list.",
)
@click.option("--all", "all_", is_flag=True, help="List every label.")
@click.pass_obj
def show(session: Session, name: str, limit: int, all_: bool) -> None:
    """Show a space and its labels.

    Labels without support images are marked: predictions of them are unverified.
    """
    with session.reading() as service:
        row = service.get_space(name)
        values = asdict(row) | {
            "templates": " | ".join(row.templates),
            "created_at": f"{row.created_at:%Y-%m-%d %H:%M} UTC",
        }
        details({key.replace("_", " "): value for key, value in values.items()})
        if row.label_count:
            click.echo()
        row_writer("table", LABEL_COLUMNS).write(
            label_rows(islice(service.list_labels(name), None if all_ else limit))
        )
    if not all_ and row.label_count > limit:
        note(f"… and {count(row.label_count - limit, 'label')} more; --all lists them")


@space.command()
@click.argument("name", type=utf8)
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.pass_obj
def remove(session: Session, name: str, yes: bool) -> None:
    """Remove a space with all that is in it.

    'trustvlm space restore' undoes it until it is purged.
    """
    with session.writing() as service:
        row = service.get_space(name)
        what = (
            f"space {quoted(name)} with {count(row.label_count, 'label')}, "
            f"{count(row.support_count, 'support image')}"
        )
        if not yes and not on_terminal():
            raise click.UsageError(f"Removing {what}: pass --yes, as there is nobody to ask.")
        if not yes and not click.confirm(f"Remove {what}?", err=True):
            click.echo("nothing removed")
            return
        service.remove_space(name)
    click.echo(
        f"removed {what}; 'trustvlm space restore {quoted(name)}' brings it back until it is purged"
    )


@space.command()
@click.argument("name", type=utf8)
@click.option(
    "--classifier",
    metavar="SPEC",
    type=utf8,
    help="The new spec of the classifier.  [default: as it is]",
)
@click.option(
    "--verifier",
    metavar="SPEC",
    type=utf8,
    help="The new spec of the verifier.  [default: as it is]",
)
@click.pass_obj
def repoint(session: Session, name: str, classifier: str | None, verifier: str | None) -> None:
    """Say where a space's model weights are now.

    They must be the same: other weights, preprocessing or pooling are refused ('trustvlm space
    reembed' takes those). Nothing
    else changes: embeddings, calibrations and snapshots stay as they are.
    """
    if classifier is None and verifier is None:
        raise click.UsageError("Expected --classifier, --verifier or both.")
    with session.writing() as service:
        row = service.repoint_space(name, classifier=classifier, verifier=verifier)
    click.echo(
        f"space {quoted(row.name)}: classifier {shown(row.classifier)}, verifier "
        f"{shown(row.verifier)}"
    )


@space.command()
@click.argument("name", type=utf8)
@click.pass_obj
def restore(session: Session, name: str) -> None:
    """Bring back a removed space: the last one of that name.

    Of a space that was re-embedded ('trustvlm space reembed'), put the old embeddings back.
    """
    with session.writing() as service:
        service.restore_space(name)
        row = service.get_space(name)
    supports = count(row.support_count, "support image")
    click.echo(
        f"restored space {quoted(name)} with {count(row.label_count, 'label')}, {supports}; "
        f"revision {row.revision}"
    )


space.add_command(reembed)
