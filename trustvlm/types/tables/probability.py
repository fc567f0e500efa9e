"""Shares and probabilities in per cent, and where the probability of verdicts comes from, in
words."""

from __future__ import annotations

import math
from typing import Literal

from trustvlm.types.messages.commands import suggested

ProbabilitySource = Literal["calibration", "rule"]
"""What gave the probability of verdicts."""

_CERTAIN = math.nextafter(1.0, 0.0)
_LEAST = math.nextafter(0.0, 1.0)


def percent(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in per cent, never rounded up to 100 % or down to 0 %: ">99.9 %",
    "<0.1 %". "–" for None and NaN."""
    if share is None or math.isnan(share):
        return "–"
    text, step = f"{100 * share:.{digits}f}", 10.0**-digits
    if share < 1 and float(text) >= 100:
        return f">{100 - step:.{digits}f} %"
    if share > 0 and float(text) == 0:
        return f"<{step:.{digits}f} %"
    return f"{text} %"


def chance(probability: float | None) -> str:
    """A probability in per cent. It is an estimate, so that not even 1 is shown as 100 %."""
    if probability is None or math.isnan(probability):
        return "–"
    return percent(min(max(probability, _LEAST), _CERTAIN))


def promise(max_risk: float, confidence: float) -> str:
    """What a calibration promises: "at most 5 % of accepted answers are wrong (90 %
    confidence)"."""
    wrong = f"at most {100 * max_risk:g} % of accepted answers are wrong"
    return f"{wrong} ({100 * confidence:g} % confidence)"


def probability_line(
    source: ProbabilitySource | None,
    rule: str,
    calibration_id: int | None,
    stale_since: int | None,
    space: str = "SPACE",
) -> str:
    """One clause: what gave the probability of the verdicts of a call, or why there is none."""
    if source == "calibration":
        return f"probability: calibration {calibration_id}"
    if source == "rule":
        return f"probability: rule {rule}'s own, not calibrated"
    if stale_since is not None:
        return (
            f"no probability: calibration {calibration_id} is stale since revision {stale_since}; "
            f"run {suggested('recalibrate', space)}"
        )
    return (
        f"no probability: rule {rule} has none without a calibration; run "
        f"{suggested('calibrate', space, files='FOLDER')}"
    )
