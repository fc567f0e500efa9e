"""Accept, review or unknown: the calibration in force, applied to verdicts, with the reason as a
code and in words; and whether that calibration still speaks of the space as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows import labels, observations
from trustvlm.scoring.rules import RULES, Rule
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.label_subset import subset_of_ids
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.space_memo import UnseenLabels
from trustvlm.service.query.context import Context
from trustvlm.service.query.judge import Columns, judge
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.calibration import Calibration

__all__ = ["UNKNOWN_RATE", "acceptable", "applies", "decide", "is_unknown", "undecided"]

UNKNOWN_RATE = 0.01
"""False alarms of the unknown test that are accepted where no calibration says otherwise."""

_NO_SUPPORT = "the label has no support image"
_STRANGE = "the image is close to no prototype"
_OFF = "image evidence is off: the support images do not tell the labels apart"

Decision = dict[str, Any]
"""The fields of :class:`trustvlm.Verdicts` that depend on a calibration."""


@dataclass(frozen=True, eq=False)
class _Reason:
    """A reason for the verdicts of `rows`: its code, and `words` for each of them or for all."""

    rows: Bools
    code: str
    words: str | Objects


@dataclass(frozen=True, eq=False)
class _Staleness:
    """Why a calibration does not cover the space as it is.

    Attributes:
        since: the first revision that it does not cover. abstain: nothing is to be accepted.
        words: for people.
        unseen: ids of the labels that it never saw.
    """

    since: int
    abstain: bool
    words: str
    unseen: Int64s


def undecided(
    context: Context,
    columns: Columns,
    copy_of: Objects,
    rule: Rule,
    image_evidence: str | None,
    why: str,
) -> Decision:
    """No calibration applies: everything is for review, and what is odd is said."""
    unknown = is_unknown(context, columns, UNKNOWN_RATE)
    count = len(unknown)
    also = np.full(count, "", dtype=object)
    for odd, words in (
        (cast(Bools, columns["unverified"]), f"unverified: {_NO_SUPPORT}"),
        (unknown, f"unknown: {_STRANGE}"),
        (np.full(count, image_evidence == "off"), _OFF),
    ):
        also[odd] = also[odd] + f"; {words}"
    review = _Reason(np.ones(count, np.bool_), "not_calibrated", f"review: {why}")
    code, reason = _first([_copies(copy_of), review], also)
    nothing = np.full(count, None, dtype=object)
    return {
        "decision": np.full(count, "review", dtype=object),
        "accepted": nothing,
        "probability": _objects(columns["trust"]) if rule.probability else nothing.copy(),
        "reason_code": code,
        "reason": reason,
        "unknown": unknown,
        "calibration_id": None,
        "stale_since": None,
    }


def decide(
    context: Context, columns: Columns, copy_of: Objects, calibration: Calibration
) -> Decision:
    """Accept verdicts by the calibration in force.

    A verdict is accepted if its trust is at or above the threshold and nothing speaks against it:
    the image equals no support image of another label, is not unknown, and is not unverified under
    a policy that refuses that; a stale calibration accepts anything at all and covers the label. A
    verdict that is not accepted gives the first of these reasons.
    """
    assert calibration.threshold is not None, "a calibration without a threshold is never in force"
    trust, unverified = cast(Float64s, columns["trust"]), cast(Bools, columns["unverified"])
    unknown = is_unknown(context, columns, calibration.unknown_rate)
    stale = _staleness(context, calibration)
    refused = unverified & (calibration.on_unverified == "abstain")
    reasons = [
        _copies(copy_of),
        *([] if stale is None else [_not_covered(stale, columns, calibration)]),
        _Reason(unknown, "unknown", f"unknown: {_STRANGE}"),
        _Reason(refused, "unverified", f"review: unverified ({_NO_SUPPORT})"),
        _Reason(
            trust >= calibration.threshold, "accepted", "accept: the trust reaches the threshold"
        ),
        _Reason(cast(Bools, columns["close"]), "close_call", _close_call(columns)),
        _Reason(
            np.ones(len(trust), np.bool_),
            "low_evidence",
            "review: the trust is below the threshold",
        ),
    ]
    also = "" if stale is None or stale.abstain else f"; {stale.words}"
    code, reason = _first(reasons, np.full(len(trust), also, dtype=object))
    accepted = code == "accepted"
    otherwise = np.where(code == "unknown", "unknown", "review")
    sure = None if stale else _objects(calibration.probability(trust))
    return {
        "decision": np.where(accepted, "accept", otherwise).astype(object),
        "accepted": _objects(accepted),
        "probability": np.full(len(trust), None, dtype=object) if sure is None else sure,
        "reason_code": code,
        "reason": reason,
        "unknown": unknown,
        "calibration_id": calibration.id,
        "stale_since": None if stale is None else stale.since,
    }


def acceptable(unknown: Bools, unverified: Bools, on_unverified: str) -> Bools:
    """(n,) what may be accepted at all, at any trust."""
    return ~unknown & ~(unverified & (on_unverified == "abstain"))


def is_unknown(context: Context, columns: Columns, rate: float) -> Bools:
    """(n,) whether the nearest prototype is further away than a support image's would be in all but
    `rate` of the cases."""
    nearest = cast(Float64s, columns["nearest_similarity"])
    return ~np.isnan(nearest) & (nearest < context.fit.evidence.unknown_below(rate))


def applies(
    calibration: Calibration | None,
    rule: str,
    parameters: Mapping[str, float | None],
    *,
    all_labels: bool,
) -> str | None:
    """Why the calibration does not decide about verdicts of this rule; None where it does.

    Args:
        all_labels: all labels took part, as they did in the calibration.
    """
    if calibration is None:
        return "not calibrated"
    # With other encoders nothing is accepted under any parameters.
    same = dict(calibration.params) == dict(parameters) or calibration.other_encoders
    if calibration.rule != rule or not same:
        made_for = f"calibration {calibration.id} is for {calibration.rule}"
        return f"not calibrated for this rule ({made_for})"
    return None if all_labels else "not calibrated for a part of the labels"


def _not_covered(stale: _Staleness, columns: Columns, calibration: Calibration) -> _Reason:
    """What a stale calibration does not accept: everything, or the labels that it never saw."""
    label_id = cast(Int64s, columns["label_id"])
    if stale.abstain:
        return _Reason(np.ones(len(label_id), np.bool_), "stale", f"review: {stale.words}")
    words = _words(
        f"review: label {name!r} is not covered by calibration {calibration.id}"
        for name in columns["label"]
    )
    return _Reason(np.isin(label_id, stale.unseen), "stale", words)


def _copies(copy_of: Objects) -> _Reason:
    """The image equals a support image of another label (None: of none)."""
    words = _words(f"review: the image equals a support image of {name!r}" for name in copy_of)
    rows = np.array([name is not None for name in copy_of], dtype=np.bool_)
    return _Reason(rows, "copy_of_other", words)


def _close_call(columns: Columns) -> Objects:
    """A rival that is close; or ahead, where the rule keeps the classifier's label all the same."""
    rows = zip(columns["label"], columns["rival"], columns["ahead"], strict=True)
    return _words(
        f"review: {rival!r} fits better than {label!r}"
        if ahead
        else f"review: a close call between {label!r} and {rival!r}"
        for label, rival, ahead in rows
    )


