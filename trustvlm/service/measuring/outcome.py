"""How well one rule tells right from wrong: its metrics, with intervals where the images are enough
for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

import numpy as np

from trustvlm.scoring.rules import RULES
from trustvlm.selective.intervals import (
    accuracy_interval,
    aurc_difference_interval,
    aurc_interval,
    auroc_interval,
    coverage_at_risk_interval,
    fpr_at_tpr_interval,
    risk_at_coverage_interval,
)
from trustvlm.selective.metrics import (
    augrc,
    aupr_error,
    aurc,
    auroc,
    coverage_at_risk,
    e_aurc,
    fpr_at_tpr,
    risk_at_coverage,
    risk_coverage_curve,
)
from trustvlm.selective.reliability import ece, reliability
from trustvlm.service.measuring.items import image_outcomes, threshold_outcomes
from trustvlm.service.query.judge import Columns
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.evaluation import Estimate, RuleOutcome

__all__ = ["FEWEST", "right_rows", "rule_outcome"]

FEWEST = 3
"""The smallest number of wrong and of right predictions from which their separation is
estimated."""

_POINTS = 400

Interval = tuple[float, float]


def right_rows(columns: Columns, truth: Int64s) -> Bools:
    """(n,) which predictions are right."""
    return np.equal(cast(Int64s, columns["label_id"]), truth)


def rule_outcome(
    name: str,
    parameters: Mapping[str, float | None],
    judged: Mapping[str, Columns],
    truth: Int64s,
    *,
    risk: float,
    coverage: float,
    items: bool,
    confidence: float,
) -> RuleOutcome:
    """The outcome of the rule `name` on images with the label ids `truth`; `judged`: the verdict
    columns of each rule."""
    trust, right = cast(Float64s, judged[name]["trust"]), right_rows(judged[name], truth)
    told_apart = _too_few(right)

    def estimate(
        metric: Callable[[Float64s, Bools], float],
        interval: Callable[[Float64s, Bools], Interval],
        why: str | None = None,
    ) -> Estimate:
        return _estimate(metric(trust, right), len(right), why, partial(interval, trust, right))

    curve = risk_coverage_curve(trust, right)
    points = np.unique(np.linspace(0, len(curve.coverage) - 1, _POINTS).astype(np.int64))
    probable = RULES[name].probability
    bins = reliability(trust, right) if probable else None
    return RuleOutcome(
        rule=name,
        kind=RULES[name].kind,
        params=dict(parameters),
        accuracy=estimate(lambda _, correct: float(correct.mean()), accuracy_interval),
        aurc=estimate(aurc, aurc_interval),
        versus_msp=_versus(name, judged, truth, trust, right),
        e_aurc=e_aurc(trust, right),
        augrc=augrc(trust, right),
        auroc=estimate(auroc, auroc_interval, told_apart),
        aupr_error=aupr_error(trust, right),
        fpr95=estimate(fpr_at_tpr, fpr_at_tpr_interval, told_apart),
        coverage_at_risk=estimate(
            partial(coverage_at_risk, risk=risk), partial(coverage_at_risk_interval, risk=risk)
        ),
        risk_at_coverage=estimate(
            partial(risk_at_coverage, coverage=coverage),
            partial(risk_at_coverage_interval, coverage=coverage),
        ),
        ece=ece(trust, right) if probable else None,
        curve=tuple(zip(curve.coverage[points].tolist(), curve.risk[points].tolist(), strict=True)),
        reliability=None
        if bins is None
        else tuple(
            zip(bins.probability.tolist(), bins.accuracy.tolist(), bins.count.tolist(), strict=True)
        ),
        items=image_outcomes(judged[name], right) if items else None,
        thresholds=threshold_outcomes(curve, len(trust), confidence) if items else None,
    )


def _versus(
    name: str, judged: Mapping[str, Columns], truth: Int64s, trust: Float64s, right: Bools
) -> Estimate:
    if "msp" not in judged:
        return Estimate(math.nan, math.nan, math.nan, "msp was not compared")
    if name == "msp":
        return Estimate(0.0, 0.0, 0.0)
    base = cast(Float64s, judged["msp"]["trust"]), right_rows(judged["msp"], truth)
    why = _too_few(right & base[1])
    interval = partial(aurc_difference_interval, trust, right, *base)
    return _estimate(aurc(trust, right) - aurc(*base), len(right), why, interval)


def _estimate(
    value: float, images: int, why: str | None, interval: Callable[[], Interval]
) -> Estimate:
    if why is None:
        low, high = interval()
        if high - low < 1:
            return Estimate(value, low, high)
        why = f"too few images ({images}) to say"
    return Estimate(value, math.nan, math.nan, why)


def _too_few(right: Bools) -> str | None:
    """Why right and wrong ones cannot be compared; None where they can."""
    rights = int(right.sum())
    wrongs = len(right) - rights
    if wrongs < FEWEST:
        return f"too few errors ({wrongs}) to say"
    return f"too few right labels ({rights}) to say" if rights < FEWEST else None
