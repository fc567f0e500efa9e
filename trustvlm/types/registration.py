"""What a registration changed, or would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

from trustvlm.errors import InvalidInput
from trustvlm.types.json_form import Answer, Object


class UnreadImage(NamedTuple):
    """An image that could not be read: its name, and the reason."""

    source: str
    reason: str


def unreadable(failures: Sequence[tuple[str, str]], images: int) -> InvalidInput:
    """The error of a call that refuses images of which these cannot be read."""
    source, reason = failures[0]
    count = f"{len(failures):,} of {images:,} cannot be read"
    remedy = "on_error='skip' of score, search, evaluate and calibrate leaves them out"
    return InvalidInput(f"queries.images: {source}: {reason} ({count}; {remedy})")


class NearSynonyms(NamedTuple):
    """Two labels with nearly equal texts, and the cosine of their text prototypes."""

    label: str
    other: str
    cosine: float


@dataclass(frozen=True)
class KnownImage(Answer):
    """An image that is, or was, a support image of the space; images are compared by content.

    Attributes:
        source: its name in this call; None for a vector.
        label: the label that this call gives it; None where the call has no such image.
        other, id: the label that it is (or was) a support image of, and the id of that image."""

    source: str | None
    label: str | None
    other: str
    id: int


@dataclass(frozen=True)
class KeptLabel(Answer):
    """A label that `sync` left unchanged although the call lacks a part of it, and the reason."""

    label: str
    reason: str


@dataclass(frozen=True)
class RemovedLabels(Answer):
    """How many labels a call removed, and the space's revision after it."""

    removed: int
    revision: int


@dataclass(frozen=True, repr=False)
class RemovedSupports(Answer):
    """The support images that a call removed, and the space's revision after it."""

    revision: int
    ids: tuple[int, ...]


@dataclass(frozen=True, repr=False)
class RegisterResult(Answer):
    """What a register or add_support call changed; with dry_run, what it would change.

    Attributes:
        added_labels, added_supports: number of new labels and support images.
        skipped_duplicates: number of support images that their label had already.
        failures: (source, reason) of each image that could not be read; the rest went in.
        revision: the space's revision after the call.
        ids: ids of the added support images, in input order (:meth:`TrustService.remove_support`
            takes them).
        label_ids: id of each input label, in input order; −1 for a new label without a readable
            image, which is not added.
        near_synonyms: (label, label, cosine) of new labels whose text is nearly that of another
            one; None where the space is too large for the check: use
            :meth:`TrustService.near_synonyms`.
        drift: a sentence for each side on which 8 or more vectors of the call differ from the
            stored ones in direction or length: they may come from another model. They are
            registered.
        cut_prompts: new labels with a prompt that is longer than the classifier reads: the end of
            the prompt is ignored.
        elsewhere: images of the call that are support images of another label, too, and stay so.
        taken_out: images of the call that were removed from their label and not yet purged. They
            are added again only with `bring_back` or `sync`.
        moved: with sync, support images whose content the call has under another label: removed
            from the old one, added to the new one.
        removed: with sync, the other removed support images: the call does not have their content.
        removed_labels: with sync, the labels that were removed with all their support images.
        kept: with sync, labels that stay although the call lacks them or some of their images.
        to_add: with dry_run, (label, number of support images) of each label that is new or would
            get some.
        dry_run: nothing was changed.
        replaced_labels: with replace, the number of labels whose text or attributes it changed.
        notes: a sentence for each kind of change that made images readable for the encoders."""

    added_labels: int
    added_supports: int
    skipped_duplicates: int
    failures: tuple[Annotated[UnreadImage, Object()], ...]
    revision: int
    ids: tuple[int, ...] = ()
    label_ids: tuple[int, ...] = ()
    near_synonyms: tuple[Annotated[NearSynonyms, Object()], ...] | None = ()
    drift: tuple[str, ...] = ()
    cut_prompts: tuple[str, ...] = ()
    elsewhere: tuple[KnownImage, ...] = ()
    taken_out: tuple[KnownImage, ...] = ()
    moved: tuple[KnownImage, ...] = ()
    removed: tuple[KnownImage, ...] = ()
    removed_labels: tuple[str, ...] = ()
    kept: tuple[KeptLabel, ...] = ()
    to_add: tuple[tuple[str, int], ...] = ()
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    replaced_labels: int = 0
