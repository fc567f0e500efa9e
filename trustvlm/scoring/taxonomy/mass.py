"""The probability of a node: that the right label stands under it (docs/taxonomy.md, "What is
summed")."""

from __future__ import annotations

import numpy as np

from trustvlm.types.arrays import Bools, Float64s, Int64s


def node_mass(
    q: Float64s, p: Float64s, valid: Bools, below: Bools, text_mass: Float64s
) -> Float64s:
    """(n, h) the probability of h nested nodes, the narrowest first.

    Of the candidates a rule's own probability q is added up. What it leaves to all other labels is
    divided among them as the text softmax p divides it: Σ_C q + (1 − Σ_C q)·(P − Σ_C p)/(1 − Σ_C p)
    with P = Σ p over every label under the node. Of `posterior` this is exact, since it gives all
    labels outside of its candidates the same evidence.

    Args:
        q, p: (n, m) of the candidates. valid: (n, m) which columns are candidates.
        below: (n, m, h) which candidates stand under which node. text_mass: (n, h) P.
    """
    inside = below & valid[:, :, np.newaxis]
    by_rule, text = (
        np.einsum("nm,nmh->nh", np.where(valid, values, 0.0), inside) for values in (q, p)
    )
    rest_q, rest_p = (
        np.maximum(1.0 - np.where(valid, values, 0.0).sum(axis=1, keepdims=True), 0.0)
        for values in (q, p)
    )
    outside = np.clip(text_mass - text, 0.0, rest_p)
    share = np.divide(outside, rest_p, out=np.zeros_like(outside), where=rest_p > 0)
    return np.maximum.accumulate(np.minimum(by_rule + rest_q * share, 1.0), axis=1)


def finest(mass: Float64s, threshold: float) -> Int64s:
    """(n,) column of the first node whose probability is at or above the threshold; −1 where there
    is none. NaN is no answer."""
    enough = mass >= threshold
    return np.where(enough.any(axis=1), enough.argmax(axis=1), -1)


def worst_wrong(mass: Float64s, right: Bools) -> Float64s:
    """(n,) up to which threshold the answer is wrong: the largest probability of a node that the
    right label does not stand under; −∞ where there is none.

    Args:
        mass: (n, h) of nested nodes, NaN where one is no answer. right: (n, h).
    """
    wrong: Float64s = np.where(right | np.isnan(mass), -np.inf, mass).max(axis=1)
    return wrong
