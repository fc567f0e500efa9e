"""What the support images say about image evidence: its sharpness τ, whether it tells labels apart,
and below which similarity an image is unknown.

Everything here comes from the support set alone (docs/rules.md): each support image in turn is
taken out of its own label's prototype and becomes a query.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trustvlm.scoring.prototypes import imputed_similarity
from trustvlm.types.arrays import Float64s, Int64s

__all__ = ["BACKGROUND", "DEFAULT_TAU", "ImageEvidence", "fit_evidence"]

BACKGROUND = 1_024
"""Size of the sample A of prototypes that stands for labels in general."""

DEFAULT_TAU = 0.08
"""τ where no support image can be left out: one image a label, or a single label."""

TAUS: Float64s = np.geomspace(0.003, 0.5, 60)
# the τ that serves is wider than the likeliest one: the support images are too like each other
_WIDER = 1.5
_GUARD = 2.0  # standard errors by which the support images must tell labels apart
# how much of the unknown test's distribution is kept: rates up to this one can be asked for
_LOWEST_SHARE = 0.1


@dataclass(frozen=True)
class ImageEvidence:
    """One fit of a space's support images.

    Attributes:
        tau: τ of the posterior. source: "fitted"; "default" where nothing could be left out; "none"
            without prototypes.
        on: the guard: False where the support images do not tell labels apart, so that image
            evidence is noise.
        gain, gain_error: mean leave-one-out log-likelihood over the uniform (nats), and its
            standard error; NaN without a fit.
        images, labels: how many support images were compared with how many labels' prototypes.
        left_out: how many of them have a leave-one-out similarity.
        imputed: c̃, the similarity assumed where there is no prototype.
        lowest: the smallest leave-one-out similarities of support images to their nearest
            prototype, ascending.
    """

    tau: float
    source: Literal["fitted", "default", "none"]
    on: bool
    gain: float
    gain_error: float
    images: int
    labels: int
    left_out: int
    imputed: float
    lowest: tuple[float, ...]

    def unknown_below(self, rate: float) -> float:
        """The similarity to the nearest prototype below which an image is unknown; −inf where no
        test is possible.

        Of new images of the labels at most the share `rate` falls below, as far as they are like
        the support images: it is the ⌊rate·(m + 1)⌋-th smallest of m leave-one-out similarities (a
        conformal p-value, Vovk et al. 2005).
        """
        rank = math.floor(rate * (self.left_out + 1) + 1e-9)
        return self.lowest[rank - 1] if 1 <= rank <= len(self.lowest) else -math.inf

    def to_values(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            k: None if isinstance(v, float) and math.isnan(v) else v
            for k, v in asdict(self).items()
        }

    @classmethod
    def of_values(cls, values: dict[str, Any]) -> ImageEvidence:
        """Back from :meth:`to_values`."""
        plain = {f.name: values[f.name] for f in fields(cls)}
        gains = {name: math.nan for name in ("gain", "gain_error") if plain[name] is None}
        return cls(**plain | gains | {"lowest": tuple(plain["lowest"])})


def fit_evidence(
    queries: Float64s, owner: Int64s, left_out: Float64s, ids: Int64s, prototypes: Float64s
) -> ImageEvidence:
    """What m support images say when each is left out of its own prototype.

    τ maximises the mean of log softmax_c(·/τ) over the images that can be left out, on a grid (ties
    → larger), times 1.5. The guard: if the gain over the uniform is below two standard errors,
    image evidence is off.

    Args:
        queries: (m, d) unit verifier embeddings. owner: (m,) label ids. left_out: (m,) similarity
            to the owner's prototype without the image, NaN where that is not defined.
        ids: (L,) label ids, ascending, and prototypes: (L, d) theirs; every owner is among them.
    """
    images, labels = len(queries), len(ids)
    if not labels:
        return ImageEvidence(DEFAULT_TAU, "none", False, math.nan, math.nan, 0, 0, 0, 0.0, ())
    similarity = queries @ prototypes.T
    column, row = np.searchsorted(ids, owner), np.arange(images)
    similarity[row, column] = -np.inf
    imputed = imputed_similarity(left_out, similarity.max(axis=1))
    similarity[row, column] = left_out
    usable = np.flatnonzero(np.isfinite(left_out))
    if not len(usable) or labels < 2:
        return ImageEvidence(
            DEFAULT_TAU, "default", True, math.nan, math.nan, images, labels, 0, imputed, ()
        )
    similarity, column = similarity[usable], column[usable]
    nearest = np.sort(similarity.max(axis=1))
    lowest = nearest[: math.floor(_LOWEST_SHARE * (len(nearest) + 1))]
    at, likelihood = _likeliest(similarity, column)
    gain = float(likelihood.mean()) + math.log(labels)
    error = math.inf
    if len(likelihood) > 1:
        error = float(likelihood.std(ddof=1) / math.sqrt(len(likelihood)))
    return ImageEvidence(
        tau=_WIDER * float(TAUS[at]),
        source="fitted",
        on=bool(gain >= _GUARD * error),
        gain=gain,
        gain_error=error if math.isfinite(error) else math.nan,
        images=images,
        labels=labels,
        left_out=len(usable),
        imputed=imputed,
        lowest=tuple(lowest.tolist()),
    )


def _likeliest(similarity: Float64s, column: Int64s) -> tuple[int, Float64s]:
    """The place on the grid of the likeliest τ, and each row's log-likelihood there.

    The log-likelihood is concave in 1/τ (a linear term minus a log-sum-exp), so that it has one
    peak: bisection on its slope finds it in a few evaluations of a matrix that may have 2,048 ×
    6,144 entries.
    """
    margin = similarity - similarity.max(axis=1, keepdims=True)
    head = margin[np.arange(len(margin)), column]

    @cache
    def at(place: int) -> Float64s:
        scale = float(1.0 / TAUS[place])
        values: Float64s = head * scale - np.log(_row_sums(margin, scale))
        return values

    low, high = 0, len(TAUS) - 1
    while low < high:
        middle = (low + high) // 2
        if at(middle + 1).mean() >= at(middle).mean():
            low = middle + 1
        else:
            high = middle
    return low, at(low)


def _row_sums(margin: Float64s, scale: float) -> Float64s:
    """(m,) Σ_j e^(scale·margin_ij), a block of rows at a time; e^−700 and less count as nothing."""
    sums = np.empty(len(margin))
    for start in range(0, len(margin), 256):
        block: NDArray[np.float64] = margin[start : start + 256] * scale
        sums[start : start + 256] = np.exp(np.maximum(block, -700.0)).sum(axis=1)
    return sums
