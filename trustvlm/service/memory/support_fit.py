"""What a space's support images say (τ, the guard, c̃, …): fitted when they change, stored once.

A small space is fitted in the transaction of the write itself. A larger one is fitted in the
background and, up to :data:`IN_CALL_LABELS`, by the first query that finds the stored fit outdated.
Beyond that a query is answered with the stored fit, which it names. The fit looks at a fixed sample
that follows from the content alone, so that most changes of a large space leave it as it is: then
the stored fit holds at the new revision too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import evidence_fits, labels, supports
from trustvlm.catalog.rows.spaces import SpaceRecord, find
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import NotFound
from trustvlm.scoring.image_evidence import BACKGROUND, ImageEvidence, fit_evidence
from trustvlm.scoring.prototypes import leave_one_out
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["FitMemo", "SupportFit", "current_fit", "disagreement", "refit", "renew"]

MAX_SAMPLE = 2_048
MAX_COMPETITORS = 4_096
"""Support images and competitor labels looked at, smallest hashes first (docs/rules.md)."""

ON_WRITE_LABELS, ON_WRITE_IMAGES = 64, 256
"""Up to this many labels with support images, and images, a write refits in its own transaction:
some 10 ms."""

IN_CALL_LABELS = 512
"""Up to this many labels with support images a query waits for the fit of its own revision: a tenth
of a second or two."""

_FEW = 500  # changed labels that are looked at one by one
_LABELS_AT_A_TIME = 64

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
class FitMemo:
    """What a process answers with at a revision of a space.

    Attributes:
        exact: whether the fit holds at this revision; else it is the stored one.
        background: (a, d_v) prototypes that stand for labels in general.
    """

    revision: int
    fit: SupportFit
    exact: bool
    background: Float64s


@dataclass(frozen=True, eq=False)
class _Sample:
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
    connection: Connection, view: SpaceView, memo: FitMemo | None, *, wait: bool = False
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
    fit, exact = _stored(connection, space), True
    stored_at = -1 if fit is None else fit.holds_at
    if memo is not None and memo.exact and stored_at < memo.revision < view.revision:
        fit = replace(memo.fit, holds_at=memo.revision)
    if fit is None or not _surely_holds(connection, space, fit):
        exact = fit is None or wait or len(view.prototypes) <= IN_CALL_LABELS
        if fit is None or exact:
            fit = _up_to_date(connection, space, fit, lambda ids: _rows_of(view, ids))
    if memo is not None and _same_background(connection, view, memo):
        return FitMemo(view.revision, fit, exact, memo.background)
    return FitMemo(view.revision, fit, exact, _background(connection, view))


def renew(connection: Connection, space: SpaceRecord, revision: int) -> bool:
    """Fit a small space within the transaction that changed it; whether it was small enough."""
    if labels.prototyped_more_than(connection, space.id, ON_WRITE_LABELS):
        return False
    if len(supports.sample(connection, space.id, ON_WRITE_IMAGES + 1)) > ON_WRITE_IMAGES:
        return False
    space = replace(space, revision=revision)
    fit = _fitted(connection, space, _sample(connection, space), _in_catalog(connection, space))
    _store(connection, space, fit)
    return True


def refit(catalog: Catalog, space_name: str) -> None:
    """Bring the stored fit of a space up to date, if it is still there and its support images
    changed."""
    with catalog.read() as connection:
        try:
            space = find(connection, space_name)
        except NotFound:  # removed meanwhile
            return
        stored = _stored(connection, space)
        if stored is not None and _surely_holds(connection, space, stored):
            return
        fit = _up_to_date(connection, space, stored, _in_catalog(connection, space))
    with catalog.write("fit") as connection:
        _store(connection, space, fit)


def disagreement(
    connection: Connection, space: SpaceRecord, stored: evidence_fits.FitRecord
) -> str | None:
    """How a stored fit differs from the one that its space's support images give; None where it
    does not, or is outdated.

    Raises:
        ValueError, KeyError, TypeError: its content is not that of a fit. Damaged: what it looks at
            is.
    """
    fit, sample = _loaded(stored), _sample(connection, space)
    if not _unchanged(connection, space, fit, sample):
        return None
    again = _fitted(connection, space, sample, _in_catalog(connection, space))
    values = fit.evidence.to_values()
    for name, expected in again.evidence.to_values().items():
        value = values[name]
        if isinstance(expected, str) or type(value) is not type(expected):
            same = value == expected
        else:  # not bit for bit: a product of matrices may round otherwise with other threads
            numbers = [np.array([] if v is None else v, np.float64) for v in (value, expected)]
            same = np.shape(numbers[0]) == np.shape(numbers[1]) and np.allclose(
                numbers[0], numbers[1], rtol=1e-6, atol=1e-6, equal_nan=True
            )
        if not same:
            return f"{name} is {value!r:.40}, the support images give {expected!r:.40}"
    if (fit.last_name, fit.last_image) != (again.last_name, again.last_image):
        return "it names another end of its sample than the support images give"
    return None


def _up_to_date(
    connection: Connection, space: SpaceRecord, latest: SupportFit | None, prototypes: _Prototypes
) -> SupportFit:
    """The fit of the space's revision: the latest one, where nothing that it looked at changed."""
    sample = _sample(connection, space)
    if latest is not None and _unchanged(connection, space, latest, sample):
        return latest
    return _fitted(connection, space, sample, prototypes)


