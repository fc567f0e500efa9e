"""Unit vectors that behave like CLIP's: as many labels as are asked for, and images of some of
them.

CLIP ViT-B/32 as it was measured on real vocabulary and images: text–text cosine 0.65 ± 0.04; an
image and its own label 0.23 / 0.30 / 0.36 at the 5th, 50th and 95th percentile; an image and
another label 0.10 / 0.15 / 0.21 at the 1st, 50th and 99th. :func:`quantiles` measures the same of
what is made here; `python -m benchmarks.labels` prints and stores it.

A label is a common direction plus a tree: groups of groups of labels share a part of theirs, and
few dimensions hold most of the energy. An image is a little of the common direction, some of its
label's own, and for the rest what no text ever says.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["DIM", "Labels", "quantiles"]

DIM = 512
COMMON = 0.65  # mean cosine of two texts
BRANCHES = (32, 1_024)  # groups, and groups within them: of a tree whose leaves are labels
SHARES = (0.1, 0.2, 0.7)  # energy of group, sub-group and the label itself
DECAY = 0.95  # energy of dimension k ∝ k^−DECAY
REST = 0.45  # how far an image's own energy keeps away from the dimensions of texts
IMAGE_COMMON, IMAGE_OWN, IMAGE_OWN_SPREAD = 0.186, 0.258, 0.066
_BLOCK = 8_192


@dataclass(frozen=True, eq=False)
class Labels:
    """`count` labels, the same for a seed whatever the block they are asked for in.

    Attributes:
        count: how many labels there are. seed: of everything that is drawn.
    """

    count: int
    seed: int = 0

    def text(self, start: int = 0, stop: int | None = None) -> np.ndarray:
        """(stop − start, 512) float32 unit vectors of these labels."""
        stop = self.count if stop is None else stop
        values = np.empty((stop - start, DIM), np.float32)
        for begin in range(start - start % _BLOCK, stop, _BLOCK):
            low, high = max(begin, start), min(begin + _BLOCK, stop)
            values[low - start : high - start] = self._block(begin)[low - begin : high - begin]
        return values

    def images(self, count: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """(count, 512) float32 unit vectors of images, and (count,) which label each is of."""
        rng = np.random.default_rng([self.seed, seed, 7])
        truth = rng.integers(0, self.count, count)
        of_label = np.empty((count, DIM))
        for begin in np.unique(truth - truth % _BLOCK).tolist():
            here = np.flatnonzero(truth - truth % _BLOCK == begin)
            of_label[here] = self._block(begin)[truth[here] - begin]
        of_label[:, 0] = 0.0  # what of the label is not common to all
        of_label /= np.linalg.norm(of_label, axis=1, keepdims=True)
        weight = rng.normal(IMAGE_OWN, IMAGE_OWN_SPREAD, (count, 1))
        rest = (
            rng.standard_normal((count, DIM)) / np.sqrt(_energy()) ** REST
        )  # little of what texts differ in
        rest[:, 0] = 0.0
        rest -= np.sum(rest * of_label, axis=1, keepdims=True) * of_label
        rest /= np.linalg.norm(rest, axis=1, keepdims=True)
        left = np.sqrt(np.maximum(1.0 - IMAGE_COMMON**2 - weight**2, 0.0))
        values = weight * of_label + left * rest
        values[:, 0] = IMAGE_COMMON
        return values.astype(np.float32), truth

    def _block(self, begin: int) -> np.ndarray:
        """The labels begin … begin + 8,191."""
        place = np.arange(begin, begin + _BLOCK)
        direction = np.sqrt(SHARES[-1]) * _directions(_BLOCK, [self.seed, begin])
        for branches, share in zip(BRANCHES, SHARES, strict=False):
            direction += np.sqrt(share) * _branches(branches, self.seed)[place % branches]
        direction *= np.sqrt(1.0 - COMMON) / np.linalg.norm(direction, axis=1, keepdims=True)
        direction[:, 0] = np.sqrt(COMMON)
        return direction


def _directions(count: int, seed: list[int]) -> np.ndarray:
    """(count, 512) float32 unit vectors, most of whose energy lies in a few dimensions, none in the
    first."""
    values = np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)
    values *= np.sqrt(_energy()).astype(np.float32)
    values[:, 0] = 0.0
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


@cache
def _branches(count: int, seed: int) -> np.ndarray:
    return _directions(count, [seed, count, 3])


def _energy() -> np.ndarray:
    return np.arange(1, DIM + 1, dtype=np.float64) ** -DECAY


def quantiles(
    labels: Labels, scale: float = 100.0, images: int = 200, others: int = 4_000
) -> dict[str, list[float]]:
    """What can be compared with CLIP: mean and deviation of text–text cosine; 5/50/95 of own and
    1/50/99 of other pairs; and 10/50/90 of the largest probability over all labels."""
    vectors, truth = labels.images(images)
    some = labels.text(0, min(others, labels.count)).astype(np.float64)
    cosines = (some[: len(some) // 2] @ some[len(some) // 2 :].T).ravel()
    other = (vectors @ some.T.astype(np.float32)).ravel()
    of_label, top, total = np.empty(images), np.full(images, -np.inf), np.zeros(images)
    for start in range(0, labels.count, _BLOCK):
        logits = scale * (
            vectors.astype(np.float64) @ labels.text(start, min(start + _BLOCK, labels.count)).T
        )
        here = np.flatnonzero((truth >= start) & (truth < start + logits.shape[1]))
        of_label[here] = logits[here, truth[here] - start] / scale
        larger = np.maximum(top, logits.max(axis=1))
        total = total * np.exp(top - larger) + np.exp(logits - larger[:, np.newaxis]).sum(axis=1)
        top = larger
    return {
        "text–text cosine: mean, deviation": [float(cosines.mean()), float(cosines.std())],
        "image and own label: 5, 50, 95 %": np.percentile(of_label, [5, 50, 95]).tolist(),
        "image and another: 1, 50, 99 %": np.percentile(other, [1, 50, 99]).tolist(),
        "largest probability: 10, 50, 90 %": np.percentile(1 / total, [10, 50, 90]).tolist(),
    }
