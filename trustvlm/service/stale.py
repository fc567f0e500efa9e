"""Whether a calibration still speaks of the space as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from trustvlm.catalog import labels, observations
from trustvlm.promise import Calibration
from trustvlm.scoring.rules import RULES
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.cache import SpaceView
from trustvlm.service.context import Context
from trustvlm.service.judging import judge
from trustvlm.service.subset import subset_of_ids
from trustvlm.types import Int64s

__all__ = ["Staleness", "staleness"]


@dataclass(frozen=True)
class Staleness:
    """A calibration that does not know all changes.

    Attributes:
        since: the first revision it does not know. abstain: nothing is to be accepted. words: for people.
    """

    since: int
    abstain: bool
    words: str


def staleness(context: Context, calibration: Calibration) -> Staleness | None:
    """None while nothing changed since the calibration was made."""
    view = context.view
    if view.revision == calibration.revision:
        return None
    since = calibration.revision + 1
    if calibration.other_encoders:
        anew = f"calibration {calibration.id} is of the encoders that the space had before it was embedded anew"
        return Staleness(since, True, f"{anew}; run 'trustvlm recalibrate {view.space.name}'")
    changed = f"calibration {calibration.id} is stale since revision {since}: labels or support images changed"
    if calibration.on_stale == "abstain":
        return Staleness(since, True, f"{changed}; run 'trustvlm recalibrate {view.space.name}'")
    given = None if calibration.on_stale == "flag" else _newly_given(context, calibration)
    if given is None:
        return Staleness(since, False, changed)
    words = f"{changed}, and calibration images would now be given {given!r}; run 'trustvlm recalibrate {view.space.name}'"
    return Staleness(since, True, words)


def _newly_given(context: Context, calibration: Calibration) -> str | None:
    """A label that was added (or brought back, or changed) since, and that a calibration image would now be given."""
    memo = context.view.cache.newly_given
    if memo is not None and memo[:2] == (calibration.id, context.view.revision):
        return memo[2]
    found = _look(context, calibration)
    context.view.cache.newly_given = (calibration.id, context.view.revision, found)
    return found


def _look(context: Context, calibration: Calibration) -> str | None:
    """Judge the calibration's images among the labels they were given and those that are new: nothing else can win."""
    view = context.view
    known = np.array(calibration.predicted, dtype=np.int64)
    touched = [label_id for label_id, _ in labels.touched(context.connection, view.space.id, calibration.revision)]
    new = _alive(view, np.setdiff1d(np.array(touched, dtype=np.int64), known))
    if not len(new):
        return None
    pool = observations.pool(context.connection, view.space.id, view.space.classifier_dim, view.space.verifier_dim)
    if not len(pool):
        return None
    rule = RULES[calibration.rule]
    subset = subset_of_ids(view, np.union1d(new, _alive(view, known)))
    classifier = unit_rows(pool.classifier.astype(np.float64))
    verifier = classifier if pool.verifier is None else unit_rows(pool.verifier.astype(np.float64))
    narrowed = replace(context, subset=subset)
    columns = judge(narrowed, classifier, verifier, rule, calibration.params, 1)
    taken = np.flatnonzero(np.isin(cast(Int64s, columns["label_id"]), new))
    return str(columns["label"][taken[0]]) if len(taken) else None


def _alive(view: SpaceView, ids: Int64s) -> Int64s:
    return ids[view.text.slots(ids) >= 0]
