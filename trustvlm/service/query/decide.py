"""Accept, review or unknown: the calibration in force, applied to verdicts, with the reason as a
code and in words; and whether that calibration still speaks of the space as it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows import labels, observations
from trustvlm.scoring.rules import RULES, Rule
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.home.calibrations import stale_since
from trustvlm.service.memory.label_subset import subset_of_ids
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.space_tree import tree_revision
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.service.query.judge import judge
from trustvlm.service.query.nodes import nodes_reach
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.calibration import Calibration
from trustvlm.types.messages.commands import suggested

UNKNOWN_RATE = 0.01
"""False alarms of the unknown test that are accepted where no calibration says otherwise."""

_NO_SUPPORT = "the label has no support image"
_STRANGE = "the image is close to no prototype"

Words = Callable[[list[int]], list[str]]
"""The sentence of each of some verdicts."""

Also = list[tuple[Bools, str]]
"""(rows, what the reason of their verdicts says besides)."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The fields of :class:`trustvlm.Verdicts` that depend on a calibration.

    Attributes:
        values: those that are computed. later: functions that make the others when they are read.
    """

    values: dict[str, Any]
    later: dict[str, Callable[[], npt.NDArray[Any]]]


@dataclass(frozen=True, eq=False)
class Reason:
    """A reason for the verdicts of `rows`: its code, and the words for all or for some of them."""

    rows: Bools
    code: str
    words: str | Words


@dataclass(frozen=True, eq=False)
class _Staleness:
    """Why a calibration does not cover the space as it is.

    Attributes:
        since: the first revision that it does not know. abstain: nothing is to be accepted.
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
    copy_of: Mapping[int, str],
    rule: Rule,
    remarks: Sequence[str],
    why: str,
    first: Sequence[Reason] = (),
    then: Sequence[Reason] = (),
) -> Decision:
    """No calibration applies: everything is for review; the reason adds what is unusual, and the
    remarks on the evidence of all verdicts; `first`: reasons before all others, `then`: before the
    last one."""
    trust = columns.arrays["trust"]
    evidence = context.fit.evidence  # verdicts keep no context alive

    def unknown() -> Bools:
        return _is_below(columns, evidence.unknown_below(UNKNOWN_RATE))

    def reasons() -> tuple[list[Reason], Also]:
        every = np.ones(len(trust), np.bool_)
        review = Reason(every, "not_calibrated", f"review: {why}")
        return [*first, _copies(copy_of, len(trust)), *then, review], [
            (columns["unverified"], f"; unverified: {_NO_SUPPORT}"),
            (unknown(), f"; unknown: {_STRANGE}"),
            *((every, f"; {remark}") for remark in remarks),
        ]

    return Decision(
        {
            "calibration_id": None,
            "stale_since": None,
            "probability_source": "rule" if rule.probability else None,
        },
        _in_words(reasons)
        | {
            "unknown": unknown,
            "decision": lambda: _filled(len(trust), "review"),
            "accepted": lambda: _filled(len(trust), None),
            "probability": lambda: _without_copies(
                _objects(trust) if rule.probability else _filled(len(trust), None), copy_of
            ),
        },
    )


def decide(
    context: Context,
    columns: Columns,
    copy_of: Mapping[int, str],
    calibration: Calibration,
    remarks: Sequence[str] = (),
    first: Sequence[Reason] = (),
) -> Decision:
    """Accept verdicts by the calibration in force.

    A verdict is accepted if its trust is at or above the threshold and nothing speaks against it:
    the image equals no support image of another label, is not unknown, and is not unverified under
    a policy that refuses that, and a stale calibration does not refuse the label. A verdict that is
    not accepted gives the first of these reasons, which ends with the remarks.

    Args:
        first: reasons before all others. Where a calibration of claims decides, a rival that is
            ahead is one of its own.
    """
    assert calibration.threshold is not None, "a calibration without a threshold is never in force"
    trust, unverified = cast(Float64s, columns["trust"]), cast(Bools, columns["unverified"])
    unknown = is_unknown(context, columns, calibration.unknown_rate)
    stale = _staleness(context, calibration)
    refused = unverified & (calibration.on_unverified == "abstain")
    every = np.ones(len(trust), np.bool_)
    ahead = cast(Bools, columns["ahead"]) & calibration.claims
    words: str | Words = "accept: the trust reaches the threshold"
    what, reached = "the trust", trust >= calibration.threshold
    if calibration.back_off:
        what = "the probability of every node"
        reached, words = nodes_reach(columns, calibration.threshold)
    reasons = [
        *first,
        _copies(copy_of, len(trust)),
        *([] if stale is None else [_not_covered(stale, columns, calibration)]),
        Reason(unknown, "unknown", f"unknown: {_STRANGE}"),
        Reason(refused, "unverified", f"review: unverified ({_NO_SUPPORT})"),
        Reason(reached, "accepted", words),
        Reason(ahead, "better_label", partial(_close_calls, columns)),
        Reason(cast(Bools, columns["close"]), "close_call", partial(_close_calls, columns)),
        Reason(every, "low_evidence", f"review: {what} is below the threshold"),
    ]
    holds = _first(reasons)
    accepted, strange = (holds == _place(reasons, code) for code in ("accepted", "unknown"))
    also: Also = [] if stale is None or stale.abstain else [(every, f"; {stale.words}")]
    also += [(every, f"; {remark}") for remark in remarks]
    return Decision(
        {
            "unknown": unknown,
            "calibration_id": calibration.id,
            "stale_since": None if stale is None else stale.since,
            "probability_source": "calibration" if stale is None else None,
        },
        _in_words(lambda: (reasons, also))
        | {
            "decision": lambda: _objects(
                np.where(accepted, "accept", np.where(strange, "unknown", "review"))
            ),
            "accepted": lambda: _objects(accepted),
            "probability": lambda: _without_copies(
                _filled(len(trust), None) if stale else _objects(calibration.probability(trust)),
                copy_of,
            ),
        },
    )


