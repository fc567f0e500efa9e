"""What support images say where no label has two, so that none can be left out.

Whether a verifier is any use still shows: labels that look alike to it should be those that the
text side confuses. Between random vectors and text there is no such correlation (Mantel 1967).
"""

from __future__ import annotations

import math

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

_LEAST_LABELS = 4  # of fewer a correlation says nothing
_GUARD = 2.0  # standard errors of the correlation of independent pairs


def agrees_with_text(similarity: Float64s, logits: Float64s, column: Int64s) -> bool:
    """Whether labels whose prototypes are similar are those of similar text, beyond chance; True
    for fewer than four labels.

    r is the mean over the images of the correlation, over the labels other than the image's own, of
    the similarity with the text logit. Of k labels there are k(k − 1)/2 pairs: evidence is on where
    r·√(k(k − 1)/2) ≥ 2.

    Args:
        similarity, logits: (m, k) of each support image with every prototype, and with every text
            prototype. column: (m,) the images' own labels.
    """
    images, labels = similarity.shape
    if labels < _LEAST_LABELS:
        return True
    others = np.ones(similarity.shape, np.bool_)
    others[np.arange(images), column] = False
    rows = [values[others].reshape(images, labels - 1) for values in (similarity, logits)]
    first, second = (values - values.mean(axis=1, keepdims=True) for values in rows)
    lengths = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    products = (first * second).sum(axis=1)
    correlation = np.divide(products, lengths, out=np.zeros(images), where=lengths > 0)
    return bool(correlation.mean() * math.sqrt(labels * (labels - 1) / 2) >= _GUARD)
