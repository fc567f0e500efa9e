"""What the text side says of the support images, and how much too often it chooses each label.

The classifier has not seen the support images with their labels, so that its softmax over them says
what it says of new images. One image a label is enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

_BLOCK = 1_024  # images whose logits are in memory at a time


@dataclass(frozen=True, eq=False)
class TextSide:
    """Text logits of those support images whose classifier embedding is known.

    Attributes:
        images: (t,) their places among all m support images, ascending. logits: (t, k) of the
            labels with prototypes. column: (t,) their own labels.
        bias: (k,) from :func:`text_bias`.
        log_weight: (k,) log of how many labels each of them stands for, 0 where all are there.
        log_bare: (t,) log of the sum of e^logit of all labels without support images; None where
            there are none.
    """

    images: Int64s
    logits: Float64s
    column: Int64s
    bias: Float64s
    log_weight: Float64s
    log_bare: Float64s | None

    def rows_of(self, places: Int64s) -> tuple[Int64s, Int64s]:
        """(which of these images, ascending, have a row here; their rows)."""
        _, among, rows = np.intersect1d(places, self.images, return_indices=True)
        return among, rows

    def log_p(self, rows: Int64s) -> tuple[Float64s, Float64s]:
        """((r, k) log probability of the labels with prototypes, (r,) of all others)."""
        assert self.log_bare is not None
        logits = self.logits[rows] + self.log_weight
        top = logits.max(axis=1)
        log_sum = top + np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1))
        log_z = np.logaddexp(log_sum, self.log_bare[rows])
        return logits - log_z[:, np.newaxis], self.log_bare[rows] - log_z


def text_bias(images: Float64s, texts: Float64s, column: Int64s) -> Float64s:
    """(k,) b_j, nats to add to the log probability of each label.

    b_j = −log((π_j·k·n + 1)/(n + 1)), where π_j is the mean over labels of the mean probability of
    label j over the label's own images, and n = m/k images a label: the share of label j among
    balanced images, relative to an even one, shrunk by one image. The softmax runs over the labels
    that have an image here; the others get 0.

    Args:
        images: (m, d) support images, and texts: (k, d), whose products are text logits.
        column: (m,) the images' own labels.
    """
    bias = np.zeros(len(texts))
    owners, owner = np.unique(column, return_inverse=True)
    if not len(owners):
        return bias
    share, weight = np.zeros(len(owners)), 1.0 / (len(owners) * np.bincount(owner)[owner])
    for start in range(0, len(images), _BLOCK):
        part = slice(start, start + _BLOCK)
        logits = images[part] @ texts[owners].T
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        share += (weight[part] / p.sum(axis=1)) @ p
    each = len(column) / len(owners)
    bias[owners] = -np.log((share * len(owners) * each + 1) / (each + 1))
    return bias
