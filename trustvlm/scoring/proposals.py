"""Which images without labels are worth being support images (docs/support-images.md)."""

from __future__ import annotations

import math

import numpy as np

from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

MOST_AT_ONCE = 8
"""Images that a label gets at once, at most."""

LEAST_AT_ONCE = 4
"""A label that would get fewer gets none: a single wrong image misleads more than none at all."""

LEAST_PROBABILITY = 0.5
NEIGHBOURS, LEAST_SAME = 10, 6
_ENTRIES = 2**24  # of a product of images with images


def same_neighbours(images: Float32s, predicted: Int64s, which: Int64s) -> tuple[Int64s, int]:
    """(how many of the nearest images have the same prediction, of how many).

    Args:
        images: (n, d) unit embeddings. predicted: (n,) labels, −1: none. which: (m,) rows to count
            for.
    """
    most = min(NEIGHBOURS, len(images) - 1)
    same = np.zeros(len(which), np.int64)
    if most < 1:
        return same, 0
    step = max(1, _ENTRIES // len(images))
    for start in range(0, len(which), step):
        rows = which[start : start + step]
        similarity = images[rows] @ images.T
        similarity[np.arange(len(rows)), rows] = -np.inf
        nearest = np.argpartition(-similarity, most - 1, axis=1)[:, :most]
        same[start : start + step] = (predicted[nearest] == predicted[rows, None]).sum(axis=1)
    return same, most


def chosen_images(
    probability: Float64s, predicted: Int64s, same: Int64s, most: int, free: Bools
) -> Int64s:
    """Rows of the images that are proposed, by label and falling probability.

    Those of probability 0.5 or more of which 6 of the 10 nearest images (or as many of fewer) have
    the same prediction: the up to 8 most probable of each label, if they are 4 or more.

    Args:
        probability, predicted: (n,) of each image. same: (n,) from :func:`same_neighbours`, of
            `most`. free: (n,) which images may be proposed.
    """
    least = max(1, math.ceil(LEAST_SAME / NEIGHBOURS * most))
    good = np.flatnonzero(free & (probability >= LEAST_PROBABILITY) & (same >= least))
    order = good[np.lexsort((good, -probability[good], predicted[good]))]
    _, first, counts = np.unique(predicted[order], return_index=True, return_counts=True)
    parts = [
        order[start : start + min(count, MOST_AT_ONCE)]
        for start, count in zip(first.tolist(), counts.tolist(), strict=True)
        if count >= LEAST_AT_ONCE
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)
