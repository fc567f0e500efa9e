"""Whether new vectors look like the stored ones: by where they point on the whole, and by how long
they are.

Embeddings of one model lie in a narrow cone: the mean direction of a label's images is near that of
all other labels'. Another model's cone points elsewhere, and its vectors have other norms. Two
tests on a batch of new vectors, each with two conditions:

* **Direction.** c is the cosine of the batch's mean direction with that of the stored labels. Under
  the null hypothesis that the batch is of one more label of the same kind, c is distributed as the
  stored labels' own cosines with the others' mean: a one-sided prediction bound of Student's t at
  :data:`FALSE_ALARMS` / 2. As another subject moves the mean too, c must also lie below half of the
  stored labels' mean cosine. On CLIP ViT-B/32: other subjects 0.61 to 0.77, texts where images
  belong 0.22 to 0.37, a rotated space or another model −0.06 to 0.00, where stored labels have 0.88
  to 0.94.
* **Length.** The mean log norm of the batch against the stored vectors' mean and deviation: a
  two-sided prediction bound at :data:`FALSE_ALARMS` / 2, and a ratio of at least
  :data:`LENGTH_RATIO`.

A batch of several labels is nearer to the mean than one of one label, so the rate is an upper one.
Where vectors have no common direction (their mean cosine is below :data:`CONE`), the first test is
silent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

FALSE_ALARMS = 0.001
"""Upper bound of the chance that a batch of the same kind is called another, both tests together,
if cosines and log norms are normal."""
LEAST_VECTORS = 8
"""Smaller batches, and fewer stored vectors, are not judged."""
LEAST_LABELS = 5
"""The smallest number of stored labels whose spread is used."""
LENGTH_RATIO = 1.25
CONE = 0.3


@dataclass(frozen=True, eq=False)
class Baseline:
    """What stored vectors look like.

    Attributes:
        count, labels: how many vectors and labels it was made of.
        direction: (d,) unit mean of the labels' mean directions; None with fewer than
            :data:`LEAST_LABELS` labels.
        cosine, spread: mean and deviation of each label's cosine with the mean of the others.
        log_norm, log_norm_spread: mean and deviation of log norms; None where norms are not known.
    """

    count: int
    labels: int
    direction: Float64s | None
    cosine: float
    spread: float
    log_norm: float | None
    log_norm_spread: float


def baseline_of(vectors: Float64s, owner: Int64s, *, norms: bool = True) -> Baseline:
    """The baseline of stored vectors (n, d) of the labels `owner` (n,); without `norms`, for
    vectors that were normalised."""
    lengths = np.log(np.linalg.norm(vectors, axis=1))
    labels, place = np.unique(owner, return_inverse=True)
    sums = np.zeros((len(labels), vectors.shape[1]))
    np.add.at(sums, place, _unit(vectors))
    means = _unit(sums[np.linalg.norm(sums, axis=1) > 0])
    total = means.sum(axis=0)
    direction, cosine, spread = None, 0.0, 0.0
    if len(means) >= LEAST_LABELS and total.any():
        others = total - means
        usable = np.linalg.norm(others, axis=1) > 0
        cosines = np.einsum("nd,nd->n", means[usable], _unit(others[usable]))
        direction = total / np.linalg.norm(total)
        cosine, spread = float(cosines.mean()), float(cosines.std(ddof=1))
    return Baseline(
        count=len(vectors),
        labels=len(means),
        direction=direction,
        cosine=cosine,
        spread=spread,
        log_norm=float(lengths.mean()) if norms and len(lengths) else None,
        log_norm_spread=float(lengths.std(ddof=1)) if len(lengths) > 1 else 0.0,
    )


def departures(baseline: Baseline, vectors: Float64s) -> list[str]:
    """In words, how a batch (n, d) departs from the baseline; empty where it does not, or nothing
    can be said."""
    if len(vectors) < LEAST_VECTORS:
        return []
    return [text for text in (_direction(baseline, vectors), _length(baseline, vectors)) if text]


def _direction(baseline: Baseline, vectors: Float64s) -> str | None:
    if baseline.direction is None or baseline.cosine < CONE:
        return None
    mean = _unit(vectors).mean(axis=0)
    length = float(np.linalg.norm(mean))
    cosine = float(mean @ baseline.direction) / length if length > 0 else 0.0
    bound = _bound(FALSE_ALARMS / 2, baseline.labels, baseline.spread)
    if cosine >= baseline.cosine - bound or cosine >= baseline.cosine / 2:
        return None
    return (
        f"their mean direction has a cosine of {cosine:.2f} with the stored one, where "
        f"labels have {baseline.cosine:.2f} ± {baseline.spread:.2f}"
    )


def _length(baseline: Baseline, vectors: Float64s) -> str | None:
    if baseline.log_norm is None or baseline.count < LEAST_VECTORS:
        return None
    mean = float(np.log(np.linalg.norm(vectors, axis=1)).mean())
    # Vectors of one label are alike: the mean of many spreads as one vector does, at most.
    bound = _bound(FALSE_ALARMS / 4, baseline.count, baseline.log_norm_spread)
    if abs(mean - baseline.log_norm) <= max(bound, math.log(LENGTH_RATIO)):
        return None
    return (
        f"their norms are about {math.exp(mean):.3g}, where the stored ones are about "
        f"{math.exp(baseline.log_norm):.3g}"
    )


def _unit(rows: Float64s) -> Float64s:
    unit: Float64s = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def _bound(tail: float, count: int, spread: float) -> float:
    """How far one more value lies from the mean of `count` normal ones with probability `tail`, at
    least, on one side: a prediction bound of Student's t."""
    from scipy.special import stdtrit

    return float(stdtrit(count - 1, 1 - tail)) * spread * math.sqrt(1 + 1 / count)
