"""Pure statistics of selective prediction: how well a trust value separates right predictions from wrong ones.

Everything here takes (trust, correct), never (probabilities, targets), and returns fractions in [0, 1].
"""

from __future__ import annotations

from trustvlm.selective.metrics import (
    RiskCoverage,
    augrc,
    aurc,
    auroc,
    e_aurc,
    fpr_at_tpr,
    risk_coverage_curve,
)

__all__ = ["RiskCoverage", "augrc", "aurc", "auroc", "e_aurc", "fpr_at_tpr", "risk_coverage_curve"]