def acceptable(unknown: Bools, unverified: Bools, on_unverified: str) -> Bools:
    """(n,) what may be accepted at all, at any trust."""
    return ~unknown & ~(unverified & (on_unverified == "abstain"))


def is_unknown(context: Context, columns: Columns, rate: float) -> Bools:
    """(n,) whether the nearest prototype is further away than a support image's would be in all but
    `rate` of the cases."""
    return _is_below(columns, context.fit.evidence.unknown_below(rate))


def _is_below(columns: Columns, least: float) -> Bools:
    nearest = cast(Float64s, columns["nearest_similarity"])
    return ~np.isnan(nearest) & (nearest < least)


def applies(
    calibration: Calibration | None,
    rule: str,
    parameters: Mapping[str, float | None],
    *,
    all_labels: bool,
    uncalibrated: str = "not calibrated",
) -> str | None:
    """Why the calibration does not decide about verdicts of this rule; None where it does.

    Args:
        all_labels: all labels took part, as they did in the calibration.
        uncalibrated: what to say where there is none.
    """
    if calibration is None:
        return uncalibrated
    # With other encoders nothing is accepted under any parameters.
    same = dict(calibration.params) == dict(parameters) or calibration.other_encoders
    if calibration.rule != rule or not same:
        made_for = f"calibration {calibration.id} is for {calibration.rule}"
        return f"not calibrated for this rule ({made_for})"
    return None if all_labels else "not calibrated for a part of the labels"


def _not_covered(stale: _Staleness, columns: Columns, calibration: Calibration) -> Reason:
    """What a stale calibration does not accept: everything, or the labels that it never saw."""
    label_id = cast(Int64s, columns["label_id"])
    if stale.abstain:
        return Reason(np.ones(len(label_id), np.bool_), "stale", f"review: {stale.words}")

    def words(rows: list[int]) -> list[str]:
        names = columns["label"][rows].tolist()
        return [
            f"review: label {name!r} is not covered by calibration {calibration.id}"
            for name in names
        ]

    return Reason(np.isin(label_id, stale.unseen), "stale", words)


def _copies(copy_of: Mapping[int, str], count: int) -> Reason:
    """The image equals a support image of another label."""
    rows = np.zeros(count, np.bool_)
    rows[list(copy_of)] = True
    return Reason(
        rows,
        "copy_of_other",
        lambda rows: [
            f"review: the image equals a support image of {copy_of[row]!r}; one of the two labels "
            f"is wrong, and no probability says which"
            for row in rows
        ],
    )


def _without_copies(probability: Objects, copy_of: Mapping[int, str]) -> Objects:
    """The probabilities, None for copies of another label's support image: a number that leaves out
    what is stored of that very image says nothing of it."""
    probability[list(copy_of)] = None
    return probability


def _close_calls(columns: Columns, rows: list[int]) -> list[str]:
    """A rival that is close; or ahead, where the rule keeps the classifier's label all the same."""
    some = (columns[name][rows].tolist() for name in ("label", "rival", "ahead"))
    return [
        f"review: {rival!r} fits better than {label!r}"
        if ahead
        else f"review: a close call between {label!r} and {rival!r}"
        for label, rival, ahead in zip(*some, strict=True)
    ]


def _first(reasons: list[Reason]) -> Int64s:
    """(n,) place of the first reason that holds of each verdict."""
    first = np.empty(len(reasons[0].rows), dtype=np.int64)
    for place in reversed(range(len(reasons))):
        first[reasons[place].rows] = place
    return first


