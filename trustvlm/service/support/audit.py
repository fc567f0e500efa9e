"""Auditing labelled images: which of them probably have a wrong label."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.support import images as support_images
from trustvlm.catalog.rows.support.images import Shown
from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import claimed_names
from trustvlm.scoring.discriminant.suspicion import FLAG, noise_share, wrong_probability
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import Observed, observe, truth_ids
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.support.pool import Block, Pool
from trustvlm.service.support.suspects import Judged, JudgedImages, judge_pool
from trustvlm.types import Queries
from trustvlm.types.arrays import Bools, Int64s, texts_or_missing
from trustvlm.types.bounds import whole
from trustvlm.types.support.audit import Audit, AuditRow


def audit(home: Home, space_name: str, limit: int | None, cursor: int | None) -> Audit:
    """See :meth:`TrustService.audit`, of the support images of a space."""
    start, stop = _page(limit, cursor)
    with home.snapshot(space_name) as reading:
        revision = reading.view.revision
        judged = reading.memo.once("audit", revision, lambda: _judged(home, reading, None))
        return _audit(reading, judged, None, start, stop)


def audit_given(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    sources: Sequence[str | None] | None,
    on_error: str,
    limit: int | None,
    cursor: int | None,
) -> Audit:
    """See :meth:`TrustService.audit`, of labelled images that are not registered."""
    start, stop = _page(limit, cursor)
    space = home.space(space_name)
    observed = observe(home, space, queries, truth, sources, on_error)
    if len(observed) and observed.verifier is None:
        raise InvalidInput(
            f"queries.verifier: an audit compares images with each other, and needs verifier "
            f"embeddings ({space.verifier_dim} values); none were given"
        )
    with home.snapshot(space_name) as reading:
        given = _given(reading, observed)
        return _audit(reading, _judged(home, reading, given), observed, start, stop)


def claims_as_truth(
    home: Home, space_name: str, queries: Queries
) -> tuple[Queries, list[str | None]]:
    """(the queries without their claims, the claims as labels; None for one that is no label).

    Raises:
        NotFound: unknown space. InvalidInput: claims that are neither names nor None, or of another
            number than the queries.
    """
    expected = "one label name for each query, or None for no claim"
    names = texts_or_missing(queries.claimed, "queries.claimed", expected)
    sides = (queries.images, queries.classifier, queries.verifier)
    side = next((side for side in sides if side is not None), None)
    if isinstance(side, Sized) and not isinstance(side, str | bytes):
        claimed_names(names, len(side))
    with home.read(space_name) as (connection, space):
        some = sorted({name for name in names if name is not None})
        records = labels.find_many(connection, space.id, some)
    return replace(queries, claimed=None), [name if name in records else None for name in names]


def _page(limit: int | None, cursor: int | None) -> tuple[int, int | None]:
    """(first, behind the last) row."""
    start = 0 if cursor is None else whole("cursor", cursor, bounds="revision")
    return start, None if limit is None else start + whole("limit", limit)


def _given(reading: Reading, observed: Observed) -> Block:
    """The images of a call that are of a label, each content once a label."""
    ids = reading.view.aliases.of(truth_ids(reading.connection, reading.view.space, observed.truth))
    keys = zip(ids.tolist(), observed.hashes, strict=True)
    first = {key: row for row, key in reversed(list(enumerate(keys))) if key[0] >= 0}
    rows = np.array(sorted(first.values()), dtype=np.int64)
    assert observed.verifier is not None or not len(rows)
    verifier = observed.classifier if observed.verifier is None else observed.verifier
    return Block(
        owners=ids[rows],
        hashes=[observed.hashes[row] for row in rows.tolist()],
        verifier=verifier[rows],
        classifier=observed.classifier[rows],
        ids=np.full(len(rows), -1),
        places=rows,
    )


def _judged(home: Home, reading: Reading, given: Block | None) -> Judged:
    """What is said of all images at the reading's revision."""
    connection, view = reading.connection, reading.view
    space, prototypes = view.space, view.prototypes
    rows = np.flatnonzero(prototypes.alive)
    pool = Pool(connection, space, prototypes.ids[rows], given)
    texts = labels.text_prototypes(connection, pool.labels.tolist(), space.classifier_dim)
    two = (
        space.verifier != "same"
        and len(pool.labels) <= home.thresholds.fit_in_call_labels
        and support_images.complete(connection, space.id)
    )
    return judge_pool(pool, texts, space.logit_scale, two=two, most=home.thresholds)


