"""Label spaces: create, list, show, remove, restore."""

from __future__ import annotations

from dataclasses import asdict
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.commands.label import LABELS
from trustvlm.cli.commands.reembed import reembed
from trustvlm.cli.commands.verdict_log import log_verdicts, verdicts
from trustvlm.cli.printing.formats import Column, details, row_writer, say
from trustvlm.cli.printing.safe_text import note, quoted, shown, utf8, warn
from trustvlm.cli.reading.options import FORMAT, NAME, SPACE_NAME, flag, number, text
from trustvlm.cli.session import Session, on_terminal, pass_local
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.types import SpaceRow

SPACES = [
    Column("space", "name", "bold"),
    Column("labels", "label_count", right=True, form=","),
    Column("support images", "support_count", right=True, form=","),
    Column("classifier", "classifier", rank=2, narrow="end"),
    Column("verifier", "verifier", rank=3, narrow="end"),
    Column("recipe", "recipe", rank=4),
    Column("revision", "revision", right=True, rank=1),
]


HISTORY = [
    Column("revision", "revision", right=True),
    Column("at", "at", rank=1),
    Column("author", "author"),
    Column("action", "action", "bold"),
    Column("labels", "labels", right=True, form=","),
    Column("support images", "supports", right=True, form=","),
]
CHANGES = [
    Column("revision", "revision", right=True),
    Column("kind", "kind"),
    Column("id", "id", right=True),
    Column("change", "change", "bold"),
    Column("label", "label", narrow="end"),
    Column("at", "at", rank=2),
    Column("author", "author", rank=1),
    Column("action", "action", rank=3),
]
SINCE = click.option(
    "--since",
    metavar="REVISION",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    help="Begin after this revision.",
)


@click.group()
def space() -> None:
    """Create, list, change and remove spaces; say what changed in them.

    A label space is a named set of labels with its templates and its two encoders.
    """


@space.command()
@NAME
@text(
    "--classifier",
    metavar="SPEC",
    help="The vision-language model: open_clip:MODEL/PRETRAINED, open_clip:local-dir:PATH, "
    "open_clip:hf-hub:ORG/NAME, transformers:ORG/NAME, transformers:PATH, or "
    "precomputed:DIM[:TAG] for vectors of your own; or external[:LABELS], any classifier, whose "
    "probabilities come with the queries (room for 1000 labels by default). Names such as "
    "ViT-B/32 or openai/clip-vit-base-patch32 are understood.",
)
@text(
    "--verifier",
    metavar="SPEC",
    help="The image encoder: timm:MODEL[@WEIGHTS][?pooling=mean-tokens], an open_clip or "
    "transformers one, precomputed:DIM[:TAG], or same: the classifier's image tower. Names such "
    "as dinov2_vits14 or facebook/dinov2-small are understood.  [default: same]",
)
@text(
    "--template",
    "templates",
    metavar="TEXT",
    multiple=True,
    help="Prompt with {} where the label's name goes; repeat it for several.  [default: a "
    "photo of a {}.]",
)
@number("--logit-scale", metavar="X", help="Scale of the softmax.  [default: the model's own]")
@click.option(
    "--preset",
    metavar="NAME",
    help="Both encoders by name: small (0.7 GB, fast on a CPU), paper (0.9 GB, the reference "
    "set-up of TrustVLM) or large (2.9 GB, for a GPU).",
)
@click.option(
    "--recipe", metavar="NAME", default="flat", help="Index recipe; see 'trustvlm index list'."
)
@click.pass_obj
def create(session: Session, /, name: str, templates: tuple[str, ...], **options: Any) -> None:
    """Create a label space.

    Creates the home if it does not exist. The space is pinned to its two encoders: other weights or
    another preprocessing are refused later.
    """
    with session.writing(create=True) as service:
        row = service.create_space(name, templates=list(templates) or None, **options)
    encoders = f"classifier {shown(row.classifier)}, verifier {shown(row.verifier)}"
    click.echo(f"created space {quoted(row.name)}: {encoders}")


@space.command("list")
@FORMAT
@click.pass_obj
def list_(session: Session, form: str) -> None:
    """List the label spaces of the home."""
    with session.reading() as service:
        rows = [row.to_dict() for row in service.list_spaces()]
    row_writer(form, SPACES).write(rows)
    if not rows:
        note("no spaces yet: 'trustvlm space create NAME' makes one")


