"""Feedback: images whose true label became known, kept as evidence for or against the promise; and
watching over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from trustvlm.catalog.rows import observations, spaces, supports
from trustvlm.catalog.rows.observations import GivenVerdict
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.selective.monitoring import monitor as watch
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import Observed, are_supports, as_rows, observe, truth_ids
from trustvlm.service.measuring.repeated import as_stored
from trustvlm.service.query.score import verdicts_of
from trustvlm.service.registration.register import register
from trustvlm.types import LabelInput, Queries, Verdicts
from trustvlm.types.array_input import sources
from trustvlm.types.arrays import Bools, Int64s
from trustvlm.types.bounds import choice
from trustvlm.types.calibration import FeedbackResult, MonitorReport
from trustvlm.types.options import SAMPLINGS

__all__ = ["SAMPLINGS", "feedback", "monitor"]


def feedback(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None] | str | None,
    sampling: str,
    promote: bool,
    sources: Sequence[str | None] | None,
) -> FeedbackResult:
    """See :meth:`TrustService.feedback`."""
    choice("sampling", sampling, SAMPLINGS)
    space = home.space(space_name)
    observed = observe(
        home, space, queries, [truth] if truth is None or isinstance(truth, str) else truth, sources
    )
    classifier, verifier = observed.unit
    with home.snapshot(space_name) as (connection, view):
        true_ids = truth_ids(connection, view.space, observed.truth)
        kept = np.flatnonzero(~are_supports(home, connection, view, verifier, len(observed)))
        told = as_stored(connection, space, observed[kept])
        unit = Queries(classifier[kept], None if verifier is None else verifier[kept])
        verdicts = verdicts_of(home, connection, view, space, unit, top_k=1)
        right = np.equal(verdicts.label_id, view.aliases.of(true_ids[kept]))
    rows = [
        replace(row, verdict=_given(verdicts, i))
        for i, row in enumerate(as_rows(told, true_ids[kept], "feedback", sampling))
    ]
    with home.catalog.write("feedback") as connection:
        if spaces.find(connection, space_name).id != space.id:
            raise Conflict(
                f"space {space_name!r} was removed and made again, or re-embedded, during the "
                f"call; nothing was stored"
            )
        stored = observations.store(connection, space.id, rows)
    promoted = _promote(home, space_name, queries, observed, kept, told.hashes) if promote else 0
    places = np.full(len(observed), -1, dtype=np.int64)
    places[kept] = stored.ids
    return FeedbackResult(
        ids=tuple(int(place) for place in places),
        added=len(set(stored.ids)) - stored.known,
        updated=stored.known,
        apart=stored.apart,
        right=int(right.sum()),
        accepted_wrong=int((_accepted(verdicts) & ~right).sum()),
        promoted=promoted,
        notes=observed.notes,
    )


def _accepted(verdicts: Verdicts) -> Bools:
    return np.array([accepted is True for accepted in verdicts.accepted.tolist()], dtype=np.bool_)


def _given(verdicts: Verdicts, i: int) -> GivenVerdict:
    return GivenVerdict(
        predicted_id=int(verdicts.label_id[i]),
        predicted=str(verdicts.label[i]),
        trust=float(verdicts.trust[i]),
        accepted=verdicts.accepted[i],
        calibration_id=verdicts.calibration_id,
        revision=verdicts.revision,
    )


def _promote(
    home: Home,
    space_name: str,
    queries: Queries,
    observed: Observed,
    kept: Int64s,
    stored: Sequence[bytes],
) -> int:
    """Make the kept images of a label support images of it, and take them, stored by these hashes,
    out of what may testify."""
    if observed.verifier is None:
        raise InvalidInput("promote: support images need verifier embeddings; none were given")
    of_label = [i for i in kept.tolist() if observed.truth[i] is not None]
    images = None if queries.images is None else sources(queries.images, "queries.images")
    inputs = []
    for i in of_label:
        if images is not None:
            inputs.append(LabelInput(observed.truth[i], images=[images[i]]))
        else:
            other = (
                None if observed.verifier is observed.classifier else observed.classifier[i : i + 1]
            )
            inputs.append(
                LabelInput(
                    observed.truth[i],
                    image_vectors=observed.verifier[i : i + 1],
                    classifier_image_vectors=other,
                )
            )
    how: Any = {"image_range": queries.image_range, "accept_truncated": queries.accept_truncated}
    result = register(home, space_name, _merged(inputs), must_exist=True, bring_back=True, **how)
    with home.catalog.write("promote") as connection:
        space = spaces.find(connection, space_name)
        known = supports.ids_of_hashes(connection, space.id, [observed.hashes[i] for i in of_label])
        by_hash = dict(zip((observed.hashes[i] for i in kept.tolist()), stored, strict=True))
        observations.mark_promoted(
            connection, space.id, {by_hash[content]: of for content, of in known.items()}
        )
    return result.added_supports


def _merged(inputs: Sequence[LabelInput]) -> list[LabelInput]:
    """One input for each label."""
    grouped: dict[str, list[LabelInput]] = {}
    for item in inputs:
        grouped.setdefault(item.name, []).append(item)
    found = []
    for name, items in grouped.items():
        if items[0].images is not None:
            found.append(
                LabelInput(name, images=[image for item in items for image in item.images or ()])
            )
            continue
        other = None
        if items[0].classifier_image_vectors is not None:
            other = np.concatenate([np.asarray(item.classifier_image_vectors) for item in items])
        vectors = np.concatenate([np.asarray(item.image_vectors) for item in items])
        found.append(LabelInput(name, image_vectors=vectors, classifier_image_vectors=other))
    return found


def monitor(home: Home, space_name: str, alpha: float) -> MonitorReport:
    """See :meth:`TrustService.monitor`."""
    with home.snapshot(space_name) as (connection, view):
        calibration = in_force(connection, view.space)
        if calibration is None:
            raise NotFound(
                f"space {space_name!r} has no calibration to watch over; run 'trustvlm "
                f"calibrate {space_name} DIR'"
            )
        if calibration.other_encoders:
            raise NotFound(
                f"space {space_name!r} was re-embedded since calibration {calibration.id}, "
                f"which decides nothing any more; "
                f"run 'trustvlm recalibrate {space_name}'"
            )
        pairs = observations.accepted_random(connection, view.space.id)
        predicted = view.aliases.of(np.array([pair[0] for pair in pairs], dtype=np.int64))
        truth = view.aliases.of(np.array([pair[1] for pair in pairs], dtype=np.int64))
    found = watch((predicted != truth).tolist(), calibration.max_risk, alpha)
    promised = f"at most {calibration.max_risk:g} of what is accepted is wrong"
    seen = f"{found.errors} of {found.items} accepted images whose label became known are wrong"
    if found.broken:
        message = (
            f"the promise is broken: {seen}, though {promised}; the risk is at least "
            f"{found.risk_low:.3g}. "
            f"Do not rely on calibration {calibration.id}; run 'trustvlm recalibrate {space_name}'"
        )
    elif calibration.revision < view.revision:
        message = (
            f"calibration {calibration.id} is stale since revision {calibration.revision + 1} "
            f"and promises nothing"
            f"{f': {seen}' if found.items else ''}; run 'trustvlm recalibrate {space_name}'"
        )
    elif not found.items:
        message = (
            f"nothing to compare with yet: give feedback with sampling 'random' on images "
            f"that were accepted ({promised})"
        )
    else:
        message = f"the promise ({promised}) is not contradicted: {seen}"
    return MonitorReport(
        calibration_id=calibration.id,
        max_risk=calibration.max_risk,
        items=found.items,
        errors=found.errors,
        risk=found.errors / found.items if found.items else None,
        risk_low=found.risk_low,
        evidence=found.largest,
        broken=found.broken,
        broken_after=found.broken_after,
        alpha=alpha,
        message=message,
    )