def _place(reasons: list[Reason], code: str) -> int:
    return [reason.code for reason in reasons].index(code)


def _in_words(
    given: Callable[[], tuple[list[Reason], Also]],
) -> dict[str, Callable[[], npt.NDArray[Any]]]:
    """The columns `reason_code` and `reason`: the first reason that holds, with the additions."""

    def codes() -> Objects:
        reasons, _ = given()
        return np.array([reason.code for reason in reasons], dtype=object)[_first(reasons)]

    def sentences() -> Objects:
        reasons, also = given()
        first, words = _first(reasons), _filled(len(reasons[0].rows), "")
        for place, reason in enumerate(reasons):
            rows = np.flatnonzero(first == place).tolist()
            texts = [reason.words] * len(rows)
            words[rows] = texts if isinstance(reason.words, str) else reason.words(rows)
        for odd, text in also:
            words[odd] += text
        return words

    return {"reason_code": codes, "reason": sentences}


def _filled(count: int, value: object) -> Objects:
    return np.full(count, value, dtype=object)


def _objects(values: npt.NDArray[Any]) -> Objects:
    """An array of plain Python values."""
    objects = np.empty(len(values), dtype=object)
    objects[:] = values.tolist()
    return objects


def _staleness(context: Context, calibration: Calibration) -> _Staleness | None:
    """None while the calibration covers the space."""
    if not calibration.stale:
        return None
    options = "--claims" if calibration.claims else ""
    remedy = f"run {suggested('recalibrate', context.view.space.name, options=options)}"
    since, none = stale_since(context.reading, calibration), np.empty(0, np.int64)
    words = f"calibration {calibration.id} is stale"
    if calibration.other_encoders:
        return _Staleness(since, True, f"{words}: the space was re-embedded since; {remedy}", none)
    words += f" since revision {since}: "
    if calibration.back_off and tree_revision(context.reading) > calibration.revision:
        return _Staleness(since, True, f"{words}the taxonomy changed; {remedy}", none)
    words += "labels or support images changed"
    unseen = _unseen(context, calibration)
    abstain = calibration.on_stale == "abstain"
    if calibration.claims and calibration.on_stale == "auto" and len(unseen.ids):
        abstain = True
        words += f", and labels were added that calibration {calibration.id} never saw"
    elif calibration.on_stale == "auto" and unseen.taken is not None:
        abstain = True
        words += f", and some calibration images now get the label {unseen.taken!r}"
    return _Staleness(since, abstain, f"{words}; {remedy}", unseen.ids)


class _Unseen(NamedTuple):
    """The labels that a calibration never saw: ids of those added, brought back or changed since,
    and given to none of its images; and one of them that an image of it would now be given."""

    ids: Int64s
    taken: str | None


def _unseen(context: Context, calibration: Calibration) -> _Unseen:
    """The labels that the calibration never saw, looked up once a revision."""
    view, memo = context.view, context.reading.memo

    def look() -> _Unseen:
        touched = labels.touched(context.connection, view.space.id, calibration.revision)
        ids = np.setdiff1d(
            np.array([label_id for label_id, _ in touched], dtype=np.int64),
            np.array(calibration.predicted, dtype=np.int64),
        )
        ids = _live(view, ids)
        judged = len(ids) and calibration.on_stale == "auto" and not calibration.claims
        taken = _taken(context, calibration, ids) if judged else None
        return _Unseen(ids, taken)

    key = (calibration.id, view.revision)
    return memo.once(f"unseen, claims {calibration.claims}", key, look)


def _taken(context: Context, calibration: Calibration, unseen: Int64s) -> str | None:
    """One of the unseen labels that an image of the calibration would be given: they are judged
    among the labels they were given and those that are new, as nothing else can win."""
    view = context.view
    pool = observations.pool(context.connection, view.space.id, view.space.dims)
    if not len(pool):
        return None
    seen = _live(view, np.array(calibration.predicted, dtype=np.int64))
    narrowed = replace(context, subset=subset_of_ids(view, np.union1d(unseen, seen)))
    classifier = unit_rows(pool.classifier.astype(np.float64))
    verifier = classifier if pool.verifier is None else unit_rows(pool.verifier.astype(np.float64))
    rules = [(RULES[calibration.rule], calibration.params)]
    [columns] = judge(narrowed, UnitQueries(classifier, verifier), rules, 1)
    taken = np.flatnonzero(np.isin(cast(Int64s, columns["label_id"]), unseen))
    return str(columns["label"][taken[0]]) if len(taken) else None


def _live(view: SpaceView, ids: Int64s) -> Int64s:
    return ids[view.text.slots(ids) >= 0]
