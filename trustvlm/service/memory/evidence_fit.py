"""What a space's support images say (τ, the guard, c̃, …): fitted when they change, stored with the
revision.

A small space is fitted in the transaction of the write itself. A larger one is fitted in the
background and, up to :data:`IN_CALL_LABELS`, by the first query that finds the stored fit outdated.
Beyond that a query is answered with the fit that there is, which it names. The fit looks at a fixed
sample that follows from the content alone, so that most changes of a large space leave it as it is:
then the old one holds at the new revision too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

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
from trustvlm.service.memory.evidence_fit_record import Fit, FitMemo, FitSample
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["background_of", "current_fit", "disagreement", "refit", "renew"]

MAX_SAMPLE = 2_048
MAX_COMPETITORS = 4_096
"""Support images and competitor labels looked at, smallest hashes first (docs/rules.md)."""

ON_WRITE_LABELS = 64
ON_WRITE_IMAGES = 256
"""Up to so many labels with support images, and images, a write refits in its own transaction: some
10 ms."""

_FEW = 500  # changed labels that are looked at one by one
_LABELS_AT_A_TIME = 64

IN_CALL_LABELS = 512
"""Up to so many labels with support images a query waits for the fit of its own revision: a tenth
of a second or two."""


def current_fit(
    connection: Connection, view: SpaceView, *, wait: bool = False, ready: FitSample | None = None
) -> tuple[FitMemo, bool]:
    """The fit and the background sample to answer with at the view's revision, and whether the fit
    is that revision's.

    Where it is not (a large space, just changed), it is the newest there is; with `wait` it is made
    here and now.

    Args:
        ready: what the last fit that this process stored looked at.
    """
    memo = view.cache.fit_memo
    if memo is not None and memo.revision == view.revision:
        return memo, True
    provisional = view.cache.provisional_fit
    if not wait and provisional is not None and provisional.revision == view.revision:
        stored = evidence_fits.revision_of(connection, view.space.id)
        if stored is None or stored <= provisional.fit.revision:  # still being made
            return provisional, False
    memo = memo if memo is not None and memo.revision < view.revision else None
    if memo is not None and _untouched(connection, view, memo.revision, memo.sample):
        found, exact = replace(memo, revision=view.revision), True
    else:
        fit, sample, exact = _fit(connection, view, memo, wait, ready)
        found = FitMemo(view.revision, fit, sample, background_of(connection, view))
    if exact:
        view.cache.fit_memo = found
    else:
        view.cache.provisional_fit = found
    return found, exact


def _untouched(connection: Connection, view: SpaceView, since: int, sample: FitSample) -> bool:
    """Whether what changed since a revision lies outside of its sample: then the sample is the
    same, and need not be read anew.

    This is what a query of a large space pays after a change; False only costs more.
    """
    if (
        sample.last_name is None
        or sample.last_image is None
        or (view.prototypes.slots(sample.labels) < 0).any()
    ):
        return False
    touched = [label_id for label_id, _ in labels.touched(connection, view.space.id, since)]
    if len(touched) > _FEW or np.isin(np.array(touched, dtype=np.int64), sample.labels).any():
        return False
    return _beyond(connection, touched, sample.last_name, sample.last_image)


def _fit(
    connection: Connection,
    view: SpaceView,
    memo: FitMemo | None,
    wait: bool,
    ready: FitSample | None,
) -> tuple[Fit, FitSample, bool]:
    space, stored = view.space, evidence_fits.find(connection, view.space.id)
    known: tuple[int, Fit] | None = None if memo is None else (memo.revision, memo.fit)
    if stored is not None and (known is None or stored.revision >= known[0]):
        known = stored.revision, _loaded(stored)
    later = len(view.prototypes) > IN_CALL_LABELS and not wait
    if known is not None and ready is not None and known[1].sample == ready.digest:
        if known[0] == view.revision or _untouched(connection, view, known[0], ready):
            return known[1], ready, True
        if later:
            return (
                known[1],
                ready,
                False,
            )  # some of its sample changed, and reading all of that would double the query
    elif memo is not None and known is not None and known[1] is memo.fit and later:
        return memo.fit, memo.sample, False  # likewise
    sample = _sample(connection, space)
    if known is not None:
        if known[0] == view.revision or _still_holds(connection, space, sample, *known):
            return known[1], sample, True
        if later:
            return known[1], sample, False
    return (
        _fitted(
            connection, space, sample, lambda ids: view.prototypes.take(view.prototypes.slots(ids))
        ),
        sample,
        True,
    )


def background_of(connection: Connection, view: SpaceView) -> Float64s:
    """(a, d_v) prototypes of the up to 1,024 labels of smallest name hash: what an image looks like
    to labels in general."""
    ids = np.array(labels.competitors(connection, view.space.id, BACKGROUND), dtype=np.int64)
    return view.prototypes.take(view.prototypes.slots(ids)).astype(np.float64)


def renew(connection: Connection, space: SpaceRecord, revision: int) -> bool:
    """Fit a small space within the transaction that changed it; whether it was small enough."""
    if labels.prototyped_more_than(connection, space.id, ON_WRITE_LABELS):
        return False
    if len(supports.sample(connection, space.id, ON_WRITE_IMAGES + 1)) > ON_WRITE_IMAGES:
        return False
    fit = _fitted(connection, space, _sample(connection, space), _from_catalog(connection, space))
    evidence_fits.store(connection, space.id, revision, _stored(replace(fit, revision=revision)))
    return True


def refit(catalog: Catalog, space_name: str) -> tuple[int, FitSample] | None:
    """Bring the stored fit of a space up to date, if it is still there and its support images
    changed.

    Returns:
        The space's id and what the stored fit looked at; None where that need not be read.
    """
    with catalog.read() as connection:
        try:
            space = find(connection, space_name)
        except NotFound:  # removed meanwhile
            return None
        stored = evidence_fits.find(connection, space.id)
        known = None if stored is None else _loaded(stored)
        if (
            stored is not None
            and known is not None
            and _only_further_ones(connection, space, stored.revision, known)
        ):
            return None
        sample = _sample(connection, space)
        if (
            stored is not None
            and known is not None
            and _still_holds(connection, space, sample, stored.revision, known)
        ):
            fit = known  # stored at the present revision, so that the next look has less to look at
        else:
            fit = _fitted(connection, space, sample, _from_catalog(connection, space))
    with catalog.write("fit") as connection:
        evidence_fits.store(connection, space.id, space.revision, _stored(fit))
    return space.id, sample


def disagreement(
    connection: Connection, space: SpaceRecord, stored: evidence_fits.FitRecord
) -> str | None:
    """How a stored fit differs from the one that its space's support images give; None where it
    does not, or is outdated.

    Raises:
        ValueError, KeyError, TypeError: its content is not that of a fit. Damaged: what it looks at
            is.
    """
    known, sample = _loaded(stored), _sample(connection, space)
    if not _still_holds(connection, space, sample, stored.revision, known):
        return None
    anew = _fitted(connection, space, sample, _from_catalog(connection, space))
    found, expected = known.evidence.to_values(), anew.evidence.to_values()
    for name, value in expected.items():
        # Not bit for bit: a product of matrices may round otherwise with other threads.
        near = np.allclose(
            _numbers(found[name]), _numbers(value), rtol=1e-6, atol=1e-6, equal_nan=True
        )
        if (
            type(found[name]) is not type(value)
            or (isinstance(value, str) and found[name] != value)
            or not near
        ):
            return f"{name} is {found[name]!r:.40}, the support images give {value!r:.40}"
    if (known.last_name, known.last_image) != (anew.last_name, anew.last_image):
        return "it names another end of its sample than the support images give"
    return None


def _numbers(value: object) -> Float64s:
    """What of a fit's value can be compared as numbers."""
    return np.array([] if value is None or isinstance(value, str) else value, dtype=np.float64)


