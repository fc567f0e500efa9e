"""What a calibration fits beside the threshold: which configuration to use, and a map from its
trust to a probability (docs/rules.md, "Threshold with a promise" and "Probability").

Everything is chosen on one part of the images (:func:`split`), so that the other part is free to
prove the threshold with (:mod:`trustvlm.selective.risk`). The map changes no order and decides
nothing: it may use every image.

All raise InvalidInput for arrays that :func:`trustvlm.selective.ranking.checked` refuses (NaN,
differing shapes, no image).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.selective.metrics import aurc
from trustvlm.selective.ranking import checked, ece
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Bools, Float64s, Int64s, real_array

FOLDS = 5
ECE_FOLDS = 10
ECE_LEAST = 20


def split(hashes: Sequence[bytes]) -> tuple[Int64s, Int64s]:
    """(tuning rows, testing rows), ascending: about a third to choose with, the rest to prove the
    threshold with.

    The content decides, not the order: equal images are always split alike. The first of very few
    images goes to tuning; a single one leaves nothing to test with.

    Args:
        hashes: (n,) content hash of each image, all different.
    """
    order = shuffled(hashes, b"tuning or testing")
    cut = max(1, round(len(order) / 3))
    return np.sort(order[:cut]), np.sort(order[cut:])


@dataclass(frozen=True, eq=False)
class Choice:
    """Which configuration to use.

    Attributes:
        index: of the chosen one. means: (c,) mean AURC over the folds of each configuration.
        errors: (c,) standard error of each mean, from its spread over the folds; with a single fold
            0.5, the most that a number in [0, 1] can have.
    """

    index: int
    means: Float64s
    errors: Float64s


def choose_configuration(
    trust: Sequence[Float64s], right: Sequence[Bools], keys: Sequence[bytes]
) -> Choice:
    """The configuration of least AURC, unless the default (number 0) is as good as far as these
    images tell.

    Each configuration's AURC is averaged over folds of the images. Another one replaces the default
    when its mean is lower by more than one standard error of their difference, fold by fold
    (paired: both see the same images). Of those, the one of least mean, the first of equal ones.

    Args:
        trust: per configuration, (n,) its trust in its predictions for the same n images; ties and
            ±inf allowed. right: per configuration, (n,) which of its predictions are right.
        keys: (n,) names of the images, such as their content hashes: they decide the folds.

    Raises:
        InvalidInput: also for no configuration, or numbers of rows that differ.
    """
    if not len(trust) or len(trust) != len(right):
        raise InvalidInput(
            f"trust and right: expected one array per configuration, got {len(trust)} and "
            f"{len(right)}"
        )
    if any(len(values) != len(keys) for values in trust):
        raise InvalidInput(
            f"trust: expected {len(keys)} values per configuration, one per key, got another number"
        )
    order = shuffled(keys, b"fold")
    folds = [order[i::FOLDS] for i in range(min(FOLDS, max(1, len(order))))]
    areas = np.empty((len(trust), len(folds)))
    for place, (values, correct) in enumerate(zip(trust, right, strict=True)):
        may_stop()
        areas[place] = [aurc(values[fold], correct[fold]) for fold in folds]
    means = areas.mean(axis=1)
    gain = areas[0] - areas  # (c, folds), larger = better than the default
    better = gain.mean(axis=1) > _standard_error(gain, most=1.0)
    index = int(np.where(better, means, np.inf).argmin()) if better.any() else 0
    return Choice(index, means, _standard_error(areas, most=0.5))


@dataclass(frozen=True)
class ProbabilityMap:
    """Trust to the probability of being right: a straight line between knots, constant beyond the
    outermost.

    Attributes:
        knots: (trust, probability) pairs; trust strictly ascending and finite, probability
            non-decreasing, inside (0, 1).
    """

    knots: tuple[tuple[float, float], ...]

    def __call__(self, trust: npt.ArrayLike) -> Float64s:
        """(n,) probability for (n,) trust, ±inf allowed."""
        x, y = np.array(self.knots).T
        probability: Float64s = np.interp(real_array(trust, "trust").astype(np.float64), x, y)
        return probability


def fit_probability_map(trust: npt.ArrayLike, correct: npt.ArrayLike) -> ProbabilityMap:
    """The non-decreasing map that fits best, kept away from 0 and 1.

    Isotonic regression (Zadrozny and Elkan 2002) finds blocks of trust values with one probability
    each. A block with k of n right gets (k + ½) / (n + 1) instead of k / n (Krichevsky–Trofimov):
    three of three right are no certainty. Where that turns the order of two neighbouring blocks
    around, they become one.

    Args:
        trust: (n,) trust; −inf and +inf count as the lowest and the highest finite value.
        correct: (n,) bool or 0/1.
    """
    from scipy.optimize import isotonic_regression

    values, right = checked(trust, correct)
    distinct, group = np.unique(_finite(values), return_inverse=True)
    images = np.bincount(group)
    rights = np.bincount(group[right], minlength=len(distinct))
    ends = isotonic_regression(rights / images, weights=images).blocks

    def probability(first: int, end: int) -> float:
        return float((rights[first:end].sum() + 0.5) / (images[first:end].sum() + 1))

    blocks: list[tuple[int, int]] = []
    for first, end in pairwise(ends.tolist()):
        while blocks and probability(*blocks[-1]) >= probability(first, end):
            first = blocks.pop()[0]
        blocks.append((first, end))
    return ProbabilityMap(
        tuple(
            (float(distinct[place]), probability(first, end))
            for first, end in blocks
            for place in sorted({first, end - 1})
        )
    )


def cross_validated_ece(trust: npt.ArrayLike, correct: npt.ArrayLike) -> float | None:
    """Expected calibration error of :func:`fit_probability_map` on images that it was not fitted
    with; smaller is better.

    In each of ten rounds a tenth of the images is left out, evenly over the range of trust, and
    gets its probability from a map of the others; :func:`trustvlm.selective.ranking.ece` of all
    together. None below 20 images.
    """
    values, right = checked(trust, correct)
    if len(values) < ECE_LEAST:
        return None
    order = np.lexsort((right, values))  # not the order they came in
    probability = np.empty(len(values))
    for fold in range(ECE_FOLDS):
        may_stop()
        left_out = np.zeros(len(values), np.bool_)
        left_out[order[fold::ECE_FOLDS]] = True
        fitted = fit_probability_map(values[~left_out], right[~left_out])
        probability[left_out] = fitted(values[left_out])
    return ece(probability, right)


def shuffled(keys: Sequence[bytes], purpose: bytes) -> Int64s:
    """(n,) row numbers in an order that only the keys and the purpose decide: as good as random,
    and always the same."""
    digests = [hashlib.blake2b(key, key=purpose, digest_size=16).digest() for key in keys]
    return np.array(sorted(range(len(digests)), key=lambda row: digests[row]), dtype=np.int64)


def _standard_error(folds: Float64s, most: float) -> Float64s:
    """(c,) standard error of the means of (c, folds) numbers; `most` where one fold says nothing of
    the spread."""
    count = folds.shape[1]
    if count == 1:
        return np.full(len(folds), most)
    errors: Float64s = folds.std(axis=1, ddof=1) / np.sqrt(count)
    return errors


def _finite(values: npt.NDArray[np.generic]) -> Float64s:
    """±inf as the outermost finite values; all 0 when nothing is finite: such values have no order
    worth a map."""
    numbers = np.asarray(values, np.float64)
    finite = numbers[np.isfinite(numbers)]
    return np.clip(numbers, finite.min(), finite.max()) if len(finite) else np.zeros(len(numbers))
