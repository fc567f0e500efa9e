"""The fit of the discriminant: whitened evidence where it tells labels apart, plain cosines where
only these do, and none where neither does.

Labels with and labels without support images are weighed as two groups. How far an image speaks for
the first is learned from the support images: each is looked at twice, as an image of a label with a
prototype (the image itself left out), and as one of a label without (its prototype taken away).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from trustvlm.scoring.discriminant.whitening import (
    LeftOutImages,
    Scatter,
    TextSide,
    left_out_values,
    whitening,
)
from trustvlm.scoring.image_evidence import (
    DEFAULT_TAU,
    TAUS,
    WIDER,
    Sharpness,
    agrees_with_text,
    smoothed_sharpness,
)
from trustvlm.scoring.posterior import log_sum
from trustvlm.types.arrays import Float64s, Floats, Int64s

SHARES: Float64s = np.linspace(0.0, 1.0, 11)
"""Shares of the verifier in the evidence that are tried, where both image towers give some."""

_WIDER_WHITENED = 1.25  # the τ that serves is wider than the likeliest one, as for cosines
_SPREADS = np.geomspace(0.003, 30, 90)  # τ in standard deviations of a row of values
_SOFTER = 1.4  # standard deviations between prototypes that make the τ of one image a label
_ENTRIES = 2**19  # of the matrices by which the share is chosen
_ENOUGH = 2.0  # images a label: of fewer no odds are fitted, more count as these, as they are alike
_FARTHEST = 8.0  # bound of Λ, nats
_LEAST_VARIANCE = 1e-4  # added to that of similarities
# What is assumed of the three weights beforehand: log w₁, log w₂ and w₀ are normal.
_MEANS = np.array([math.log(0.3), math.log(0.25), 0.0])
_DEVIATIONS = np.array([0.8, 0.8, 1.5])

Kind = Literal["whitened", "cosine", "one image", "off", "none"]


@dataclass(frozen=True, eq=False)
class Tower:
    """What one image encoder says of the support images.

    Attributes:
        left_out: m images, each left out of its label. scatter: of all images of their labels.
        prototypes: (k, d).
    """

    left_out: LeftOutImages
    scatter: Scatter
    prototypes: Float64s


@dataclass(frozen=True, eq=False)
class DiscriminantFit:
    """One fit of a space's support images.

    Attributes:
        kind: the evidence: "whitened"; "cosine" where the whitened one does not tell labels apart
            and plain cosines do; "one image" where no image can be left out (cosines); "off" where
            nothing tells labels apart; "none" without prototypes.
        matrix: (d, d) M of the verifier, where evidence is whitened. classifier_matrix: of the
            classifier's image tower, where its evidence is added.
        share: w, the verifier's share in the evidence; 1 where it is alone.
        taus: τ of each share of :data:`SHARES`; a single one where the verifier is alone.
        bias: (k,) b_j, nats to add to the log probability of each label.
        odds: of the group of labels that have prototypes; None: not fitted.
        gain, gain_error: as of an :class:`ImageEvidence`. images: how many were left out.
    """

    kind: Kind
    matrix: Floats | None
    classifier_matrix: Floats | None
    share: float
    taus: tuple[float, ...]
    bias: Float64s
    odds: GroupOdds | None
    gain: float
    gain_error: float
    images: int

    @property
    def on(self) -> bool:
        """There is image evidence."""
        return self.kind not in ("off", "none")

    def tau(self, share: float | None = None) -> float:
        """τ at a share of the verifier; None: the fitted one."""
        if len(self.taus) == 1:
            return self.taus[0]
        return float(np.interp(self.share if share is None else share, SHARES, self.taus))


def fit_discriminant(verifier: Tower, text: TextSide, classifier: Tower | None) -> DiscriminantFit:
    """What the support images say of image evidence and text.

    Args:
        verifier: the verifier's tower. classifier: the classifier's image tower, where it is
            another one and its embeddings of all images are known. text: of the same k labels.
    """
    labels, usable = len(verifier.prototypes), verifier.left_out.defined
    bias = text.bias
    nothing = DiscriminantFit(
        "none", None, None, 1.0, (DEFAULT_TAU,), bias, None, math.nan, math.nan, 0
    )
    if not labels:
        return nothing
    if not len(usable) or labels < 2:
        return _of_one_image(nothing, verifier, text)
    images = verifier.left_out.part(usable)
    fit, values = _whitened(nothing, verifier, classifier, usable)
    cosines = left_out_cosines(images, verifier.prototypes)
    if not fit.on:
        sharpness = smoothed_sharpness(cosines, images.column, TAUS)
        kind: Kind = "cosine" if sharpness.on else "off"
        fit, values = _fitted(nothing, kind, sharpness, WIDER), cosines
    fit = replace(fit, images=len(usable))
    places, rows = text.rows_of(usable)
    each = len(verifier.left_out.images) / labels
    if not fit.on or text.log_bare is None or not len(places) or each < _ENOUGH:
        return fit
    log_p, log_bare = text.log_p(rows)
    evidence, similarity = values[places] / fit.tau(), cosines[places]
    cases = LeftOutCases(log_p, log_bare, bias, evidence, similarity, images.column[places], each)
    return replace(fit, odds=fit_group_odds(cases))


def left_out_cosines(images: LeftOutImages, prototypes: Float64s) -> Float64s:
    """(m, k) similarity of each image with every prototype, its own label's made without it."""
    similarity = images.images @ prototypes.T
    label = np.einsum("md,md->m", images.images, images.others)
    similarity[np.arange(len(label)), images.column] = label
    return similarity