def _surely_holds(connection: Connection, space: SpaceRecord, fit: SupportFit) -> bool:
    """Whether a fit is known to hold at the space's revision without a look at its sample: nothing
    changed since, or only new labels were added behind it, as nearly all are in a large space."""
    return fit.holds_at == space.revision or _behind_sample(connection, space, fit.holds_at, fit)


def _behind_sample(connection: Connection, space: SpaceRecord, since: int, fit: SupportFit) -> bool:
    if fit.last_name is None or fit.last_image is None:
        return False
    created = labels.created_since(connection, space.id, since, _FEW)
    if created is None or any(
        purge.purged_since(connection, space.id, kind, since) for kind in ("label", "support")
    ):
        return False
    name = labels.smallest_name(connection, created)
    image = supports.smallest_content(connection, created)
    return (name is None or name > fit.last_name) and (image is None or image > fit.last_image)


def _same_background(connection: Connection, view: SpaceView, memo: FitMemo) -> bool:
    """Whether the background of a memo is that of the view."""
    if memo.revision >= view.revision:
        return memo.revision == view.revision
    return memo.exact and _behind_sample(connection, view.space, memo.revision, memo.fit)


def _unchanged(
    connection: Connection, space: SpaceRecord, fit: SupportFit, sample: _Sample
) -> bool:
    """Whether nothing that the fit looked at has changed since it was known to hold."""
    if fit.sample != sample.digest:
        return False
    touched = [label_id for label_id, _ in labels.touched(connection, space.id, fit.holds_at)]
    return not np.isin(np.array(touched, dtype=np.int64), sample.labels).any()


def _sample(connection: Connection, space: SpaceRecord) -> _Sample:
    images = supports.sample(connection, space.id, MAX_SAMPLE)
    chosen = labels.competitors(connection, space.id, MAX_COMPETITORS)
    compared = np.union1d(np.array(chosen, np.int64), np.array([i for i, _ in images], np.int64))
    full = len(chosen) == MAX_COMPETITORS
    last_name = labels.smallest_name(connection, chosen[-1:]) if full else None
    last_image = images[-1][1] if len(images) == MAX_SAMPLE else None
    return _Sample(images, compared, last_name, last_image)


def _fitted(
    connection: Connection, space: SpaceRecord, sample: _Sample, prototypes: _Prototypes
) -> SupportFit:
    owner = np.array([label_id for label_id, _ in sample.images], dtype=np.int64)
    images, left_out = np.empty((len(owner), space.verifier_dim)), np.empty(len(owner))
    owning = np.unique(owner)
    for start in range(0, len(owning), _LABELS_AT_A_TIME):  # every image of a label is read
        some = owning[start : start + _LABELS_AT_A_TIME]
        owners, hashes, raw = supports.embeddings(connection, some.tolist(), space.verifier_dim)
        row_of = {key: row for row, key in enumerate(zip(owners.tolist(), hashes, strict=True))}
        part = np.flatnonzero(np.isin(owner, some))
        rows = np.array([row_of[sample.images[at]] for at in part.tolist()], dtype=np.int64)
        embeddings = raw.astype(np.float64)
        images[part], left_out[part] = embeddings[rows], leave_one_out(embeddings, owners, rows)
    compared = prototypes(sample.labels).astype(np.float64)
    evidence = fit_evidence(unit_rows(images), owner, left_out, sample.labels, compared)
    revision = space.revision
    return SupportFit(
        revision, revision, sample.digest, evidence, sample.last_name, sample.last_image
    )


def _background(connection: Connection, view: SpaceView) -> Float64s:
    """(a, d_v) prototypes of the up to 1,024 labels of smallest name hash: what an image looks like
    to labels in general."""
    ids = labels.competitors(connection, view.space.id, BACKGROUND)
    return _rows_of(view, np.array(ids, dtype=np.int64)).astype(np.float64)


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
        "made": fit.made, "sample": fit.sample, "evidence": fit.evidence.to_values(),
        "last_name": fit.last_name, "last_image": last_image,
    }  # fmt: skip
    evidence_fits.store(connection, space.id, space.revision, content)


def _loaded(record: evidence_fits.FitRecord) -> SupportFit:
    content, last_image = record.content, record.content.get("last_image")
    return SupportFit(
        made=content.get("made", record.revision),
        holds_at=record.revision,
        sample=content["sample"],
        evidence=ImageEvidence.of_values(content["evidence"]),
        last_name=content.get("last_name"),
        last_image=None if last_image is None else bytes.fromhex(last_image),
    )
