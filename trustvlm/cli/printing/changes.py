"""What a registration says of images that the space knows already, and what a sync changes or would
change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, Row, row_writer
from trustvlm.cli.printing.safe_text import count, note, quoted

if TYPE_CHECKING:
    from trustvlm.types import KnownImage, RegisterResult

__all__ = ["print_changes", "report_known"]

_IDS = 10

COLUMNS = [
    Column("change", lambda row: row["change"]),
    Column("label", lambda row: row["label"], lambda row: "bold"),
    Column("support image", lambda row: row["image"], narrow="end"),
    Column("id", lambda row: row["id"], right=True, rank=1),
]


def report_known(
    space: str,
    result: RegisterResult,
    *,
    bring_back: bool,
    sync: bool = False,
    sizes: Mapping[str, int] | None = None,
) -> None:
    """Say on stderr which images are support images of other labels, too, and which were taken out
    of their label.

    `sizes`: how many images the call has of each label.
    """
    for (label, other), images in _grouped(result.elsewhere).items():
        what = (
            f"{count(len(images), 'image')} of {quoted(label)} {_are(images)} of "
            f"{quoted(other)}, too{_ids(images, other)}"
        )
        remove = f"'trustvlm support remove {quoted(space)} ID…' removes them from {quoted(other)}"
        more = "register --sync follows images that moved to another folder"
        note(f"{what}; {'both labels keep them' if sync else f'{remove}; {more}'}")
        if not sync and not result.dry_run and len(images) == (sizes or {}).get(label):
            renaming = (
                f"trustvlm label update {quoted(space)} {quoted(other)} --new-name {quoted(label)}"
            )
            note(
                f"if {quoted(other)} was renamed: trustvlm label remove {quoted(space)} "
                f"{quoted(label)} && {renaming}"
            )
    for (label, _), images in _grouped(result.taken_out).items():
        one = len(images) == 1
        back = "is added again" if one else "are added again"
        out = f"{'is' if one else 'are'} not added; --bring-back adds {'it' if one else 'them'}"
        what = (
            f"{count(len(images), 'image')} of {quoted(label)} {'was' if one else 'were'} "
            f"removed from this label before"
        )
        note(f"{what}{_ids(images, label)} and {back if bring_back or sync else out}")


def _are(images: list[KnownImage]) -> str:
    return "are support images" if len(images) > 1 else "is a support image"


def _ids(images: list[KnownImage], label: str) -> str:
    """The ids of the images as support images of `label`."""
    some = ", ".join(str(image.id) for image in images[:_IDS]) + (", …" if images[_IDS:] else "")
    return f" (id{'s' * (len(images) > 1)} in {quoted(label)}: {some})"


def _grouped(images: Iterable[KnownImage]) -> dict[tuple[str, str], list[KnownImage]]:
    found: dict[tuple[str, str], list[KnownImage]] = {}
    for image in images:
        found.setdefault((image.label or "", image.other), []).append(image)
    return found


def print_changes(space: str, result: RegisterResult) -> None:
    """The changes of a sync or of a dry run as a table, and how to undo them."""
    if rows := list(_rows(result)):
        row_writer("table", COLUMNS).write(rows)
    for (label, other), images in _grouped(result.moved).items():
        if (
            result.dry_run
            and other in result.removed_labels
            and dict(result.to_add).get(label) == len(images)
        ):
            renaming = (
                f"trustvlm label update {quoted(space)} {quoted(other)} --new-name {quoted(label)}"
            )
            note(
                f"if {quoted(other)} was renamed, this keeps its id, prompt and support images, "
                f"before the sync: {renaming}"
            )
    if result.dry_run:
        already = "" if rows else "nothing to change; "
        click.echo(f"{already}dry run: nothing was changed; revision {result.revision}")
        return
    undo = [
        f"label restore {quoted(space)} {quoted(name)}" for name in reversed(result.removed_labels)
    ]
    if result.removed:
        undo.append(
            f"support restore {quoted(space)} {' '.join(str(image.id) for image in result.removed)}"
        )
    for command in undo:
        note(f"undo, until the removal is purged: trustvlm {command}")


def _rows(result: RegisterResult) -> Iterator[Row]:
    for label, number in result.to_add:
        yield _row(
            "add",
            label,
            count(number, "support image") if number else "no support image: text only",
        )
    for image in result.moved:
        yield _row("move", f"{image.other} → {image.label}", image.source or "", image.id)
    for image in result.removed:
        yield _row("remove", image.other, image.source or "", image.id)
    for label in result.removed_labels:
        yield _row("remove label", label, "")
    for kept in result.kept:
        yield _row("keep", kept.label, kept.reason)


def _row(change: str, label: str, image: str, number: int | None = None) -> Row:
    return {
        "change": change,
        "label": label,
        "image": image,
        "id": "" if number is None else str(number),
    }
