"""Pure statistics of selective prediction: how well a trust value separates right predictions from
wrong ones.

:mod:`~trustvlm.selective.metrics` measures that, :mod:`~trustvlm.selective.reliability` whether
probabilities mean what they say,
:mod:`~trustvlm.selective.risk` proves a threshold, :mod:`~trustvlm.selective.calibration` chooses
what is proved, and :mod:`~trustvlm.selective.monitoring` watches it. Everything takes (trust,
correct), never (probabilities, targets), and returns fractions in [0, 1].
"""

from __future__ import annotations

from trustvlm.selective.metrics import (
    RiskCoverage,
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
from trustvlm.selective.reliability import ece

__all__ = [
    "RiskCoverage",
    "augrc",
    "aupr_error",
    "aurc",
    "auroc",
    "coverage_at_risk",
    "e_aurc",
    "ece",
    "fpr_at_tpr",
    "risk_at_coverage",
    "risk_coverage_curve",
]