def _first(reasons: list[_Reason], also: Objects) -> tuple[Objects, Objects]:
    """(code, words) of the first reason that holds of each verdict, with what is `also` to be said
    of it."""
    code, words = np.full(len(also), None, dtype=object), np.full(len(also), "", dtype=object)
    for reason in reversed(reasons):
        rows = reason.rows
        code[rows] = reason.code
        words[rows] = reason.words if isinstance(reason.words, str) else reason.words[rows]
    return code, words + also


def _words(texts: Any) -> Objects:
    return _objects(np.array(list(texts), dtype=object))


def _objects(values: npt.NDArray[Any]) -> Objects:
    """An array of plain Python values."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values.tolist()
    return objects


def _staleness(context: Context, calibration: Calibration) -> _Staleness | None:
    """None while nothing changed since the calibration was made."""
    view = context.view
    if view.revision == calibration.revision:
        return None
    since, remedy = calibration.revision + 1, f"run 'trustvlm recalibrate {view.space.name}'"
    title = f"calibration {calibration.id} is stale"
    if calibration.other_encoders:
        words = f"{title}: the space was re-embedded since; {remedy}"
        return _Staleness(since, True, words, np.empty(0, np.int64))
    words = f"{title} since revision {since}: labels or support images changed"
    unseen = _unseen(context, calibration)
    abstain = calibration.on_stale == "abstain"
    if calibration.on_stale == "auto" and unseen.taken is not None:
        abstain = True
        words += f", and some calibration images now get the label {unseen.taken!r}"
    return _Staleness(since, abstain, f"{words}; {remedy}", unseen.ids)


def _unseen(context: Context, calibration: Calibration) -> UnseenLabels:
    """The labels that the calibration never saw, looked up once a revision."""
    view, memo = context.view, context.home.caches.memo(context.view)
    key = (calibration.id, view.revision)
    if memo.unseen is None or (memo.unseen.calibration, memo.unseen.revision) != key:
        touched = labels.touched(context.connection, view.space.id, calibration.revision)
        ids = np.setdiff1d(
            np.array([label_id for label_id, _ in touched], dtype=np.int64),
            np.array(calibration.predicted, dtype=np.int64),
        )
        ids = _live(view, ids)
        judged = len(ids) and calibration.on_stale == "auto"
        taken = _taken(context, calibration, ids) if judged else None
        memo.unseen = UnseenLabels(*key, ids, taken)
    return memo.unseen


def _taken(context: Context, calibration: Calibration, unseen: Int64s) -> str | None:
    """One of the unseen labels that an image of the calibration would be given: they are judged
    among the labels they were given and those that are new, as nothing else can win."""
    view = context.view
    pool = observations.pool(
        context.connection, view.space.id, view.space.classifier_dim, view.space.verifier_dim
    )
    if not len(pool):
        return None
    seen = _live(view, np.array(calibration.predicted, dtype=np.int64))
    narrowed = replace(context, subset=subset_of_ids(view, np.union1d(unseen, seen)))
    classifier = unit_rows(pool.classifier.astype(np.float64))
    verifier = classifier if pool.verifier is None else unit_rows(pool.verifier.astype(np.float64))
    rule = RULES[calibration.rule]
    columns = judge(narrowed, classifier, verifier, rule, calibration.params, 1)
    taken = np.flatnonzero(np.isin(cast(Int64s, columns["label_id"]), unseen))
    return str(columns["label"][taken[0]]) if len(taken) else None


def _live(view: SpaceView, ids: Int64s) -> Int64s:
    return ids[view.text.slots(ids) >= 0]