def _sample(connection: Connection, space: SpaceRecord) -> FitSample:
    keys = supports.sample(connection, space.id, MAX_SAMPLE)
    chosen = labels.competitors(connection, space.id, MAX_COMPETITORS)
    looked_at = np.union1d(
        np.array(chosen, dtype=np.int64), np.array([key[0] for key in keys], dtype=np.int64)
    )
    last_name = (
        labels.smallest_name(connection, chosen[-1:]) if len(chosen) == MAX_COMPETITORS else None
    )
    last_image = keys[-1][1] if len(keys) == MAX_SAMPLE else None
    return FitSample(keys, looked_at, last_name, last_image)


def _only_further_ones(connection: Connection, space: SpaceRecord, since: int, fit: Fit) -> bool:
    """Whether all that changed since that revision are new labels beyond the sample that the fit
    looked at.

    So it is nearly always when labels are registered in a large space, and then nothing of the
    sample need be read.
    """
    if fit.last_name is None or fit.last_image is None:
        return False
    created = labels.created_since(connection, space.id, since, _FEW)
    if created is None or any(
        purge.purged_since(connection, space.id, kind, since) for kind in ("label", "support")
    ):
        return False
    return _beyond(connection, created, fit.last_name, fit.last_image)


def _beyond(
    connection: Connection, label_ids: Sequence[int], last_name: int, last_image: bytes
) -> bool:
    """Whether these labels and their support images come behind the sample in the order of
    hashes."""
    names, images = (
        labels.smallest_name(connection, label_ids),
        supports.smallest_content(connection, label_ids),
    )
    return (names is None or names > last_name) and (images is None or images > last_image)


