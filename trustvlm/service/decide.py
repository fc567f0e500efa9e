"""Accept or abstain: the calibration in force, applied to verdicts, with the reason in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np

from trustvlm.promise import Calibration
from trustvlm.service.context import Context
from trustvlm.service.judging import Columns
from trustvlm.service.stale import Staleness, staleness
from trustvlm.types import Bools, Float64s, Objects

__all__ = ["UNKNOWN_RATE", "Decision", "decide", "undecided"]

UNKNOWN_RATE = 0.01
"""False alarms of the unknown test that are accepted where no calibration says otherwise."""

_NO_SUPPORT = "the predicted label has no support image"
_STRANGE = "the image is close to no prototype"
_OFF = "image evidence is off: the support images do not tell the labels apart"


@dataclass(frozen=True, eq=False)
class Decision:
    """Columns that depend on a calibration: see :class:`trustvlm.Verdicts`."""

    accepted: Objects
    probability: Objects
    reason: Objects
    unknown: Bools
    calibration_id: int | None
    stale_since: int | None


def undecided(context: Context, columns: Columns, image_evidence: str | None, why: str = "not calibrated") -> Decision:
    """No calibration applies: nothing is accepted or refused, but what is odd is said."""
    unknown = is_unknown(context, columns, UNKNOWN_RATE)
    count = len(unknown)
    nothing = np.full(count, None, dtype=object)
    reason = np.full(count, why, dtype=object)
    for odd, words in (
        (cast(Bools, columns["unverified"]), f"unverified: {_NO_SUPPORT}"),
        (unknown, f"unknown: {_STRANGE}"),
        (np.full(count, image_evidence == "off"), _OFF),
    ):
        reason[odd] = reason[odd] + f"; {words}"
    return Decision(nothing, nothing.copy(), reason, unknown, None, None)


def decide(context: Context, columns: Columns, calibration: Calibration) -> Decision:
    """Accept what the calibration lets pass.

    Accepted is what has trust at or above the threshold, is not unknown, not unverified where the policy refuses that, and
    does not fall under a stale calibration that abstains. The reason names the first that stands against it; a trust below
    the threshold comes from a rival that may as well be right.
    """
    trust = cast(Float64s, columns["trust"])
    unverified, unknown = cast(Bools, columns["unverified"]), is_unknown(context, columns, calibration.unknown_rate)
    stale = staleness(context, calibration)
    enough = np.zeros(len(trust), np.bool_) if calibration.threshold is None else trust >= calibration.threshold
    accepted = enough & acceptable(unknown, unverified, calibration.on_unverified)
    if stale is not None and stale.abstain:
        accepted = np.zeros(len(trust), np.bool_)
    reason = np.empty(len(trust), dtype=object)
    for i in range(len(trust)):
        reason[i] = "accepted" if accepted[i] else _why_not(i, columns, bool(enough[i]), bool(unknown[i]), calibration, stale)
        if stale is not None and not stale.abstain:
            reason[i] += f"; {stale.words}"
    probability = np.empty(len(trust), dtype=object)
    if not calibration.other_encoders:
        probability[:] = calibration.probability(trust).tolist()
    as_objects = np.empty(len(trust), dtype=object)
    as_objects[:] = accepted.tolist()
    return Decision(as_objects, probability, reason, unknown, calibration.id, None if stale is None else stale.since)


def _why_not(i: int, columns: Columns, enough: bool, unknown: bool, calibration: Calibration, stale: Staleness | None) -> str:
    if stale is not None and stale.abstain:
        return f"abstain: stale ({stale.words})"
    if calibration.threshold is None:
        return "abstain: no threshold keeps the promise (see 'trustvlm calibration list')"
    if unknown:
        return f"abstain: unknown ({_STRANGE})"
    if columns["unverified"][i]:
        return f"abstain: unverified ({_NO_SUPPORT})"
    rival = columns["rival"][i]
    return "abstain: rival (trust is below the threshold)" if rival is None else f"abstain: rival ({rival!r} may be as right)"


def acceptable(unknown: Bools, unverified: Bools, on_unverified: str) -> Bools:
    """(n,) what may be accepted at all, whatever the trust."""
    return ~unknown & ~(unverified & (on_unverified == "abstain"))


def is_unknown(context: Context, columns: Columns, rate: float) -> Bools:
    """(n,) whether the nearest prototype is further away than a support image's would be in all but `rate` of the cases."""
    nearest = cast(Float64s, columns["nearest_similarity"])
    return ~np.isnan(nearest) & (nearest < context.fit.evidence.unknown_below(rate))


def applies(calibration: Calibration | None, rule: str, parameters: Mapping[str, float | None], whole: bool) -> str | None:
    """Why the calibration does not decide about verdicts of this rule; None where it does.

    Args:
        whole: all labels took part, as they did in the calibration.
    """
    if calibration is None:
        return "not calibrated"
    same = dict(calibration.params) == dict(parameters) or calibration.other_encoders  # nothing is accepted then
    if calibration.rule != rule or not same:
        return f"not calibrated for this rule (calibration {calibration.id} is for {calibration.rule})"
    return None if whole else "not calibrated for a part of the labels"
