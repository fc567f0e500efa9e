"""Rows of label spaces, labels, support images and API keys, as they are listed."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from trustvlm.types.json_form import Answer, Attributes, Time


@dataclass(frozen=True, repr=False)
class SpaceRow(Answer):
    """One label space as it is listed."""

    id: int
    name: str
    classifier: str
    verifier: str
    classifier_dim: int
    verifier_dim: int
    templates: tuple[str, ...]
    logit_scale: float
    recipe: str
    revision: int
    label_count: int
    support_count: int
    created_at: Time


@dataclass(frozen=True, repr=False)
class LabelRow(Answer):
    """One label as it is listed.

    Its support count is that of its prototype, images of its aliases included. An alias has the
    count 0; `alias_of` names the label whose further name it is; `parent` the node of the taxonomy
    that it stands under. `revision` is that of its last change that can alter a verdict: of its
    name, text, alias or support images, not of its attributes or its parent. Where vectors are
    requested, `text_vector` is its text prototype (d_t,) and `prototype` that of its support images
    (d_v,), both of length 1; None without any."""

    id: int
    name: str
    prompt: str | None
    support_count: int
    revision: int
    alias_of: str | None = None
    attributes: Attributes = field(default_factory=dict, hash=False)
    parent: str | None = None
    text_vector: tuple[float, ...] | None = None
    prototype: tuple[float, ...] | None = None


@dataclass(frozen=True, repr=False)
class SupportRow(Answer):
    """One support image as it is listed.

    Attributes:
        registered_as: the alias of `label` that it was registered under; None: `label` itself.
        proposed: :meth:`TrustService.propose` chose it. kept: a person said that it is right, see
            :meth:`TrustService.keep_support`.
        image_vector: (d_v,) raw verifier embedding, and classifier_image_vector: (d_t,) raw
            classifier embedding, where one is stored; None unless they are requested."""

    id: int
    label: str
    source: str | None
    revision: int
    registered_as: str | None = None
    attributes: Attributes = field(default_factory=dict, hash=False)
    proposed: bool = False
    kept: bool = False
    image_vector: tuple[float, ...] | None = None
    classifier_image_vector: tuple[float, ...] | None = None


@dataclass(frozen=True, repr=False)
class SupportPage(Answer):
    """A page of support images; `next_cursor` is the `cursor` of the next page, None after the
    last."""

    supports: tuple[SupportRow, ...]
    next_cursor: int | None = None


@dataclass(frozen=True)
class SupportCount(Answer):
    """How many support images there are, or fit."""

    supports: int


@dataclass(frozen=True)
class ObservationRow(Answer):
    """A stored image of known label: its embeddings are stored, its file is not.

    Attributes:
        truth: name of its true label when that was told; None: no label of the space.
        origin: what stored it. sampling: how it was picked, see :meth:`TrustService.feedback`;
            "claimed": of a calibration of claims.
        pictured: it has a thumbnail."""

    id: int
    source: str | None
    truth: str | None
    origin: Literal["calibration", "feedback"]
    sampling: Literal["random", "chosen", "claimed"]
    created_at: Time
    pictured: bool


@dataclass(frozen=True, repr=False)
class ObservationList(Answer):
    """Stored images of known label."""

    observations: tuple[ObservationRow, ...]


@dataclass(frozen=True)
class LabelPredictions(Answer):
    """What the stored images of known label say of one label.

    Attributes:
        predicted: images that the space gives this label now, and wrong: those among them whose
            true label is another one. images: images of this true label, and missed: those among
            them that get another label."""

    predicted: int
    wrong: int
    images: int
    missed: int


@dataclass(frozen=True)
class StoredError(Answer):
    """A stored image of known label that gets another one.

    Attributes:
        id, source: of the stored image. pictured: it has a thumbnail.
        label: what the space gives it now. truth: its true label; None: no label of the space."""

    id: int
    source: str | None
    pictured: bool
    label: str
    truth: str | None


@dataclass(frozen=True, repr=False)
class LabelErrors(Answer):
    """The errors of one label among the stored images of known label, newest images first.

    Attributes:
        predictions: how many there are. stored_images: among how many stored images.
        wrong: images that get this label, but are of another one, or of none.
        missed: images of this label that get another one."""

    predictions: LabelPredictions
    stored_images: int
    wrong: tuple[StoredError, ...]
    missed: tuple[StoredError, ...]


@dataclass(frozen=True)
class RemovedRow(Answer):
    """A label or a support image that was removed and can be restored.

    Attributes:
        kind: what it is.
        id: of the label or the support image. label: name of the label, or of the image's label.
        source: of a support image.
        support_count: how many support images come back with a label; 1 for a support image.
        removed_at: by the catalog's clock, which counts running time only.
        seconds_left: running time until it may be deleted for good; 0: at the next change."""

    kind: Literal["label", "support"]
    id: int
    label: str
    source: str | None
    support_count: int
    removed_at: Time
    seconds_left: float


@dataclass(frozen=True)
class HistoryRow(Answer):
    """One revision of a space.

    Attributes:
        revision: the number that the change raised the space's revision to.
        at: when, by the clock of the machine that made it.
        author: who: the id of the key of a request, the user of the command line (also the one who
            started a service, for requests without a key), or the `author` that
            :func:`trustvlm.open` was given; None: not named.
        action: the kind of change, e.g. "register", "label.update" or "support.remove".
        labels, supports: how many labels and support images it added, changed or removed."""

    revision: int
    at: Time
    author: str | None
    action: str
    labels: int
    supports: int


@dataclass(frozen=True, repr=False)
class HistoryPage(Answer):
    """Revisions of a space, oldest first.

    Attributes:
        next_since: the `since` of the next page; None: this is the last one."""

    revisions: tuple[HistoryRow, ...]
    next_since: int | None


@dataclass(frozen=True)
class ChangeRow(Answer):
    """A label or a support image that changed, as it is now.

    Attributes:
        kind: what it is.
        change: "added", "changed" (also: restored), "removed", or "purged": removed and deleted for
            good.
        id: of the label or the support image. label: name of the label, or of the image's label;
            None once it is purged. label_id: id of that label.
        revision: its last change. at, author, action: of that revision, see :class:`HistoryRow`;
            None where the revision is older than the history."""

    kind: Literal["label", "support"]
    change: Literal["added", "changed", "removed", "purged"]
    id: int
    label: str | None
    label_id: int
    revision: int
    at: Time | None
    author: str | None
    action: str | None


@dataclass(frozen=True, repr=False)
class ChangePage(Answer):
    """Labels and support images that changed since a revision, in the order of their last change.

    Attributes:
        revision: the space's revision now: the `since` of the next look, after the last page.
        changes: each row once, as it is now.
        next_cursor: the `cursor` of the next page; None: this is the last one.
        complete: False where rows were purged so long ago that the list may lack some: list the
            labels again and drop what is not among them.
        epoch: names this history of the space. Another one than at the last look: the home was
            restored or repaired, or the space re-embedded; begin again with `since` 0."""

    revision: int
    changes: tuple[ChangeRow, ...]
    next_cursor: str | None
    complete: bool
    epoch: str


@dataclass(frozen=True)
class KeyRow(Answer):
    """A key of the HTTP service as it is listed: without its secret, of which a hash is stored.

    Attributes:
        id: its public part.
        scope: "read", "write" or "admin".
        space: the only space that it opens; None: all.
        rate: requests a second; None: the service's setting.
        used_at: to the minute."""

    id: str
    scope: str
    space: str | None
    note: str | None
    rate: float | None
    created_at: Time
    expires_at: Time | None
    revoked_at: Time | None
    used_at: Time | None

    @property
    def state(self) -> str:
        """The state now: "valid", "expired" or "revoked"."""
        return self.state_at(datetime.now(UTC))

    def state_at(self, now: datetime) -> str:
        """The state at the time `now`."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "valid"