@space.command()
@SPACE_NAME
@click.option("--limit", type=click.IntRange(0, 10**9), default=20, help="How many labels to list.")
@flag("--all", "all_", help="List every label.")
@click.pass_obj
def show(session: Session, name: str, limit: int, all_: bool) -> None:
    """Show a space and its labels.

    Labels without support images are marked: predictions of them are unverified.
    """
    with session.reading() as service:
        row = service.get_space(name)
        created = f"{row.created_at:%Y-%m-%d %H:%M} UTC"
        values = asdict(row) | {"templates": " | ".join(row.templates), "created_at": created}
        details({key.replace("_", " "): value for key, value in values.items()})
        if row.label_count:
            click.echo()
        labels = islice(service.list_labels(name), None if all_ else limit)
        row_writer("table", LABELS).write(map(asdict, labels))
    if not all_ and row.label_count > limit:
        note(f"… and {count(row.label_count - limit, 'label')} more; --all lists them")


@space.command()
@SPACE_NAME
@flag("--yes", help="Do not ask.")
@click.pass_obj
def remove(session: Session, name: str, yes: bool) -> None:
    """Remove a space with all that is in it.

    'trustvlm space restore' undoes it until it is purged.
    """
    with session.writing() as service:
        row = service.get_space(name)
        labels, supports = (
            count(row.label_count, "label"),
            count(row.support_count, "support image"),
        )
        what = f"space {quoted(name)} with {labels}, {supports}"
        if not yes and not on_terminal():
            raise click.UsageError(f"Removing {what}: stdin is no terminal; pass --yes to confirm.")
        if not yes and not click.confirm(f"Remove {what}?", err=True):
            click.echo("nothing removed")
            return
        service.remove_space(name)
    undo = f"{suggested('space restore', name)} brings it back until it is purged"
    say(f"removed {what}; {undo}")


@space.command()
@SPACE_NAME
@text("--classifier", metavar="SPEC", help="The new spec of the classifier.  [default: as it is]")
@text("--verifier", metavar="SPEC", help="The new spec of the verifier.  [default: as it is]")
@pass_local
def repoint(session: Session, name: str, classifier: str | None, verifier: str | None) -> None:
    """Set the place of a space's model weights.

    They must be the same: other weights, preprocessing or pooling are refused ('trustvlm space
    reembed' takes those). Nothing else changes: embeddings, calibrations and snapshots stay as they
    are.
    """
    if classifier is None and verifier is None:
        raise click.UsageError("Expected --classifier, --verifier or both.")
    with session.writing() as service:
        row = service.repoint_space(name, classifier=classifier, verifier=verifier)
    encoders = f"classifier {shown(row.classifier)}, verifier {shown(row.verifier)}"
    click.echo(f"space {quoted(row.name)}: {encoders}")


@space.command()
@NAME
@click.pass_obj
def restore(session: Session, name: str) -> None:
    """Bring back a removed space: the last one of that name.

    If the space was re-embedded ('trustvlm space reembed'), put its old embeddings back.
    """
    with session.writing() as service:
        service.restore_space(name)
        row = service.get_space(name)
    click.echo(f"restored space {quoted(name)} with {_contents(row)}; revision {row.revision}")


@space.command()
@SPACE_NAME
@SINCE
@FORMAT
@click.pass_obj
def history(session: Session, name: str, since: int, form: str) -> None:
    """List what changed a space, when and by whom.

    One row for each revision, oldest first. The author is the user of the command line, or the id
    of the key that a request had.
    """
    with session.reading() as service:
        rows = [row.to_dict() for row in service.history(name, since)]
    row_writer(form, HISTORY).write(rows)
    if not rows:
        note("no revision in the history")


@space.command()
@SPACE_NAME
@SINCE
@FORMAT
@click.pass_obj
def changes(session: Session, name: str, since: int, form: str) -> None:
    """List the labels and support images that changed since a revision.

    Each once, as it is now: what a copy elsewhere must apply to be equal to the space. The last
    line says the revision to go on from.
    """
    with session.reading() as service:
        page = first = service.changes(name, since)
        rows = [row.to_dict() for row in page.changes]
        while page.next_cursor is not None:
            page = service.changes(name, since, cursor=page.next_cursor)
            rows += [row.to_dict() for row in page.changes]
    row_writer(form, CHANGES).write(rows)
    if not first.complete:
        warn("rows were purged long ago: list the labels again, and drop what is not among them")
    note(f"the space is at revision {first.revision}: go on with --since {first.revision}")


def _contents(row: SpaceRow) -> str:
    return f"{count(row.label_count, 'label')}, {count(row.support_count, 'support image')}"


space.add_command(reembed)
space.add_command(log_verdicts)
space.add_command(verdicts)


@space.command("index-attribute")
@SPACE_NAME
@click.argument("key", type=utf8)
@flag("--remove", help="Index it no longer.")
@pass_local
def index_attribute(session: Session, name: str, key: str, remove: bool) -> None:
    """Index KEY of the labels' attributes.

    The first filter of a process then reads the values of a file in place of all rows: at a million
    labels that saves seconds. Indexed or not, filters answer alike.
    """
    with session.writing() as service:
        keys = service.index_attribute(name, key, remove=remove)
    click.echo(f"indexed keys: {', '.join(map(quoted, keys)) or 'none'}")