def _fitted(
    nothing: DiscriminantFit, kind: Kind, sharpness: Sharpness, wider: float
) -> DiscriminantFit:
    return replace(
        nothing,
        kind=kind,
        taus=(wider * sharpness.tau,),
        gain=sharpness.gain,
        gain_error=sharpness.gain_error,
    )


def _whitened(
    nothing: DiscriminantFit, verifier: Tower, classifier: Tower | None, usable: Int64s
) -> tuple[DiscriminantFit, Float64s]:
    """The fit with whitened evidence, and the left-out values (m, k) of the images; "off" where the
    evidence does not tell the labels apart."""
    off = replace(nothing, kind="off"), np.empty((0, 0))
    matrix = whitening(verifier.scatter)
    if matrix is None:
        return off
    column = verifier.left_out.column[usable]
    values, second = _values(verifier, matrix, usable), None
    if classifier is not None and (second_matrix := whitening(classifier.scatter)) is not None:
        second = _values(classifier, second_matrix, usable)
    if second is None or not np.isfinite(second).all():
        sharpness = _sharpness(values, column)
        fit = _fitted(nothing, "whitened", sharpness, _WIDER_WHITENED)
        return (replace(fit, matrix=matrix), values) if sharpness.on else off
    step = math.ceil(values.size / _ENTRIES)  # a part of the values chooses the share
    tried = [
        _sharpness(w * values[::step] + (1 - w) * second[::step], column[::step]) for w in SHARES
    ]
    best = max(tried, key=lambda sharpness: sharpness.gain)
    share = float(SHARES[tried.index(best)]) if best.surely_better_than(tried[-1]) else 1.0
    values = share * values + (1 - share) * second
    sharpness = _sharpness(values, column)
    if not sharpness.on:
        return off
    fit = replace(
        _fitted(nothing, "whitened", sharpness, _WIDER_WHITENED),
        matrix=matrix,
        classifier_matrix=second_matrix,
        share=share,
        taus=tuple(_WIDER_WHITENED * sharpness.tau for sharpness in tried),
    )
    return fit, values


def _values(tower: Tower, matrix: Float64s, usable: Int64s) -> Float64s:
    images, freedom = tower.left_out.part(usable), tower.scatter.freedom
    return left_out_values(images, matrix, freedom, tower.prototypes)


def _sharpness(values: Float64s, column: Int64s) -> Sharpness:
    spread = float(np.median(values.std(axis=1)))
    return smoothed_sharpness(values, column, _SPREADS * max(spread, 1e-12))


def _of_one_image(nothing: DiscriminantFit, tower: Tower, text: TextSide) -> DiscriminantFit:
    """Of support images that cannot be left out: cosines, softer where prototypes differ more."""
    images, prototypes = tower.left_out, tower.prototypes
    if len(prototypes) < 2:
        return replace(nothing, kind="one image")
    similarity = prototypes[images.column] @ prototypes.T
    others = np.ones(similarity.shape, np.bool_)
    others[np.arange(len(similarity)), images.column] = False
    spread = similarity[others].reshape(len(similarity), -1).std(axis=1).mean()
    _, rows = text.rows_of(np.arange(len(similarity)))
    on = not len(rows) or agrees_with_text(
        similarity[text.images[rows]], text.logits[rows], text.column[rows]
    )
    tau = max(DEFAULT_TAU, _SOFTER * float(spread))
    return replace(nothing, kind="one image" if on else "off", taus=(tau,))


