"""Accept, review or unknown: the calibration in force, applied to verdicts, with the reason as a
code and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from trustvlm.scoring.rules import Rule
from trustvlm.service.query.context import Context
from trustvlm.service.query.judge import Columns
from trustvlm.service.query.stale import Staleness, staleness
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.calibration import Calibration

__all__ = ["UNKNOWN_RATE", "Decision", "acceptable", "applies", "decide", "is_unknown", "undecided"]

UNKNOWN_RATE = 0.01
"""False alarms of the unknown test that are accepted where no calibration says otherwise."""

_NO_SUPPORT = "the label has no support image"
_STRANGE = "the image is close to no prototype"
_OFF = "image evidence is off: the support images do not tell the labels apart"


@dataclass(frozen=True, eq=False)
class Decision:
    """Columns that depend on a calibration: see :class:`trustvlm.Verdicts`."""

    decision: Objects
    accepted: Objects
    probability: Objects
    reason_code: Objects
    reason: Objects
    unknown: Bools
    calibration_id: int | None
    stale_since: int | None


@dataclass(frozen=True, eq=False)
class _Reason:
    """A reason for the verdicts of `rows`: its code, and `words` for each of them or for all."""

    rows: Bools
    code: str
    words: str | Objects


def undecided(
    context: Context,
    columns: Columns,
    copy_of: Objects,
    rule: Rule,
    image_evidence: str | None,
    why: str = "not calibrated",
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
    code, reason = _first(
        [_copies(copy_of), _Reason(np.ones(count, np.bool_), "not_calibrated", f"review: {why}")],
        also,
    )
    nothing = np.full(count, None, dtype=object)
    probability = _objects(columns["trust"]) if rule.probability else nothing.copy()
    return Decision(
        np.full(count, "review", dtype=object),
        nothing,
        probability,
        code,
        reason,
        unknown,
        None,
        None,
    )


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
    trust, label_id = cast(Float64s, columns["trust"]), cast(Int64s, columns["label_id"])
    unverified, unknown = (
        cast(Bools, columns["unverified"]),
        is_unknown(context, columns, calibration.unknown_rate),
    )
    stale = staleness(context, calibration)
    everything = np.ones(len(trust), np.bool_)
    against = [
        _copies(copy_of),
        *_of_staleness(stale, columns, label_id, calibration),
        _Reason(unknown, "unknown", f"unknown: {_STRANGE}"),
        _Reason(
            unverified & (calibration.on_unverified == "abstain"),
            "unverified",
            f"review: unverified ({_NO_SUPPORT})",
        ),
    ]
    enough = trust >= calibration.threshold
    by_trust = [
        _Reason(enough, "accepted", "accept: the trust reaches the threshold"),
        _Reason(cast(Bools, columns["close"]), "close_call", _close_call(columns)),
        _Reason(everything, "low_evidence", "review: the trust is below the threshold"),
    ]
    also = np.full(
        len(trust), "" if stale is None or stale.abstain else f"; {stale.words}", dtype=object
    )
    code, reason = _first([*against, *by_trust], also)
    accepted = code == "accepted"
    decision = np.where(
        accepted, "accept", np.where(code == "unknown", "unknown", "review")
    ).astype(object)
    probability = (
        np.full(len(trust), None, dtype=object)
        if stale
        else _objects(calibration.probability(trust))
    )
    since = None if stale is None else stale.since
    return Decision(
        decision, _objects(accepted), probability, code, reason, unknown, calibration.id, since
    )


def _of_staleness(
    stale: Staleness | None, columns: Columns, label_id: Int64s, calibration: Calibration
) -> Iterator[_Reason]:
    """What a stale calibration does not accept: everything, or the labels that it never saw."""
    if stale is None:
        return
    if stale.abstain:
        yield _Reason(np.ones(len(label_id), np.bool_), "stale", f"review: {stale.words}")
        return
    words = np.empty(len(label_id), dtype=object)
    words[:] = [
        f"review: label {name!r} is not covered by calibration {calibration.id}"
        for name in columns["label"]
    ]
    yield _Reason(np.isin(label_id, stale.unseen), "stale", words)


def _copies(copy_of: Objects) -> _Reason:
    """The image equals a support image of another label (None: of none)."""
    words = np.empty(len(copy_of), dtype=object)
    words[:] = [f"review: the image equals a support image of {name!r}" for name in copy_of]
    return _Reason(
        np.array([name is not None for name in copy_of], dtype=np.bool_), "copy_of_other", words
    )


def _close_call(columns: Columns) -> Objects:
    """A rival that is near; or ahead, where the rule keeps the classifier's label all the same."""
    words = np.empty(len(columns["label"]), dtype=object)
    words[:] = [
        f"review: {rival!r} fits better than {label!r}"
        if ahead
        else f"review: a close call between {label!r} and {rival!r}"
        for label, rival, ahead in zip(
            columns["label"], columns["rival"], columns["ahead"], strict=True
        )
    ]
    return words


def _first(reasons: list[_Reason], also: Objects) -> tuple[Objects, Objects]:
    """(code, words) of the first reason that holds of each verdict, with what is `also` to be said
    of it."""
    code, words = np.full(len(also), None, dtype=object), np.full(len(also), "", dtype=object)
    for reason in reversed(reasons):
        code[reason.rows] = reason.code
        words[reason.rows] = (
            reason.words if isinstance(reason.words, str) else reason.words[reason.rows]
        )
    return code, words + also


def _objects(values: npt.NDArray[np.generic]) -> Objects:
    """An array of plain Python values."""
    found = np.empty(len(values), dtype=object)
    found[:] = values.tolist()
    return found


def acceptable(unknown: Bools, unverified: Bools, on_unverified: str) -> Bools:
    """(n,) what may be accepted at all, whatever the trust."""
    return ~unknown & ~(unverified & (on_unverified == "abstain"))


def is_unknown(context: Context, columns: Columns, rate: float) -> Bools:
    """(n,) whether the nearest prototype is further away than a support image's would be in all but
    `rate` of the cases."""
    nearest = cast(Float64s, columns["nearest_similarity"])
    return ~np.isnan(nearest) & (nearest < context.fit.evidence.unknown_below(rate))


def applies(
    calibration: Calibration | None, rule: str, parameters: Mapping[str, float | None], whole: bool
) -> str | None:
    """Why the calibration does not decide about verdicts of this rule; None where it does.

    Args:
        whole: all labels took part, as they did in the calibration.
    """
    if calibration is None:
        return "not calibrated"
    same = (
        dict(calibration.params) == dict(parameters) or calibration.other_encoders
    )  # nothing is accepted then
    if calibration.rule != rule or not same:
        return (
            f"not calibrated for this rule (calibration {calibration.id} is for {calibration.rule})"
        )
    return None if whole else "not calibrated for a part of the labels"
