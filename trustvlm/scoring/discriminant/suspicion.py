"""How likely support images are wrong: each is judged with its own label made without it.

The suspicion of an image is −log q of its own label, where q_j ∝ p_j·e^(e_j): the text softmax over
the labels that have support images, and the left-out evidence e_j of the discriminant
(docs/support-images.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

FLAG = math.log(20)
"""Nats of suspicion from which an image is flagged: its label has a probability below 1 in 20."""

_ROUNDS = 200  # of expectation and maximisation; some ten are enough
_SETTLED = 1e-9


@dataclass(frozen=True, eq=False)
class Suspicions:
    """What is said of m images.

    Attributes:
        nats: (m,) −log q of the image's own label; NaN where it is not defined.
        likest: (m,) column of the most likely other label, and likest_probability: (m,) its q.
    """

    nats: Float64s
    likest: Int64s
    likest_probability: Float64s


def suspicions(log_text: Float64s, evidence: Float64s, column: Int64s) -> Suspicions:
    """Judge m images among k ≥ 2 labels.

    Args:
        log_text: (m, k) text logits; a row of zeros where they are not known. evidence: (m, k) e_j
            without the image. column: (m,) the column of each image's label.
    """
    joint = log_text + evidence
    top = joint.max(axis=1, keepdims=True)
    log_q = joint - top - np.log(np.exp(joint - top).sum(axis=1, keepdims=True))
    row = np.arange(len(column))
    nats = -log_q[row, column]
    log_q[row, column] = -np.inf
    likest = log_q.argmax(axis=1)
    return Suspicions(nats, likest, np.exp(log_q[row, likest]))


def noise_share(nats: Float64s, labels: int) -> float:
    """The share of m images that have a wrong label, where a wrong label is any of the others with
    the same chance: the most likely share, found by expectation and maximisation (Dempster et al.
    1977).

    Args:
        nats: (m,) suspicions. labels: number of labels.
    """
    share = 0.05
    for _ in range(_ROUNDS if len(nats) else 0):
        before, share = share, float(wrong_probability(nats, labels, share).mean())
        if abs(share - before) < _SETTLED:
            break
    return share if len(nats) else 0.0


def wrong_probability(nats: Float64s, labels: int, share: float) -> Float64s:
    """(m,) probability that each image has a wrong label, where `share` of all have.

    With π the share and q of the image's own label, the odds are π·(1 − q)/(k − 1) to (1 − π)·q.
    """
    if not 0.0 < share < 1.0:
        return np.full(len(nats), share)
    other = np.log(-np.expm1(-np.maximum(nats, 1e-300))) - math.log(labels - 1)
    odds = math.log(share) - math.log1p(-share) + other + nats
    probability: Float64s = np.exp(-np.logaddexp(0.0, -odds))
    return probability