@dataclass(frozen=True)
class Novelty:
    """How similar images are to the nearest prototype, if their own label has one and if not.

    Attributes:
        own, other: mean similarity of left-out images to the nearest prototype of any label, and of
            any label but their own. variance: mean of both variances.
    """

    own: float
    other: float
    variance: float

    @classmethod
    def of(cls, nearest: Float64s, other: Float64s) -> Novelty:
        """From the (m,) largest similarities of left-out images to any prototype, and to any but
        their own label's."""
        variance = (float(nearest.var()) + float(other.var())) / 2 + _LEAST_VARIANCE
        return cls(float(nearest.mean()), float(other.mean()), variance)

    def log_ratio(self, nearest: Float64s) -> Float64s:
        """Λ, the log likelihood ratio of "its label has a prototype", within ±8 nats."""
        slope = (self.own - self.other) / self.variance
        ratio = slope * (nearest - (self.own + self.other) / 2)
        return np.clip(ratio, -_FARTHEST, _FARTHEST)


@dataclass(frozen=True)
class GroupOdds:
    """log odds of "its label has a prototype" = text log odds + by_gain·gain + by_novelty·Λ +
    constant.

    The gain is log Σ p′_j·e^(e_j) − log Σ p_j − log mean e^(e_j), the sums over labels with
    prototypes: by how much the image evidence exceeds that of labels in general.
    """

    by_gain: float
    by_novelty: float
    constant: float
    novelty: Novelty

    def image_odds(self, gain: Float64s, nearest: Float64s) -> Float64s:
        """(n,) what the image adds to the text log odds, given the gains and the similarities to
        the nearest prototype."""
        ratio = self.novelty.log_ratio(nearest)
        return self.by_gain * gain + self.by_novelty * ratio + self.constant


@dataclass(frozen=True, eq=False)
class LeftOutCases:
    """m left-out support images of labels with prototypes.

    Attributes:
        log_p: (m, k) log probability of the labels with prototypes; log_bare: (m,) of all others.
        bias: (k,) of the text, nats. evidence: (m, k) e_j without the image. similarity: (m, k)
            cosines, likewise.
        column: (m,) the images' own labels. each: images a label.
    """

    log_p: Float64s
    log_bare: Float64s
    bias: Float64s
    evidence: Float64s
    similarity: Float64s
    column: Int64s
    each: float


def fit_group_odds(cases: LeftOutCases) -> GroupOdds:
    """The odds under which the left-out images are told apart best from images of labels without a
    prototype: a logistic regression with normal priors (its most probable weights)."""
    from scipy.optimize import minimize  # takes a tenth of a second to import

    row, column = np.arange(len(cases.column)), cases.column
    without = cases.similarity.copy()
    without[row, column] = -np.inf
    nearest, other = cases.similarity.max(axis=1), without.max(axis=1)
    novelty = Novelty.of(nearest, other)
    hidden = np.zeros(cases.log_p.shape, np.bool_)
    hidden[row, column] = True
    shown = _features(cases, np.zeros_like(hidden), novelty.log_ratio(nearest))
    bare = _features(cases, hidden, novelty.log_ratio(other))
    text_odds, gain, ratio = (np.concatenate(both) for both in zip(shown, bare, strict=True))
    sign = np.repeat([1.0, -1.0], len(row))
    weight = min(1.0, _ENOUGH / cases.each)

    def loss(weights: Float64s) -> tuple[float, Float64s]:
        by_gain, by_novelty = np.exp(weights[:2])
        odds = sign * (text_odds + by_gain * gain + by_novelty * ratio + weights[2])
        far = (weights - _MEANS) / _DEVIATIONS
        value = weight * np.logaddexp(0, -odds).sum() + (far**2).sum() / 2
        slope = -weight * sign * np.exp(-np.logaddexp(0, odds))
        gradient = [slope @ gain * by_gain, slope @ ratio * by_novelty, slope.sum()]
        return float(value), np.array(gradient) + far / _DEVIATIONS

    options = {"ftol": 1e-14, "gtol": 1e-9}
    best = minimize(loss, _MEANS, jac=True, method="L-BFGS-B", options=options).x
    return GroupOdds(math.exp(best[0]), math.exp(best[1]), float(best[2]), novelty)


def _features(
    cases: LeftOutCases, hidden: np.ndarray, ratio: Float64s
) -> tuple[Float64s, Float64s, Float64s]:
    """(text log odds, gain, Λ) of every image, where the `hidden` labels have lost their
    prototypes."""
    log_p = np.where(hidden, -np.inf, cases.log_p)
    mass = log_sum(log_p)
    lost = np.where(hidden, cases.log_p, -np.inf).max(axis=1)
    bare = np.logaddexp(cases.log_bare, lost)
    evidence = np.where(hidden, -np.inf, cases.evidence)
    biased = log_p + cases.bias
    fused = log_sum(biased + np.where(hidden, 0.0, evidence)) - log_sum(biased)
    labels = (~hidden).sum(axis=1)
    gain = fused - (log_sum(evidence) - np.log(labels))
    return mass - bare, gain, ratio
