"""What a space's support images say (τ, the guard, c̃, …): fitted when they change, stored once.

A small space is fitted in the transaction of the write itself. A larger one is fitted in the
background and, up to `fit_in_call_labels`, by the first query that finds the stored fit outdated.
Beyond that a query is answered with the stored fit, which it names. The fit looks at a fixed sample
that follows from the content alone, so that most changes of a large space leave it as it is: then
the stored fit holds at the new revision too.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import evidence_fits, labels, supports
from trustvlm.catalog.rows.label_changes import ChangedLabel, changed_few
from trustvlm.catalog.rows.spaces import SpaceRecord, exists, find
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import NotFound
from trustvlm.scoring.image_evidence import BACKGROUND, ImageEvidence, fit_evidence
from trustvlm.scoring.prototypes import leave_one_out
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.discriminant.support_text import blocks_of, support_logits
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.thresholds import Thresholds

_METHOD = 2
"""Number of the way in which fits are made: a stored one of another way is made again."""

_FEW, _FEW_IMAGES = 500, 20_000  # changed labels and images that are looked at one by one

_Prototypes = Callable[[Int64s], Float32s]


@dataclass(frozen=True)
class SupportFit:
    """A fit of the support images.

    Attributes:
        made: the revision at which it was computed. holds_at: the last revision at which it is
            known to be what the support images say.
        sample: digest of the sample. last_name, last_image: hashes behind which a label, or a
            support image, is not in it; None while there is room for any.
    """

    made: int
    holds_at: int
    sample: str
    evidence: ImageEvidence
    last_name: int | None
    last_image: bytes | None


@dataclass(frozen=True, eq=False)
class SmallestNames:
    """The up to :data:`BACKGROUND` labels with support images whose name hash is smallest, at a
    revision.

    Attributes:
        ids, hashes: (a,) by hash, then id.
    """

    revision: int
    ids: Int64s
    hashes: Int64s


@dataclass(frozen=True, eq=False)
class FitMemo:
    """What a process answers with at a revision of a space.

    Attributes:
        exact: whether the fit holds at this revision; else it is the stored one.
        background: (a, d_v) prototypes that stand for labels in general: those of `names`.
    """

    revision: int
    fit: SupportFit
    exact: bool
    names: SmallestNames
    background: Float32s


class SpaceChanges:
    """What changed in a space, which is as the transaction sees it, since earlier revisions: read
    once."""

    def __init__(self, connection: Connection, space: SpaceRecord) -> None:
        self.connection, self.space = connection, space
        self._since: dict[int, list[ChangedLabel] | None] = {}

    def labels_since(self, revision: int) -> list[ChangedLabel] | None:
        """The labels that changed after a revision, purged ones left out; None where they are
        many."""
        if revision not in self._since:
            few = changed_few(self.connection, self.space.id, revision, _FEW)
            self._since[revision] = few
        return self._since[revision]


@dataclass(frozen=True, eq=False)
class Sample:
    """What a fit looks at: (label id, content hash) of the support images of smallest hash, and the
    ids, ascending, of the labels that they are compared with."""

    images: list[tuple[int, bytes]]
    labels: Int64s
    last_name: int | None
    last_image: bytes | None

    @cached_property
    def digest(self) -> str:
        """Equal for equal samples."""
        digest = hashlib.sha256(self.labels.tobytes())
        for label_id, content in self.images:
            digest.update(label_id.to_bytes(8) + content)
        return digest.hexdigest()


def current_fit(
    connection: Connection,
    view: SpaceView,
    memo: FitMemo | None,
    thresholds: Thresholds,
    *,
    wait: bool = False,
) -> FitMemo:
    """The fit and the background to answer with at the view's revision.

    Where the stored fit of a large space does not surely hold any more, it is the answer all the
    same; with `wait`, the fit of this very revision is made here.

    Args:
        memo: what this process answered with before, at any revision.
    """
    space = view.space
    if memo is not None and memo.revision == view.revision and memo.exact:
        return memo
    changes = SpaceChanges(connection, space)
    fit, exact = _stored(connection, space), True
    stored_at = -1 if fit is None else fit.holds_at
    if memo is not None and memo.exact and stored_at < memo.revision < view.revision:
        fit = replace(memo.fit, holds_at=memo.revision)
    if fit is None or not _surely_holds(changes, fit):
        exact = fit is None or wait or len(view.prototypes) <= thresholds.fit_in_call_labels
        if fit is None or exact:
            sample = sample_of(connection, space, thresholds)
            fit = _up_to_date(connection, space, fit, sample, lambda ids: _rows_of(view, ids))
    names = smallest_names(changes, None if memo is None else memo.names)
    if memo is not None and names.ids is memo.names.ids:
        return FitMemo(view.revision, fit, exact, names, memo.background)
    return FitMemo(view.revision, fit, exact, names, _rows_of(view, names.ids))


def renew(
    connection: Connection, space: SpaceRecord, revision: int, thresholds: Thresholds
) -> bool:
    """Fit a small space within the transaction that changed it; whether it was small enough."""
    if labels.prototyped_more_than(connection, space.id, thresholds.fit_on_write_labels):
        return False
    most = thresholds.fit_on_write_images
    if len(supports.sample(connection, space.id, most + 1)) > most:
        return False
    space = replace(space, revision=revision)
    sample = sample_of(connection, space, thresholds)
    fit = _fitted(connection, space, sample, _in_catalog(connection, space))
    _store(connection, space, fit)
    return True


def refit(catalog: Catalog, space_name: str, thresholds: Thresholds) -> None:
    """Bring the stored fit of a space up to date, if it is still there and its support images
    changed."""
    with catalog.read() as connection:
        try:
            space = find(connection, space_name)
        except NotFound:  # removed meanwhile
            return
        stored = _stored(connection, space)
        if stored is not None and _surely_holds(SpaceChanges(connection, space), stored):
            return
        sample = sample_of(connection, space, thresholds)
        fit = _up_to_date(connection, space, stored, sample, _in_catalog(connection, space))
    with catalog.write("fit") as connection:
        if exists(connection, space.id):  # not purged meanwhile
            _store(connection, space, fit)


def disagreement(
    connection: Connection, space: SpaceRecord, stored: evidence_fits.FitRecord
) -> str | None:
    """How a stored fit differs from the one that its space's support images give; None where it
    does not, is outdated, or was made in another way or with thresholds other than the defaults.

    Raises:
        ValueError, KeyError, TypeError: its content is not that of a fit. Damaged: what it looks at
            is.
    """
    fit, sample = _loaded(stored), sample_of(connection, space, Thresholds())
    if not _unchanged(connection, space, fit, sample):
        return None  # also one of another way of making fits
    again = _fitted(connection, space, sample, _in_catalog(connection, space))
    values = fit.evidence.to_values()
    for name, expected in again.evidence.to_values().items():
        if not nearly_equal(values[name], expected, 1e-6):
            return f"{name} is {values[name]!r:.40}, the support images give {expected!r:.40}"
    if (fit.last_name, fit.last_image) != (again.last_name, again.last_image):
        return "it names another end of its sample than the support images give"
    return None


def nearly_equal(one: Any, other: Any, tolerance: float) -> bool:
    """Whether the values of two fits are the same, not bit for bit: a product of matrices may round
    otherwise with other threads."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            nearly_equal(one[key], other[key], tolerance) for key in one
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(
            nearly_equal(*pair, tolerance) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def _up_to_date(
    connection: Connection,
    space: SpaceRecord,
    latest: SupportFit | None,
    sample: Sample,
    prototypes: _Prototypes,
) -> SupportFit:
    """The fit of the space's revision: the latest one, where nothing that it looked at changed."""
    if latest is not None and _unchanged(connection, space, latest, sample):
        return latest
    return _fitted(connection, space, sample, prototypes)


def _surely_holds(changes: SpaceChanges, fit: SupportFit) -> bool:
    """Whether a fit is known to hold at the space's revision without a look at its sample: nothing
    changed since, or only new labels were added behind it, as nearly all are in a large space."""
    return fit.holds_at == changes.space.revision or _behind_sample(changes, fit)


def _behind_sample(changes: SpaceChanges, fit: SupportFit) -> bool:
    since, space = fit.holds_at, changes.space
    if fit.last_name is None or fit.last_image is None or since < space.purged_revision:
        return False
    labels_since = changes.labels_since(since)
    if labels_since is None or any(one.created_revision <= since for one in labels_since):
        return False
    hashes = [one.name_hash for one in labels_since if one.has_prototype]
    if not hashes:
        return True
    images = supports.contents_since(changes.connection, space.id, since, _FEW_IMAGES)
    if images is None:
        return False
    return min(hashes) > fit.last_name and all(image > fit.last_image for image in images)


def _unchanged(connection: Connection, space: SpaceRecord, fit: SupportFit, sample: Sample) -> bool:
    """Whether nothing that the fit looked at has changed since it was known to hold."""
    return fit.sample == sample.digest and untouched(connection, space, fit.holds_at, sample.labels)


def untouched(connection: Connection, space: SpaceRecord, since: int, ids: Int64s) -> bool:
    """Whether none of these labels was created, changed or removed after revision `since`."""
    touched = [label_id for label_id, _ in labels.touched(connection, space.id, since)]
    return not np.isin(np.array(touched, dtype=np.int64), ids).any()


def sample_of(connection: Connection, space: SpaceRecord, thresholds: Thresholds) -> Sample:
    """What a fit of the space's revision looks at."""
    images = supports.sample(connection, space.id, thresholds.fit_sample)
    chosen, hashes = labels.competitors(connection, space.id, thresholds.fit_competitors)
    compared = np.union1d(chosen, np.array([i for i, _ in images], np.int64))
    last_name = int(hashes[-1]) if len(chosen) == thresholds.fit_competitors else None
    last_image = images[-1][1] if len(images) == thresholds.fit_sample else None
    return Sample(images, compared, last_name, last_image)


def _fitted(
    connection: Connection, space: SpaceRecord, sample: Sample, prototypes: _Prototypes
) -> SupportFit:
    owner = np.array([label_id for label_id, _ in sample.images], dtype=np.int64)
    images, left_out = np.empty((len(owner), space.verifier_dim)), np.empty(len(owner))
    for block in blocks_of(connection, sample.images, space.verifier_dim):
        images[block.places] = block.embeddings[block.rows]
        left_out[block.places] = leave_one_out(block.embeddings, block.owners, block.rows)
    compared = prototypes(sample.labels).astype(np.float64)
    logits = None
    if len(owner) and not np.isfinite(left_out).any():
        # Nothing but the text tells whether the images are any use.
        logits = np.full((len(owner), len(sample.labels)), np.nan)
        places, values = support_logits(connection, space, sample.images, sample.labels)
        logits[places] = values
    evidence = fit_evidence(unit_rows(images), owner, left_out, sample.labels, compared, logits)
    revision = space.revision
    return SupportFit(
        revision, revision, sample.digest, evidence, sample.last_name, sample.last_image
    )


def smallest_names(
    changes: SpaceChanges, kept: SmallestNames | None, most: int = BACKGROUND
) -> SmallestNames:
    """The labels of smallest name hash at the space's revision: `kept` with the changes since then,
    or read again. Where neither these labels nor their prototypes have changed, the array of ids is
    that of `kept`.

    Args:
        kept: the labels at any revision. most: how many labels, here and in `kept`.
    """
    space = changes.space
    if kept is not None and space.log_start <= kept.revision <= space.revision:
        followed = _followed(changes, kept, most)
        if followed is not None:
            return followed
    return SmallestNames(space.revision, *labels.competitors(changes.connection, space.id, most))


def _followed(changes: SpaceChanges, kept: SmallestNames, most: int) -> SmallestNames | None:
    """`kept` at the space's revision; None where it no longer tells which labels come next."""
    space = changes.space
    if kept.revision == space.revision:
        return kept
    labels_since = changes.labels_since(kept.revision)
    if labels_since is None:
        return None
    touched = [one.id for one in labels_since]
    touched += purge.purged_since(changes.connection, space, "label", kept.revision)
    compared = {one.id: one.name_hash for one in labels_since if one.has_prototype}
    stays = ~np.isin(kept.ids, np.array(touched, dtype=np.int64))
    new_ids, new_hashes = (
        np.fromiter(some, np.int64, len(compared)) for some in (compared, compared.values())
    )
    if full := len(kept.ids) == most:  # other labels may follow the last one
        smaller = new_hashes <= kept.hashes[-1]
        new_ids, new_hashes = new_ids[smaller], new_hashes[smaller]
    if stays.all() and not len(new_ids):
        return replace(kept, revision=space.revision)
    ids = np.concatenate([kept.ids[stays], new_ids])
    hashes = np.concatenate([kept.hashes[stays], new_hashes])
    if full and len(ids) < most:
        return None
    order = np.lexsort((ids, hashes))[:most]
    return SmallestNames(space.revision, ids[order], hashes[order])


def _rows_of(view: SpaceView, ids: Int64s) -> Float32s:
    return view.prototypes.take(view.prototypes.slots(ids))


def _in_catalog(connection: Connection, space: SpaceRecord) -> _Prototypes:
    return lambda ids: labels.prototypes(connection, ids.tolist(), space.verifier_dim)


def _stored(connection: Connection, space: SpaceRecord) -> SupportFit | None:
    record = evidence_fits.find(connection, space.id)
    return None if record is None else _loaded(record)


def _store(connection: Connection, space: SpaceRecord, fit: SupportFit) -> None:
    last_image = None if fit.last_image is None else fit.last_image.hex()
    content = {
        "method": _METHOD, "made": fit.made, "sample": fit.sample,
        "evidence": fit.evidence.to_values(), "last_name": fit.last_name, "last_image": last_image,
    }  # fmt: skip
    evidence_fits.store(connection, space.id, space.revision, content)


def _loaded(record: evidence_fits.FitRecord) -> SupportFit:
    content, last_image = record.content, record.content.get("last_image")
    if content.get("method") != _METHOD:  # an answer until it is made again, which is due
        evidence = ImageEvidence.of_values(content["evidence"])
        return SupportFit(content.get("made", record.revision), -1, "", evidence, None, None)
    return SupportFit(
        made=content.get("made", record.revision),
        holds_at=record.revision,
        sample=content["sample"],
        evidence=ImageEvidence.of_values(content["evidence"]),
        last_name=content.get("last_name"),
        last_image=None if last_image is None else bytes.fromhex(last_image),
    )