def _still_holds(
    connection: Connection, space: SpaceRecord, sample: FitSample, since: int, fit: Fit
) -> bool:
    """Whether nothing that the fit looked at has changed since that revision."""
    if fit.sample != sample.digest:
        return False
    touched = [label_id for label_id, _ in labels.touched(connection, space.id, since)]
    return not np.isin(np.array(touched, dtype=np.int64), sample.labels).any()


def _fitted(
    connection: Connection,
    space: SpaceRecord,
    sample: FitSample,
    prototypes: Callable[[Int64s], Float32s],
) -> Fit:
    owner = np.array([label_id for label_id, _ in sample.keys], dtype=np.int64)
    images, own = np.empty((len(owner), space.verifier_dim)), np.empty(len(owner))
    known = np.unique(owner)
    for start in range(
        0, len(known), _LABELS_AT_A_TIME
    ):  # all images of a label are read: not of all labels at once
        some = known[start : start + _LABELS_AT_A_TIME]
        owners, hashes, raw = supports.embeddings(connection, some.tolist(), space.verifier_dim)
        place = {key: row for row, key in enumerate(zip(owners.tolist(), hashes, strict=True))}
        here = np.flatnonzero(np.isin(owner, some))
        asked = np.array([place[sample.keys[at]] for at in here.tolist()], dtype=np.int64)
        embeddings = raw.astype(np.float64)
        images[here], own[here] = embeddings[asked], leave_one_out(embeddings, owners, asked)
    others = prototypes(sample.labels).astype(np.float64)
    evidence = fit_evidence(unit_rows(images), owner, own, sample.labels, others)
    return Fit(space.revision, sample.digest, evidence, sample.last_name, sample.last_image)


def _from_catalog(connection: Connection, space: SpaceRecord) -> Callable[[Int64s], Float32s]:
    return lambda ids: labels.prototypes(connection, ids.tolist(), space.verifier_dim)


def _stored(fit: Fit) -> dict[str, object]:
    last_image = None if fit.last_image is None else fit.last_image.hex()
    evidence = fit.evidence.to_values()
    return {
        "made": fit.revision, "sample": fit.sample, "evidence": evidence,
        "last_name": fit.last_name, "last_image": last_image,
    }  # fmt: skip


def _loaded(stored: evidence_fits.FitRecord) -> Fit:
    content = stored.content
    last_image = content.get("last_image")
    return Fit(
        revision=content.get("made", stored.revision),
        sample=content["sample"],
        evidence=ImageEvidence.of_values(content["evidence"]),
        last_name=content.get("last_name"),
        last_image=None if last_image is None else bytes.fromhex(last_image),
    )
