"""Labels: list, update, remove, restore, and further names. 'trustvlm register' adds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, Row, row_dicts, row_writer, say
from trustvlm.cli.printing.safe_text import note, quoted, utf8, warn
from trustvlm.cli.reading.attributes import pairs_of, shown_attributes
from trustvlm.cli.reading.options import FORMAT, NAME, SPACE, VECTORS, file, flag, text, where
from trustvlm.cli.session import Session, pass_local
from trustvlm.reading.tables import read_parents
from trustvlm.types.attributes.values import parse_attributes
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count as number_of

if TYPE_CHECKING:
    from trustvlm.types.taxonomy import TreeNode


def _supports(row: Row) -> str:
    if row["alias_of"]:
        return f"alias of {quoted(row['alias_of'])}"
    return f"{row['support_count']:,}" if row["support_count"] else "none: unverified"


def _colour(row: Row) -> str:
    return "" if row["support_count"] or row["alias_of"] else "yellow"


LABELS = [
    Column("label", "name"),
    Column("id", "id", right=True, rank=2),
    Column("support images", _supports, _colour, right=True),
    Column("prompt", "prompt", rank=1, narrow="words"),
    Column("attributes", shown_attributes, rank=4, narrow="words", optional=True),
    Column("revision", "revision", right=True, rank=3),
]
NODES = [
    Column("name", "name", "bold"),
    Column("parent", "parent"),
    Column("label", "label"),
    Column("labels", "labels", right=True),
]
SYNONYMS = [
    Column("label", "label", "bold"),
    Column("other label", "other", "bold"),
    Column("cosine", "cosine", right=True, form=".4f"),
]


@click.group()
def label() -> None:
    """List, change, remove and restore labels.

    'trustvlm register' adds them.
    """


@label.command("list")
@SPACE
@where()
@VECTORS
@FORMAT
@click.pass_obj
def list_(session: Session, space: str, where: str | None, vectors: bool, form: str) -> None:
    """List SPACE's labels with their support counts.

    The revision is that of the last change that can alter a verdict: of the label's name, text,
    alias or support images, not of its attributes or its parent.
    """
    with session.reading() as service:
        rows = service.list_labels(space, filter=where, vectors=vectors)
        first = list(islice(rows, 1))
        row_writer(form, LABELS).write(row_dicts(chain(first, rows), vectors))
        if not first and where is not None:
            note(f"no label of space {space!r} fits --where")


@label.command()
@SPACE
@where()
@click.pass_obj
def count(session: Session, space: str, where: str | None) -> None:
    """Print how many labels SPACE has, or how many fit --where."""
    with session.reading() as service:
        click.echo(service.count_labels(space, filter=where))


@label.command()
@SPACE
@NAME
@text(
    "--prompt",
    metavar="TEXT",
    help="A prompt of its own instead of the templates; {} stands for the name.",
)
@text(
    "--new-name",
    metavar="NAME",
    help="The new name. A text prototype that was made from the old one is made from the new one.",
)
@text(
    "--attributes",
    metavar="JSON",
    help="Attributes in place of all that it has: '{\"region\": \"EU\"}'; '{}' for none.",
)
@click.pass_obj
def update(
    session: Session, /, space: str, name: str, attributes: str | None, **changes: str | None
) -> None:
    """Change a label's prompt, name or attributes.

    'trustvlm label set' changes single attributes.
    """
    if attributes is None and set(changes.values()) == {None}:
        raise click.UsageError("Expected --prompt, --new-name or --attributes.")
    options: dict[str, Any] = {**changes}
    if attributes is not None:
        options["attributes"] = parse_attributes(attributes, "--attributes")
    with session.writing() as service:
        revision = service.update_label(space, name, **options)
    click.echo(f"updated label {quoted(changes['new_name'] or name)}; revision {revision}")


@label.command("set")
@SPACE
@NAME
@click.argument("pairs", metavar="KEY=VALUE...", nargs=-1, type=utf8)
@text("--unset", metavar="KEY", multiple=True, help="Take this attribute away; repeat it.")
@click.pass_obj
def set_(
    session: Session, space: str, name: str, pairs: tuple[str, ...], unset: tuple[str, ...]
) -> None:
    """Set single attributes of a label; its others stay.

    A VALUE is a number, true, false or JSON where it reads as such, else text.
    """
    changes = pairs_of(pairs, unset)
    with session.writing() as service:
        absent = [key for key in unset if key not in service.get_label(space, name).attributes]
        revision = service.update_label(space, name, attributes=changes, merge=True)
    for key in absent:
        each = " ".join(f"--unset {quoted(one.strip())}" for one in key.split(","))
        several = f"; a key each: {each}" if "," in key else ""
        warn(f"label {quoted(name)} has no attribute {quoted(key)}: nothing to unset{several}")
    click.echo(f"set attributes of label {quoted(name)}; revision {revision}")


@label.command()
@SPACE
@click.argument("names", metavar="[NAME...]", nargs=-1, type=utf8)
@where(help="Remove all labels whose attributes fit; 'trustvlm label list' shows them first.")
@flag("--purge", help="Delete its vectors and thumbnails now, for good.")
@click.pass_obj
def remove(
    session: Session, space: str, names: tuple[str, ...], where: str | None, purge: bool
) -> None:
    """Remove labels by name, or all that fit --where.

    Their support images are removed with them.

    'trustvlm label restore' undoes it until it is purged.
    """
    if bool(names) == (where is not None):
        raise click.UsageError("Expected NAME... or --where, one of them.")
    if len(names) != 1:
        if purge:
            raise click.UsageError("--purge is for one label; 'trustvlm purge' deletes the others.")
        with session.writing() as service:
            done = service.remove_labels(space, names or None, filter=where)
        say(f"removed {number_of(done.removed, 'label')}; revision {done.revision}")
        return
    name = names[0]
    with session.writing() as service:
        revision = service.remove_label(space, name, purge=purge)
    restore = suggested("label restore", space, name)
    undo = "for good" if purge else f"{restore} brings it back until it is purged"
    say(f"removed label {quoted(name)}; revision {revision}; {undo}")


@label.command()
@SPACE
@NAME
@click.pass_obj
def restore(session: Session, space: str, name: str) -> None:
    """Bring back a removed label.

    Of several with that name, the one removed last. It comes with its support images.
    """
    with session.writing() as service:
        revision = service.restore_label(space, name)
    click.echo(f"restored label {quoted(name)}; revision {revision}")


@label.command()
@SPACE
@click.argument("name", metavar="ALIAS", type=utf8)
@click.argument("of", metavar="LABEL", type=utf8)
@click.pass_obj
def alias(session: Session, space: str, name: str, of: str) -> None:
    """Make ALIAS a further name of LABEL.

    They share probability and support images from then on, LABEL is the answer, and either name
    counts as correct.
    """
    with session.writing() as service:
        revision = service.alias(space, name, of)
    click.echo(f"{quoted(name)} is an alias of {quoted(of)}; revision {revision}")


@label.command()
@SPACE
@NAME
@click.pass_obj
def unalias(session: Session, space: str, name: str) -> None:
    """Make an alias a label of its own again."""
    with session.writing() as service:
        revision = service.unalias(space, name)
    click.echo(f"{quoted(name)} is a label of its own; revision {revision}")


@label.command()
@SPACE
@click.argument("names", metavar="[NAME PARENT]", type=utf8, nargs=-1)
@file("--file", "path", metavar="FILE", help="Many at once: CSV or TSV, columns child, parent.")
@flag("--none", help="NAME is to stand under no node.")
@click.pass_obj
def parent(
    session: Session, space: str, names: tuple[str, ...], path: Path | None, none: bool
) -> None:
    """Put label or node NAME under the node PARENT.

    A PARENT that is no node yet becomes one. Nodes need not be labels. 'trustvlm score --back-off'
    answers with a node where the label is not sure enough.
    """
    expected = 0 if path else 1 if none else 2
    if len(names) != expected or (path and none):
        raise click.UsageError("Expected NAME PARENT, or NAME --none, or --file FILE.")
    parents: dict[str, str | None] = (
        read_parents(path) if path else {names[0]: None if none else names[1]}
    )
    with session.writing() as service:
        revision = service.set_parents(space, parents)
    if path:
        click.echo(f"read {len(parents):,} parents from {quoted(str(path))}; revision {revision}")
    elif none:
        click.echo(f"{quoted(names[0])} stands under no node; revision {revision}")
    else:
        click.echo(f"{quoted(names[0])} stands under {quoted(names[1])}; revision {revision}")


@label.command()
@SPACE
@FORMAT
@click.pass_obj
def tree(session: Session, space: str, form: str) -> None:
    """List the labels that have a parent, and the nodes above them."""
    with session.reading() as service:
        nodes = service.taxonomy(space).nodes
    if form != "table":
        row_writer(form, NODES).write(map(asdict, nodes))
        return
    if not nodes:
        suggestion = suggested("label parent", space, "NAME", "PARENT")
        note(f"no label has a parent; {suggestion} gives it one")
        return
    for line in _indented(nodes):
        click.echo(line)


def _indented(nodes: Sequence[TreeNode]) -> Iterator[str]:
    """A line for each name, below that of its parent; inner nodes with how many labels stand under
    them."""
    below: dict[str | None, list[TreeNode]] = {}
    for node in nodes:
        below.setdefault(node.parent, []).append(node)
    waiting = [(0, node) for node in reversed(below.get(None, []))]
    while waiting:
        depth, node = waiting.pop()
        inner = node.name in below
        count = f"  ({node.labels:,} {'label' if node.labels == 1 else 'labels'})" if inner else ""
        alone = "" if node.label or inner else "  (no label)"
        yield f"{'  ' * depth}{quoted(node.name)}{count}{alone}"
        waiting += [(depth + 1, child) for child in reversed(below.get(node.name, []))]


@label.command()
@SPACE
@FORMAT
@pass_local
def synonyms(session: Session, space: str, form: str) -> None:
    """List pairs of labels that mean nearly the same.

    Their text prototypes have a cosine of 0.95 or more. They halve each other's probability:
    'trustvlm label alias' makes one of two.
    """
    with session.reading() as service:
        pairs = service.near_synonyms(space)
    rows = (dict(zip(("label", "other", "cosine"), pair, strict=True)) for pair in pairs)
    row_writer(form, SYNONYMS).write(rows)
    if form == "table" and not pairs:
        note("no pair of labels has a cosine of 0.95 or more")
