"""How much of what a space is sent looks like nothing it has images of: a lower bound of that
share, which needs no true labels (docs/rules.md, "Traffic")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.selective.intervals import proportion_interval
from trustvlm.types.arrays import Float64s, Int64s

_QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5)
"""Shares of the support images below the similarities that are tried."""


@dataclass(frozen=True, eq=False)
class Nearest:
    """Images, each with the prototype nearest to it.

    Attributes:
        similarity: (n,) to that prototype. label: (n,) id of its label, −1 where that is not known.
    """

    similarity: Float64s
    label: Int64s


def covered_share(support: Nearest, traffic: Nearest) -> float:
    """The share of images sent whose nearest label is also the nearest one of a support image."""
    return float(np.isin(traffic.label, support.label).mean()) if len(traffic.label) else 0.0


def unlike_share(support: Nearest, traffic: Nearest, confidence: float = 0.95) -> float:
    """A lower bound, in [0, 1], of the share of images sent that are unlike the support images.

    Let u be that share and t a similarity. Of the images sent that are nearest to label j, a share
    w_j of all, u_j are unlike, and of the others a share F_j is at most t similar, as of the
    support images nearest to j. All of the unlike ones may be, so of j's images at most the share
    u_j + (w_j − u_j)·F_j ≤ u_j + w_j·F_j is at or below t, and the sum over j says G ≤ u + F, with
    G the share of the images sent that is at or below t and F = Σ w_j·F_j. So u ≥ G − F, in any
    mixture of labels and wherever the unlike images are. (G − F) / (1 − F) would hold if these were
    spread over the labels as the others are; it does not where they are nearest to labels that are
    alike within. Images nearest to a label that no support image is nearest to count as like it.

    G is bounded from below and F from above (Clopper & Pearson 1934, one-sided); the largest
    difference over five t counts, and the chance of error is split evenly over their ten bounds
    (Bonferroni). F is the share of support images where each of the n_j nearest to label j weighs
    w_j / n_j; together they count as 1 / Σ w_j²/n_j images (Kish 1965). Left out of its own
    prototype, which is then made of fewer images, a support image is less similar to it than a new
    image is: that raises F, which lowers the bound.

    Args:
        support: support images, each left out of its own prototype; at least one.
        traffic: images sent, independent of each other, compared with the same prototypes.
        confidence: the chance that the share is at least the bound.
    """
    labels, place = np.unique(support.label, return_inverse=True)
    images = np.bincount(place, minlength=len(labels))
    at = np.minimum(np.searchsorted(labels, traffic.label), len(labels) - 1)
    covered = labels[at] == traffic.label
    sent = np.bincount(at[covered], minlength=len(labels))
    total, compared = len(traffic.label), int(covered.sum())
    if not compared:
        return 0.0
    share = sent / compared
    count = 1 / float(np.sum(share**2 / images))
    order = np.argsort(support.similarity, kind="stable")
    similarity, weight = support.similarity[order], np.cumsum((share / images)[place][order])
    one_sided = 1 - (1 - confidence) / len(_QUANTILES)  # of a two-sided interval: half as much
    largest = 0.0
    for quantile in _QUANTILES:
        first = min(int(np.searchsorted(weight, quantile)), len(similarity) - 1)
        at_most = float(similarity[first])
        below = float(weight[np.searchsorted(similarity, at_most, side="right") - 1])
        high = proportion_interval(min(below, 1.0) * count, count, one_sided)[1]
        seen = int((traffic.similarity[covered] <= at_most).sum())
        low = proportion_interval(seen, total, one_sided)[0]
        largest = max(largest, low - high * compared / total)
    return largest
