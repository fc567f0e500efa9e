"""Which predictions are a close call: the rival is nearly as good as the label, by what the rule
itself compares."""

from __future__ import annotations

import numpy as np

from trustvlm.scoring.rules import Judgement, Rule
from trustvlm.types.arrays import Bools, Float64s, Int64s

__all__ = ["close_calls"]

_NEAR = 0.5  # a near rival has this share of the label's probability, or of a sum of probabilities
_NEAR_COSINES = 0.9  # the same of a sum with cosines, where every label has much
_LEAST = 0.2  # no rival is near with less than this share, however the rule compares


def close_calls(
    rule: Rule, judgement: Judgement, p: Float64s, label: Int64s, rival: Int64s
) -> Bools:
    """(n,) whether the rival is near the label in the rule's own quantity.

    A rule of logits compares them as softmax probabilities. Where cosines are added, so that every
    label has a large sum, the rival must also not be far behind in trust and, unless the rule
    relabels, in text probability.

    Args:
        judgement: (n, m) quantity and trust of the candidates. p: (n, m) their softmax probability.
        label, rival: (n,) columns of the two.
    """
    at = np.arange(len(p))

    def shares(values: Float64s, least: float) -> Bools:
        mine, other = values[at, label], values[at, rival]
        near = other >= np.minimum(
            mine, least * mine
        )  # below 0 a share says nothing: as large, or larger
        found: Bools = near & ((other > 0) | (mine < 0))
        return found

    if not rule.cosines:
        return shares(p if rule.logits else judgement.quantity, _NEAR)
    if rule.relabels:  # by a sum of two probabilities; the cosines come in with the trust
        return shares(judgement.quantity, _NEAR) & shares(judgement.trust, _LEAST)
    return (
        shares(judgement.quantity, _NEAR_COSINES)
        & shares(judgement.trust, _LEAST)
        & shares(p, _LEAST)
    )
