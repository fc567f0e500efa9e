"""Accept, review or unknown for claimed labels: by the calibration of claims, and by no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.query.claims.judge_claims import Claims, about_claims
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context, Judging
from trustvlm.service.query.decide import Decision, Reason, applies, decide, undecided
from trustvlm.types.arrays import Bools, Float64s, Floats, Int64s, Objects

UNCALIBRATED = "not calibrated for claims"
"""Why a claim is for review where no calibration of claims is in force: one of predicted labels
promises nothing about labels that come from elsewhere."""


def claimed_verdicts(
    context: Context,
    judging: Judging,
    columns: Columns,
    claims: Claims,
    verifier: Floats | None,
    of_label: Decision,
    off: Sequence[str],
    remarks: Sequence[str],
) -> Decision:
    """The decision on each claim, and on the predicted label where there is no claim; with the
    fields of :class:`trustvlm.Verdicts` about claims.

    Args:
        columns: of the queries, with those about the claims. verifier: (n, d) unit queries.
        of_label: the decision on the labels that the space predicts.
        off, remarks: what is said of the evidence of all verdicts; `off` only where no calibration
            decides.
    """
    calibration, about, given = judging.of_claims, about_claims(columns), claims.given
    ids, trust = cast(Int64s, about["label_id"]), cast(Float64s, about["trust"])
    copy_of = equal_others(context.reading, ids, verifier)
    why_not = applies(
        calibration, judging.name, judging.parameters,
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
            context, about, copy_of, judging.rule, (*off, *remarks), why, first, then=[contradicted]
        )
    later = of_label.later | {
        name: _merged(given, decided.later[name], of_label.later[name])
        for name in ("decision", "accepted", "reason_code", "reason")
    }
    values = {
        "claimed": claims.names,
        "claimed_id": ids,
        "claimed_trust": trust,
        "claimed_probability": _of_labels(decided.later["probability"](), ids),
        "better_label": _better(columns, about, given, ids),
        "claims_calibration_id": decided.values["calibration_id"],
    }
    return Decision(of_label.values | values, later)


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