@dataclass(eq=False)
class _Tally:
    """The images that an audit is about: those of the call, or all."""

    images: JudgedImages
    labels: int
    about: Bools
    kept: Bools

    @cached_property
    def usable(self) -> Bools:
        """They can be judged."""
        return self.about & np.isfinite(self.images.nats)

    @cached_property
    def above(self) -> Bools:
        """The suspicion is above that of the flag."""
        return self.usable & (np.nan_to_num(self.images.nats) > FLAG)

    def wrong(self) -> tuple[float | None, float | None]:
        """(estimated share of wrong labels, of them among the flagged)."""
        nats, labels = self.images.nats[self.usable], self.labels
        if not len(nats):
            return None, None
        share = noise_share(nats, labels)
        flagged = self.images.nats[self.above & ~self.kept]
        if not len(flagged):
            return share, None
        return share, float(wrong_probability(flagged, labels, share).mean())


def _audit(
    reading: Reading, judged: Judged, observed: Observed | None, start: int, stop: int | None
) -> Audit:
    images = judged.images
    kept_ids = support_images.kept(reading.connection, reading.view.space.id)
    kept = np.isin(images.ids, np.array(sorted(kept_ids), dtype=np.int64)) & (images.ids >= 0)
    about = np.ones(len(images.ids), np.bool_) if observed is None else images.places >= 0
    tally = _Tally(images, judged.labels, about, kept)
    rows = np.flatnonzero(tally.usable)
    order = rows[np.lexsort((images.places[rows], images.ids[rows], -images.nats[rows]))]
    stop = len(order) if stop is None else min(stop, len(order))
    share, precision = tally.wrong()
    fitted = judged.kind in ("whitened", "cosine")
    return Audit(
        space=reading.view.space.name,
        revision=reading.view.revision,
        images=int(about.sum()),
        judged=len(rows),
        alone=int((about & ~np.isfinite(images.nats)).sum()) if fitted else 0,
        unlabelled=0 if observed is None else sum(name is None for name in observed.truth.tolist()),
        flagged=int((tally.above & ~kept).sum()),
        kept=int((tally.above & kept).sum()),
        wrong_share=share,
        precision=precision,
        without_text=int((tally.usable & ~images.by_text).sum()),
        evidence=judged.kind,  # type: ignore[arg-type]
        rows=_rows(reading, tally, order[start:stop], observed),
        next_cursor=stop if start < stop < len(order) else None,
        notes=() if observed is None else observed.notes,
        failures=() if observed is None else observed.failures,
    )


def _rows(
    reading: Reading, tally: _Tally, order: Int64s, observed: Observed | None
) -> tuple[AuditRow, ...]:
    images, view = tally.images, reading.view
    ids = [number for number in images.ids[order].tolist() if number >= 0]
    shown = support_images.shown(reading.connection, ids)

    def name(label_id: int) -> str:
        return str(view.names[int(view.text.slots(np.array([label_id]))[0])])

    return tuple(
        _row(images, at, tally, shown.get(int(images.ids[at])), observed, name)
        for at in order.tolist()
    )


def _row(
    images: JudgedImages,
    at: int,
    tally: _Tally,
    shown: Shown | None,
    observed: Observed | None,
    name: Callable[[int], str],
) -> AuditRow:
    place, nats = int(images.places[at]), float(images.nats[at])
    of_call = observed is not None and place >= 0
    source = observed.sources[place] if observed is not None and place >= 0 else None
    details: dict[str, Any] = {"id": None, "pictured": False, "kept": False, "proposed": False}
    label = name(int(images.owners[at]))
    if shown is not None:
        details = {field: getattr(shown, field) for field in ("id", "pictured", "kept", "proposed")}
        label, source = shown.label, source or shown.source
    return AuditRow(
        place=place if of_call else None,
        label=label,
        source=source,
        suspicion=nats,
        probability=math.exp(-nats),
        looks_like=name(int(images.likest[at])),
        looks_like_probability=float(images.likest_probability[at]),
        flagged=bool(tally.above[at] and not tally.kept[at]),
        judged_by="text and image" if images.by_text[at] else "image",
        **details,
    )
