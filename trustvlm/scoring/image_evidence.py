"""What the support images say about image evidence: its sharpness τ, whether it tells labels apart,
and below which similarity an image is unknown.

Everything here comes from the support set alone (docs/rules.md): each support image in turn is
taken out of its own label's prototype and becomes a query.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trustvlm.scoring.prototypes import imputed_similarity
from trustvlm.types.arrays import Float64s, Int64s

BACKGROUND = 1_024
"""Size of the sample A of prototypes that stands for labels in general."""

DEFAULT_TAU = 0.08
"""τ where no support image can be left out: one image a label, or a single label."""

TAUS: Float64s = np.geomspace(0.003, 0.5, 60)
# the τ that serves is wider than the likeliest one: the support images are too like each other
WIDER = 1.5
# how much of the unknown test's distribution is kept: rates up to this one can be asked for
_LOWEST_SHARE = 0.1
_GUARD = 2.0  # standard errors by which the support images must tell labels apart
_LEAST_LABELS = 4  # of fewer a correlation says nothing
_LEAST_POWER = -700.0  # e to the power of less counts as nothing
_BLOCK = 256  # rows of a matrix of up to 2,048 × 6,144 entries that are worked on at a time


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
    queries: Float64s,
    owner: Int64s,
    left_out: Float64s,
    ids: Int64s,
    prototypes: Float64s,
    logits: Float64s | None = None,
) -> ImageEvidence:
    """What m support images say when each is left out of its own prototype.

    τ maximises the mean of log softmax_c(·/τ) over the images that can be left out, on a grid (ties
    → larger), times 1.5. Where all of them are told apart, targets are smoothed
    (:func:`smoothed_sharpness`), and τ is at most that of one image a label. The guard: if the gain
    over the uniform is below two standard errors, image evidence is off. Where no image can be left
    out, it is off if labels that look alike are not those of similar text
    (:func:`agrees_with_text`).

    Args:
        queries: (m, d) unit verifier embeddings. owner: (m,) label ids. left_out: (m,) similarity
            to the owner's prototype without the image, NaN where that is not defined.
        ids: (L,) label ids, ascending, and prototypes: (L, d) theirs; every owner is among them.
        logits: (m, L) text logits of the images, NaN where an image's classifier embedding is not
            known; None: they are not known of any.
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
        on = True
        rows = (
            np.empty(0, np.int64) if logits is None else np.flatnonzero(np.isfinite(logits[:, 0]))
        )
        if logits is not None and len(rows):
            likeness = prototypes[column[rows]] @ prototypes.T
            on = agrees_with_text(likeness, logits[rows], column[rows])
        return ImageEvidence(
            DEFAULT_TAU, "default", on, math.nan, math.nan, images, labels, 0, imputed, ()
        )
    similarity, column = similarity[usable], column[usable]
    nearest = np.sort(similarity.max(axis=1))
    lowest = nearest[: math.floor(_LOWEST_SHARE * (len(nearest) + 1))]
    likeliest, widest = plain_sharpness(similarity, column, TAUS), math.inf
    if likeliest is None:
        likeliest, widest = smoothed_sharpness(similarity, column, TAUS), DEFAULT_TAU
    return ImageEvidence(
        tau=min(WIDER * likeliest.tau, widest),
        source="fitted",
        on=likeliest.on,
        gain=likeliest.gain,
        gain_error=likeliest.gain_error,
        images=images,
        labels=labels,
        left_out=len(usable),
        imputed=imputed,
        lowest=tuple(lowest.tolist()),
    )


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


@dataclass(frozen=True, eq=False)
class Sharpness:
    """The likeliest τ of a grid.

    Attributes:
        tau: the value. gain, gain_error: mean log-likelihood over the uniform (nats) at τ, and its
            standard error; NaN of a single image.
        likelihoods: (m,) log-likelihood of each image's label at τ.
    """

    tau: float
    gain: float
    gain_error: float
    likelihoods: Float64s = field(repr=False)

    @property
    def on(self) -> bool:
        """The guard: the evidence tells the labels apart, by two standard errors or more."""
        return self.gain >= _GUARD * self.gain_error  # False where the error is NaN

    def surely_better_than(self, other: Sharpness) -> bool:
        """Whether these values tell the images' labels apart better than those of `other`, by more
        than two standard errors of the difference."""
        more = self.likelihoods - other.likelihoods
        if len(more) < 2:
            return False
        error = float(more.std(ddof=1)) / math.sqrt(len(more))
        return bool(more.mean() > _GUARD * error)


def plain_sharpness(values: Float64s, column: Int64s, grid: Float64s) -> Sharpness | None:
    """The τ of the grid (ties → larger) under which the left-out images' labels are likeliest: it
    maximises the mean of log softmax_own(values/τ). None where every image is told apart: then
    there is no such τ, as the sharper, the likelier.

    Args:
        values: (m, k) evidence of every label for each image, itself left out. column: (m,) which
            label is its own. grid: ascending.
    """
    evidence = values[np.arange(len(values)), column]
    if (evidence >= values.max(axis=1)).all():
        return None
    return _likeliest(values, column, grid, 0.0)


def smoothed_sharpness(values: Float64s, column: Int64s, grid: Float64s) -> Sharpness:
    """The likeliest τ with smoothed targets: as if one image more had been taken for its rival, the
    best other label.

    It maximises the mean of (1 − ε)·log softmax_own(values/τ) + ε·log softmax_rival(values/τ) with
    ε = 1/(m + 2). Arguments as of :func:`plain_sharpness`.
    """
    return _likeliest(values, column, grid, 1.0 / (len(values) + 2))


def _likeliest(values: Float64s, column: Int64s, grid: Float64s, smoothing: float) -> Sharpness:
    count = len(values)
    margin = values - values.max(axis=1, keepdims=True)
    row = np.arange(count)
    target = of_label = margin[row, column]
    if smoothing:
        margin[row, column] = -np.inf
        target = (1 - smoothing) * of_label + smoothing * margin.max(axis=1)
        margin[row, column] = of_label

    @cache
    def likelihood(place: int) -> Float64s:
        scale = float(1.0 / grid[place])
        likelihoods: Float64s = target * scale - np.log(_row_sums(margin, scale))
        return likelihoods

    # The mean is concave in 1/τ (linear terms minus log-sum-exps): bisection finds its one peak.
    low, high = 0, len(grid) - 1
    while low < high:
        middle = (low + high) // 2
        if likelihood(middle + 1).mean() >= likelihood(middle).mean():
            low = middle + 1
        else:
            high = middle
    best = likelihood(low)
    error = float(best.std(ddof=1) / math.sqrt(count)) if count > 1 else math.nan
    gain = float(best.mean()) + math.log(values.shape[1])
    return Sharpness(float(grid[low]), gain, error, best)


def _row_sums(margin: Float64s, scale: float) -> Float64s:
    """(m,) Σ_j e^(scale·margin_ij)."""
    sums = np.empty(len(margin))
    for start in range(0, len(margin), _BLOCK):
        block: NDArray[np.float64] = margin[start : start + _BLOCK] * scale
        sums[start : start + _BLOCK] = np.exp(np.maximum(block, _LEAST_POWER)).sum(axis=1)
    return sums
