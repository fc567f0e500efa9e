"""Whether a calibration still speaks of the space as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from trustvlm.catalog.rows import labels, observations
from trustvlm.scoring.rules import RULES
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.label_subset import subset_of_ids
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.query.context import Context
from trustvlm.service.query.judge import judge
from trustvlm.types.arrays import Int64s
from trustvlm.types.calibration import Calibration

__all__ = ["Staleness", "staleness"]


@dataclass(frozen=True, eq=False)
class Staleness:
    """A calibration that does not know all changes.

    Attributes:
        since: the first revision it does not know. abstain: nothing is to be accepted. words: for
            people.
        unseen: ids of the labels that it never saw: added, brought back or changed since, and given
            to none of its images.
    """

    since: int
    abstain: bool
    words: str
    unseen: Int64s


def staleness(context: Context, calibration: Calibration) -> Staleness | None:
    """None while nothing changed since the calibration was made."""
    view = context.view
    if view.revision == calibration.revision:
        return None
    since, remedy = calibration.revision + 1, f"run 'trustvlm recalibrate {view.space.name}'"
    if calibration.other_encoders:
        anew = f"calibration {calibration.id} is stale: the space was re-embedded since"
        return Staleness(since, True, f"{anew}; {remedy}", np.empty(0, np.int64))
    changed = (
        f"calibration {calibration.id} is stale since revision {since}: labels or support "
        f"images changed"
    )
    unseen, given = _since_then(context, calibration)
    if calibration.on_stale == "auto" and given is not None:
        return Staleness(
            since,
            True,
            f"{changed}, and some calibration images now get the label {given!r}; {remedy}",
            unseen,
        )
    return Staleness(since, calibration.on_stale == "abstain", f"{changed}; {remedy}", unseen)


def _since_then(context: Context, calibration: Calibration) -> tuple[Int64s, str | None]:
    """(labels that the calibration never saw, one of them that its images would now be given),
    looked up once a revision."""
    memo = context.view.cache.unseen
    if memo is not None and memo[:2] == (calibration.id, context.view.revision):
        return memo[2], memo[3]
    view = context.view
    touched = [
        label_id
        for label_id, _ in labels.touched(context.connection, view.space.id, calibration.revision)
    ]
    unseen = _alive(
        view,
        np.setdiff1d(
            np.array(touched, dtype=np.int64), np.array(calibration.predicted, dtype=np.int64)
        ),
    )
    given = (
        _given(context, calibration, unseen)
        if len(unseen) and calibration.on_stale == "auto"
        else None
    )
    context.view.cache.unseen = (calibration.id, view.revision, unseen, given)
    return unseen, given


def _given(context: Context, calibration: Calibration, unseen: Int64s) -> str | None:
    """Judge the calibration's images among the labels they were given and those that are new:
    nothing else can win."""
    view = context.view
    pool = observations.pool(
        context.connection, view.space.id, view.space.classifier_dim, view.space.verifier_dim
    )
    if not len(pool):
        return None
    rule = RULES[calibration.rule]
    known = _alive(view, np.array(calibration.predicted, dtype=np.int64))
    subset = subset_of_ids(view, np.union1d(unseen, known))
    classifier = unit_rows(pool.classifier.astype(np.float64))
    verifier = classifier if pool.verifier is None else unit_rows(pool.verifier.astype(np.float64))
    narrowed = replace(context, subset=subset)
    columns = judge(narrowed, classifier, verifier, rule, calibration.params, 1)
    taken = np.flatnonzero(np.isin(cast(Int64s, columns["label_id"]), unseen))
    return str(columns["label"][taken[0]]) if len(taken) else None


def _alive(view: SpaceView, ids: Int64s) -> Int64s:
    return ids[view.text.slots(ids) >= 0]
