"""An evaluation image by image and threshold by threshold, for those who want to see what a
threshold does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.selective.metrics import RiskCoverage
from trustvlm.selective.risk import risk_upper_bounds
from trustvlm.service.query.judge import Columns
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.evaluation import EvaluatedImage, ImageOutcome, ThresholdOutcome

__all__ = ["MOST_ITEMS", "check_items", "evaluated_images", "image_outcomes", "threshold_outcomes"]

MOST_ITEMS = 100_000
"""Pairs of a rule and an image: some 15 MB of JSON."""


def check_items(rules: int, images: int) -> None:
    """Make sure that the answer stays small enough to be looked at.

    Raises:
        InvalidInput: it would not.
    """
    if rules * images > MOST_ITEMS:
        raise InvalidInput(
            f"items: expected at most {MOST_ITEMS:,} pairs of a rule and an image, got {rules} "
            f"x {images:,}; name fewer rules"
        )


def evaluated_images(
    rows: Int64s, sources: Sequence[str], truth: Sequence[str | None]
) -> tuple[EvaluatedImage, ...]:
    """The images that were evaluated; `rows`: their places among all that came."""
    return tuple(EvaluatedImage(*one) for one in zip(rows.tolist(), sources, truth, strict=True))


def image_outcomes(columns: Columns, right: Bools) -> tuple[ImageOutcome, ...]:
    """What a rule says of each of them."""
    trust = cast(Float64s, columns["trust"]).astype(np.float64).tolist()
    return tuple(
        ImageOutcome(str(label), *one)
        for label, *one in zip(columns["label"], trust, right.tolist(), strict=True)
    )


def threshold_outcomes(
    curve: RiskCoverage, images: int, confidence: float
) -> tuple[ThresholdOutcome, ...]:
    """What each distinct trust of a risk-coverage curve accepts as a threshold, strictest first."""
    accepted = np.rint(curve.coverage * images).astype(np.int64)
    errors = np.rint(curve.risk * accepted).astype(np.int64)
    columns = (curve.threshold, accepted, errors, risk_upper_bounds(accepted, errors, confidence))
    return tuple(
        ThresholdOutcome(*one) for one in zip(*(column.tolist() for column in columns), strict=True)
    )
