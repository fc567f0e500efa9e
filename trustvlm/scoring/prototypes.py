"""Text prototypes, prototypes, and similarities within the support set (docs/rules.md).

A prototype depends on the *set* of support images only: callers pass the embeddings in content-hash
order, the sum is float64, and the result is cast to float32 once, so that every order of
registration gives the same bits.
"""

from __future__ import annotations

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.vectors import unit, unit_rows
from trustvlm.types.arrays import Float32s, Float64s, Int64s

_CANCELLED = 1e-6  # a mean this much shorter than its longest vector is rounding noise


def text_prototype(vectors: Float64s) -> Float32s:
    """The text prototype t_j of raw text embeddings (templates, d): normalise each, average,
    normalise.

    Raises:
        InvalidInput: the templates' embeddings cancel out.
    """
    return _normalised_mean(unit_rows(vectors), "the templates' text embeddings")


def single_text_prototypes(vectors: Float64s) -> Float32s:
    """(n, d) text prototypes of n labels with one raw text embedding each; bit for bit what
    :func:`text_prototype` gives."""
    prototypes: Float32s = unit_rows(unit_rows(vectors)).astype(np.float32)
    return prototypes


def mean_prototype(embeddings: Float64s) -> Float32s:
    """The prototype P_j of raw verifier embeddings (k, d): mean first, normalise after (the paper's
    order).

    Raises:
        InvalidInput: the embeddings cancel out.
    """
    return _normalised_mean(embeddings, "the support images' embeddings")


def _normalised_mean(rows: Float64s, what: str) -> Float32s:
    mean = np.add.reduce(rows, axis=0) / len(rows)
    if np.abs(mean).max() <= _CANCELLED * np.abs(rows).max():
        raise InvalidInput(f"{what} cancel out: their mean has no direction")
    return unit(mean)


def leave_one_out(embeddings: Float64s, owner: Int64s, sampled: Int64s) -> Float64s:
    """(m,) similarity of sampled support images to their own label's prototype recomputed without
    them.

    Args:
        embeddings: (n, d) raw verifier embeddings of *all* support images of the labels concerned.
        owner: (n,) label of each. sampled: (m,) which rows.

    NaN as of :func:`left_out_prototypes`.
    """
    others = left_out_prototypes(embeddings, owner, sampled)
    similarity: Float64s = np.einsum("nd,nd->n", unit_rows(embeddings[sampled]), others)
    return similarity


def left_out_prototypes(embeddings: Float64s, owner: Int64s, sampled: Int64s) -> Float64s:
    """(m, d) prototype of each sampled image's label without the image; NaN where that is the
    label's only one, or the others cancel out. Arguments as of :func:`leave_one_out`."""
    prototypes, images = np.full((len(sampled), embeddings.shape[1]), np.nan), embeddings[sampled]
    if not len(sampled):
        return prototypes
    _, of, counts = np.unique(owner, return_inverse=True, return_counts=True)
    sums = np.add.reduceat(embeddings[np.argsort(of, kind="stable")], np.cumsum(counts) - counts)
    rest = sums[of[sampled]] - images
    far = np.linalg.norm(rest, axis=1) > _CANCELLED * np.linalg.norm(images, axis=1)
    defined = far & (counts[of[sampled]] >= 2)
    prototypes[defined] = unit_rows(rest[defined])
    return prototypes


def imputed_similarity(left_out: Float64s, other: Float64s) -> float:
    """c̃: the image similarity to assume for a label without support images (docs/rules.md).

    Half-way between the mean leave-one-out similarity of support images to their label and the
    mean of their best similarity to another. With one image per label the first is taken as (1 +
    best other) / 2; without a second prototype the second is 0 (unrelated), and without any support
    image the answer is 0.

    Args:
        left_out, other: (m,) of each image, NaN and −inf where they are not defined.
    """
    if not len(left_out):
        return 0.0
    left_out, other = left_out[np.isfinite(left_out)], other[np.isfinite(other)]
    best = float(other.mean()) if len(other) else 0.0
    return ((float(left_out.mean()) if len(left_out) else (1 + best) / 2) + best) / 2
