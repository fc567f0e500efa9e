"""Classifiers that are no vision-language model: their probabilities as classifier embeddings, so
that everything that looks at a text softmax looks at theirs (docs/claims.md).

A space has room for N labels, its outputs. A label's text vector is the axis of its output, of
N + 1 values. A query's vector holds the N logits, and one more value that makes all vectors equally
long, so that the logits of the space are exactly these: s·x·t_j = log p_j + a number that is the
same for all labels. The softmax over the labels that take part is thus the classifier's own,
renormalised over them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from trustvlm.types.arrays import Float32s, Float64s

_HALF_RANGE = 20.0
"""Half of the range of logits that are kept apart: a probability below e^-40 of the largest one
counts as e^-40 of it."""


def external_scale(dim: int) -> float:
    """The logit scale s of a space whose classifier embeddings have `dim` = N + 1 values."""
    return float(_HALF_RANGE * np.sqrt(dim - 1))


def output_vectors(outputs: Sequence[int], dim: int) -> Float32s:
    """(k, dim) the text vectors of labels that have these outputs."""
    vectors = np.zeros((len(outputs), dim), np.float32)
    vectors[np.arange(len(outputs)), list(outputs)] = 1.0
    return vectors


def output_of(vector: Float32s) -> int | None:
    """The output whose text vector this is; None: it is the vector of none."""
    at = int(np.argmax(vector[:-1])) if len(vector) > 1 else 0
    return at if vector[at] == 1 and np.count_nonzero(vector) == 1 else None


def probability_vectors(probabilities: Float64s) -> Float64s:
    """(n, N + 1) the classifier embeddings, of length 1, of queries with these (n, N) probabilities
    of the outputs; 0 for an output that no label has."""
    with np.errstate(divide="ignore"):
        logits = np.log(probabilities)
    top = logits.max(axis=1, keepdims=True, initial=-np.inf)
    kept = np.maximum(logits - top, -2 * _HALF_RANGE) + _HALF_RANGE
    scaled = kept / external_scale(probabilities.shape[1] + 1)
    missing = np.sqrt(np.maximum(1 - (scaled**2).sum(axis=1, keepdims=True), 0.0))
    return np.concatenate([scaled, missing], axis=1)
