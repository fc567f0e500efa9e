"""Accept, review or unknown for claimed labels: by the calibration of claims, and by no other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.scoring.rules import RULES, Rule
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.query.claims.judge_claims import about_claims
from trustvlm.service.query.claims.resolve import Claims
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.service.query.decide import Decision, Reason, applies, decide, undecided
from trustvlm.types.arrays import Bools, Float64s, Floats, Int64s, Objects
from trustvlm.types.calibration import Calibration

UNCALIBRATED = "not calibrated for claims"
"""Why a claim is for review where no calibration of claims is in force: one of predicted labels
promises nothing about labels that come from elsewhere."""


def calibration_of_claims(reading: Reading) -> Calibration | None:
    """The calibration that is in force for claims."""
    find = partial(in_force, reading.connection, reading.view.space, claims=True)
    return reading.once("calibration of claims", find)


def able_to_judge(calibration: Calibration | None) -> Calibration | None:
    """A calibration of predicted labels, None unless its rule has a trust for any label."""
    return calibration if calibration and RULES[calibration.rule].of_label else None


@dataclass(frozen=True, eq=False)
class JudgedClaims:
    """Claims, and what a rule says of them.

    Attributes:
        columns: of the queries, with those about the claims. verifier: (n, d) unit queries.
        name, rule, parameters: what judged them.
    """

    context: Context
    columns: Columns
    claims: Claims
    verifier: Floats | None
    name: str
    rule: Rule
    parameters: Mapping[str, float | None]


@dataclass(frozen=True, eq=False)
class ClaimedVerdicts:
    """What the verdicts of n queries say of their claims.

    Attributes:
        decision: the decision on each claim, and on the predicted label where there is no claim.
        values: the fields of :class:`trustvlm.Verdicts` about claims.
        ids: (n,) of the claimed labels, −1 without one.
    """

    decision: Decision
    values: dict[str, Any]
    ids: Int64s


def claimed_verdicts(
    judged: JudgedClaims,
    calibration: Calibration | None,
    of_label: Decision,
    off: Sequence[str],
    remarks: Sequence[str],
) -> ClaimedVerdicts:
    """What is said of claims.

    Args:
        calibration: the one of claims that is in force.
        of_label: the decision on the labels that the space predicts.
        off, remarks: what is said of the evidence of all verdicts; `off` only where no calibration
            decides.
    """
    context, columns, claims = judged.context, judged.columns, judged.claims
    about, given = about_claims(columns), claims.given
    ids, trust = cast(Int64s, about["label_id"]), cast(Float64s, about["trust"])
    copy_of = equal_others(context.reading, ids, judged.verifier)
    why_not = applies(
        calibration, judged.name, judged.parameters,
        all_labels=context.subset.text is None, uncalibrated=UNCALIBRATED,
    )  # fmt: skip
    first = [_no_labels(claims)]
    if calibration is not None and why_not is None:
        decided = decide(context, about, copy_of, calibration, remarks, first)
    else:
        why = why_not or UNCALIBRATED
        ahead, words = cast(Bools, about["ahead"]), partial(_contradicted, about, why)
        contradicted = Reason(ahead, "not_calibrated", words)
        decided = undecided(
            context, about, copy_of, judged.rule, (*off, *remarks), why, first, then=[contradicted]
        )
    later = of_label.later | {
        name: _merged(given, decided.later[name], of_label.later[name])
        for name in ("decision", "accepted", "reason_code", "reason")
    }
    return ClaimedVerdicts(
        Decision(of_label.values, later),
        {
            "claimed": claims.names,
            "claimed_id": ids,
            "claimed_trust": trust,
            "claimed_probability": _of_labels(decided.later["probability"](), ids),
            "better_label": _better(columns, about, given, ids),
            "claims_calibration_id": decided.values["calibration_id"],
        },
        ids,
    )


def _no_labels(claims: Claims) -> Reason:
    """The claimed name is no label that a verdict can be about."""

    def words(rows: list[int]) -> list[str]:
        return [f"review: {claims.problems[claims.names[row]]}" for row in rows]

    return Reason(claims.given & (claims.slots < 0), "not_a_label", words)


def _contradicted(about: Columns, why: str, rows: list[int]) -> list[str]:
    pairs = zip(about["rival"][rows].tolist(), about["label"][rows].tolist(), strict=True)
    return [f"review: {why}; {rival!r} fits better than {label!r}" for rival, label in pairs]


def _merged(
    given: Bools, about: Callable[[], npt.NDArray[Any]], of_label: Callable[[], npt.NDArray[Any]]
) -> Callable[[], npt.NDArray[Any]]:
    """What is said of the claim where there is one, else of the predicted label."""
    return about if given.all() else lambda: np.where(given, about(), of_label())


def _of_labels(probability: npt.NDArray[Any], ids: Int64s) -> Objects:
    """None where nothing is claimed, or no label."""
    probability[ids < 0] = None
    return probability


def _better(columns: Columns, about: Columns, given: Bools, ids: Int64s) -> Objects:
    """The label that fits better than the claimed one; where that is no label, the best of all."""
    ahead = cast(Bools, about["ahead"])
    better: Objects = about["rival"].copy()
    better[~ahead] = None
    nothing = given & (ids < 0)
    leads = np.where(columns["ahead"], columns["rival"], columns["label"])
    better[nothing] = leads[nothing]
    return better
