"""How well one rule tells right from wrong: its metrics, with intervals where the images are enough
for them (docs/measuring.md)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import RULES
from trustvlm.selective import intervals, metrics
from trustvlm.selective.calibration import split
from trustvlm.selective.chosen_threshold import threshold_range
from trustvlm.selective.ranking import ece, reliability
from trustvlm.selective.ranks import find_by_ranks
from trustvlm.selective.risk import risk_upper_bounds
from trustvlm.service.measuring.usable import UsableImages, right_rows
from trustvlm.service.query.columns import Columns
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.bounds import NUMBERS
from trustvlm.types.evaluation import (
    Estimate,
    EvaluatedImage,
    ImageOutcome,
    RuleOutcome,
    ThresholdOutcome,
)
from trustvlm.types.options import EvaluateOptions

FEWEST = 3
"""The smallest number of wrong and of right predictions from which their separation is
estimated."""

MOST_ITEMS = 100_000
"""Pairs of a rule and an image: some 15 MB of JSON."""

_POINTS = 400

Interval = tuple[float, float]


def rule_outcome(
    name: str,
    parameters: Mapping[str, float | None],
    judged: Mapping[str, Columns],
    truth: Int64s,
    options: EvaluateOptions,
) -> RuleOutcome:
    """The outcome of the rule `name` on images with the label ids `truth`; `judged`: the verdict
    columns of each rule."""
    trust, right = cast(Float64s, judged[name]["trust"]), right_rows(judged[name], truth)
    inseparable = _too_few(right)

    def estimate(
        metric: Callable[[Float64s, Bools], float],
        interval: Callable[[Float64s, Bools], Interval],
        why: str | None = None,
    ) -> Estimate:
        return estimated(metric(trust, right), len(right), why, partial(interval, trust, right))

    curve = metrics.risk_coverage_curve(trust, right)
    points = np.unique(np.linspace(0, len(curve.coverage) - 1, _POINTS).astype(np.int64))
    risk, coverage = options.risk, options.coverage
    is_probability = RULES[name].probability
    return RuleOutcome(
        rule=name,
        kind=RULES[name].kind,
        params=dict(parameters),
        accuracy=estimate(lambda _, correct: float(correct.mean()), intervals.accuracy_interval),
        aurc=estimate(metrics.aurc, intervals.aurc_interval),
        versus_msp=_versus_msp(name, judged, truth),
        e_aurc=metrics.e_aurc(trust, right),
        augrc=metrics.augrc(trust, right),
        auroc=estimate(metrics.auroc, intervals.auroc_interval, inseparable),
        aupr_error=metrics.aupr_error(trust, right),
        fpr95=estimate(metrics.fpr_at_tpr, intervals.fpr_at_tpr_interval, inseparable),
        coverage_at_risk=estimate(
            partial(metrics.coverage_at_risk, risk=risk),
            partial(intervals.coverage_at_risk_interval, risk=risk),
        ),
        risk_at_coverage=estimate(
            partial(metrics.risk_at_coverage, coverage=coverage),
            partial(intervals.risk_at_coverage_interval, coverage=coverage),
        ),
        ece=ece(trust, right) if is_probability else None,
        curve=tuple(zip(curve.coverage[points].tolist(), curve.risk[points].tolist(), strict=True)),
        reliability=_bins(trust, right) if is_probability else None,
        items=_image_outcomes(judged[name], right) if options.items else None,
        thresholds=_thresholds(curve, len(trust), options.confidence) if options.items else None,
    )


def with_range(
    outcome: RuleOutcome,
    images: UsableImages,
    columns: Columns,
    unknown: Bools,
    options: EvaluateOptions,
    *,
    chose: bool,
) -> RuleOutcome:
    """The outcome with the thresholds that calibrating on these images proves.

    Args:
        unknown: (n,) which of them a calibration accepts at no threshold. chose: some of these
            images chose the rule: only the others prove a threshold of it.
    """
    least, most = NUMBERS["max_risk"]
    if len(images) < 2 or not least <= options.risk <= most:
        return outcome
    trust = np.where(unknown, -np.inf, cast(Float64s, columns["trust"]))
    right = right_rows(columns, images.truth)
    promise: Any = {"max_risk": float(options.risk), "confidence": float(options.confidence)}
    if chose:
        tuning, testing = split(images.observed.hashes)
        between = threshold_range(
            trust[tuning], right[tuning], trust[testing], right[testing], **promise
        )
    else:
        _, between = find_by_ranks(trust, right, images.observed.hashes, **promise)
    return replace(outcome, threshold_range=between)


def check_items(rules: int, images: int) -> None:
    """Make sure that an outcome for each pair of a rule and an image is not too large.

    Raises:
        InvalidInput: it is.
    """
    if rules * images > MOST_ITEMS:
        raise InvalidInput(
            f"items: expected at most {MOST_ITEMS:,} pairs of a rule and an image, got {rules} "
            f"x {images:,}; name fewer rules"
        )


def evaluated_images(
    images: UsableImages, sources: Sequence[str], truth: Sequence[str | None]
) -> tuple[EvaluatedImage, ...]:
    """The images that were evaluated, with their names and true labels."""
    stored: Sequence[tuple[int | None, bool]] = images.observed.stored
    rows = zip(
        images.places.tolist(), sources, truth, stored or [(None, False)] * len(images), strict=True
    )
    return tuple(EvaluatedImage(place, source, name, *which) for place, source, name, which in rows)


def _image_outcomes(columns: Columns, right: Bools) -> tuple[ImageOutcome, ...]:
    trust = cast(Float64s, columns["trust"]).astype(np.float64).tolist()
    return tuple(
        ImageOutcome(str(label), *one)
        for label, *one in zip(columns["label"], trust, right.tolist(), strict=True)
    )


def _thresholds(
    curve: metrics.RiskCoverage, images: int, confidence: float
) -> tuple[ThresholdOutcome, ...]:
    """What each distinct trust accepts as a threshold, strictest first."""
    accepted = np.rint(curve.coverage * images).astype(np.int64)
    errors = np.rint(curve.risk * accepted).astype(np.int64)
    columns = (curve.threshold, accepted, errors, risk_upper_bounds(accepted, errors, confidence))
    return tuple(
        ThresholdOutcome(*one) for one in zip(*(column.tolist() for column in columns), strict=True)
    )


def _bins(trust: Float64s, right: Bools) -> tuple[tuple[float, float, int], ...]:
    bins = reliability(trust, right)
    columns = (bins.probability, bins.accuracy, bins.count)
    return tuple(zip(*(column.tolist() for column in columns), strict=True))


def _versus_msp(name: str, judged: Mapping[str, Columns], truth: Int64s) -> Estimate:
    if "msp" not in judged:
        return Estimate(math.nan, math.nan, math.nan, "msp was not compared")
    if name == "msp":
        return Estimate(0.0, 0.0, 0.0)
    (trust, right), (base_trust, base_right) = (
        (cast(Float64s, judged[rule]["trust"]), right_rows(judged[rule], truth))
        for rule in (name, "msp")
    )
    difference = metrics.aurc(trust, right) - metrics.aurc(base_trust, base_right)
    interval = partial(intervals.aurc_difference_interval, trust, right, base_trust, base_right)
    return estimated(difference, len(right), _too_few(right & base_right), interval)


def estimated(
    value: float, images: int, why: str | None, interval: Callable[[], Interval]
) -> Estimate:
    """The estimate, without an interval where there is a reason `why` or it says nothing."""
    if why is None:
        low, high = interval()
        if high - low < 1:
            return Estimate(value, low, high)
        why = f"too few images ({images}) to say"
    return Estimate(value, math.nan, math.nan, why)


def _too_few(right: Bools) -> str | None:
    """Why right and wrong predictions cannot be compared; None where they can."""
    rights = int(right.sum())
    wrongs = len(right) - rights
    if wrongs < FEWEST:
        return f"too few errors ({wrongs}) to say"
    return f"too few right labels ({rights}) to say" if rights < FEWEST else None
