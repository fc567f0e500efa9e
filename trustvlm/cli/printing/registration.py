"""What a registration reports: what is new, what the space knows already, what a sync changes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, Row, row_writer
from trustvlm.cli.printing.safe_text import note, quoted, warn
from trustvlm.cli.printing.suggested import here
from trustvlm.errors import InvalidInput
from trustvlm.types.messages.commands import suggested, word
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.types import KnownImage, RegisterResult

_IDS, _PAIRS, _NAMED = 10, 5, 20

CHANGES = [
    Column("change", "change"),
    Column("label", "label", "bold"),
    Column("support image", "image", narrow="end"),
    Column("id", "id", right=True, rank=1),
]


def summary(result: RegisterResult, what: str, labels: int = 1) -> str:
    """What a register call did to `what`, `labels` labels, in one line."""
    duplicates = result.skipped_duplicates
    parts = []
    if result.added_labels or result.added_supports:
        parts += [f"registered {what}", count(result.added_supports, "support image")]
        parts += [f"{count(duplicates, 'duplicate')} skipped"] if duplicates else []
    elif result.replaced_labels:
        parts.append(f"changed {count(result.replaced_labels, 'label')}")
    else:
        number, thing = (duplicates, "support image") if duplicates else (labels, "label")
        existing = f"all {number:,} {thing}s were" if number > 1 else f"the {thing} was"
        parts.append(f"nothing new: {existing} there already")
    parts += [f"{len(result.failures):,} unreadable"] if result.failures else []
    return f"{', '.join(parts)}; revision {result.revision}"


def require_some_readable(result: RegisterResult, images: int) -> None:
    """Raises InvalidInput when there were images and none could be read."""
    if images and len(result.failures) == images:
        raise InvalidInput("no image could be read")


def report_vectors(space: str, result: RegisterResult) -> None:
    """Say on stderr what is odd about new vectors: those unlike the space's, prompts that are cut,
    texts that are nearly those of other labels."""
    for sentence in result.drift:
        ids = suggested("support list", space, files="LABEL")
        remove = f"remove them again ({ids} shows ids)"
        warn(f"warning: {sentence}; if another model made them, {remove}")
    if names := result.cut_prompts:
        more = f" and {len(names) - _NAMED:,} more (--json names them)" if names[_NAMED:] else ""
        labels = ", ".join(map(quoted, names[:_NAMED]))
        note(f"prompts longer than the classifier reads, whose ends are ignored: {labels}{more}")
    synonyms = suggested("label synonyms", space)
    if result.near_synonyms is None:
        note(f"too many labels to look for synonyms each time; {synonyms} lists them")
    pairs = result.near_synonyms or ()
    for first, second, cosine in pairs[:_PAIRS]:
        meaning = f"{quoted(first)} and {quoted(second)} mean nearly the same"
        alias = suggested("label alias", space, second, first)
        note(f"{meaning} (text cosine {cosine:.3f}): {alias} makes one a further name of the other")
    if len(pairs) > _PAIRS:
        note(f"and {len(pairs) - _PAIRS:,} more pairs: {synonyms}")


def report_known(
    space: str,
    result: RegisterResult,
    *,
    bring_back: bool,
    sync: bool = False,
    renamed: Collection[tuple[str, str]] = (),
) -> None:
    """Say on stderr which images are support images of other labels, too, and which were taken out
    of their label.

    `renamed`: (label, other) pairs where the one may be a new name of the other.
    """
    for (label, other), images in _grouped(result.elsewhere).items():
        are = "are support images" if len(images) > 1 else "is a support image"
        what = f"{count(len(images), 'image')} of {quoted(label)} {are} of {quoted(other)}, too"
        ids = " ".join(str(image.id) for image in images) if len(images) <= _IDS else "ID…"
        remove = (
            f"{suggested('support remove', space, files=ids)} removes them from {quoted(other)}"
        )
        more = f"{remove}; register --sync follows images that moved to another folder"
        note(f"{what}{_ids(images, other)}; {'both labels keep them' if sync else more}")
        if not sync and not result.dry_run and (label, other) in renamed:
            removing = here("label remove", space, label)
            note(f"if {quoted(other)} was renamed: {removing} && {_renaming(space, other, label)}")
    for (label, _), images in _grouped(result.taken_out).items():
        was, are, them = ("was", "is", "it") if len(images) == 1 else ("were", "are", "them")
        what = f"{count(len(images), 'image')} of {quoted(label)} {was} removed from this label"
        added = bring_back or sync
        then = f"{are} added again" if added else f"{are} not added; --bring-back adds {them}"
        note(f"{what} before{_ids(images, label)} and {then}")


def _renaming(space: str, name: str, new: str) -> str:
    return here("label update", space, name, options=f"--new-name {word(new)}")


def _ids(images: list[KnownImage], label: str) -> str:
    """The ids of the images as support images of `label`."""
    some = ", ".join(str(image.id) for image in images[:_IDS]) + (", …" if images[_IDS:] else "")
    return f" (id{'s' * (len(images) > 1)} in {quoted(label)}: {some})"


def _grouped(images: Iterable[KnownImage]) -> dict[tuple[str, str], list[KnownImage]]:
    groups: dict[tuple[str, str], list[KnownImage]] = {}
    for image in images:
        groups.setdefault((image.label or "", image.other), []).append(image)
    return groups


def print_changes(space: str, result: RegisterResult) -> None:
    """The changes of a sync or of a dry run as a table, and how to undo them."""
    if rows := list(_rows(result)):
        row_writer("table", CHANGES).write(rows)
    to_add = dict(result.to_add)
    for (label, other), images in _grouped(result.moved).items():
        complete = other in result.removed_labels and to_add.get(label) == len(images)
        if result.dry_run and complete:
            kept = "this keeps its id, prompt and support images, before the sync"
            note(f"if {quoted(other)} was renamed, {kept}: {_renaming(space, other, label)}")
    if result.dry_run:
        outcome = "nothing was changed" if rows else "nothing to change"
        click.echo(f"dry run: {outcome}; revision {result.revision}")
        return
    for name in reversed(result.removed_labels):
        _note_undo("label restore", space, name)
    if result.removed:
        _note_undo("support restore", space, *(image.id for image in result.removed))


def _note_undo(verb: str, *names: object) -> None:
    note(f"undo, until the removal is purged: {here(verb, *names)}")


def _rows(result: RegisterResult) -> Iterator[Row]:
    for label, number in result.to_add:
        images = count(number, "support image") if number else "no support image: text only"
        yield _row("add", label, images)
    for image in result.moved:
        yield _row("move", f"{image.other} → {image.label}", image.source or "", image.id)
    for image in result.removed:
        yield _row("remove", image.other, image.source or "", image.id)
    for label in result.removed_labels:
        yield _row("remove label", label, "")
    for kept in result.kept:
        yield _row("keep", kept.label, kept.reason)


def _row(change: str, label: str, image: str, number: int | None = None) -> Row:
    return {"change": change, "label": label, "image": image, "id": number}
