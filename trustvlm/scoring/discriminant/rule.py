"""The probability that the rules `lda` and `lda_star` give a label."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.discriminant.fit import DiscriminantFit
from trustvlm.scoring.image_evidence import DEFAULT_TAU
from trustvlm.scoring.posterior import (
    Groups,
    general_evidence,
    groups_of,
    has_bare,
    log_sum,
    posterior,
    within_groups,
)
from trustvlm.types.arrays import Float64s, Floats


@dataclass(frozen=True, eq=False)
class DiscriminantValues:
    """What the discriminant says of m candidate labels of each of n queries.

    Attributes:
        fit: how the values are weighed.
        values: (n, m) g_j of the verifier, or c_j where the fit is not whitened; NaN where the
            label has no prototype. background: (n, a) of the sample of prototypes.
        classifier_values, classifier_background: likewise of the classifier's image tower.
        bias: (n, m) b_j. nearest: (n,) similarity to the nearest prototype.
    """

    fit: DiscriminantFit
    values: Float64s
    background: Floats
    classifier_values: Float64s | None
    classifier_background: Floats | None
    bias: Float64s
    nearest: Float64s


def discriminant_posterior(
    log_p: Float64s,
    values: DiscriminantValues,
    rest: Float64s,
    verified: Float64s,
    parameters: Mapping[str, float | None],
) -> Float64s:
    """(n, m) probability of each candidate given text and image.

    p′_j ∝ p_j·e^(λ·b_j) within the labels that have prototypes, whose total stays; q_j ∝
    p′_j·e^(λ·e_j) within them, e_j = g_j/τ. Labels without prototypes are weighed as a group: by
    the odds fitted on the support images, else as the posterior weighs them.

    Args:
        log_p, rest, verified: as of :func:`trustvlm.scoring.posterior.posterior`.
        parameters: λ; τ and the share of the verifier, where they are given.
    """
    fit, share, tau = values.fit, parameters["towers"], parameters["tau"]
    weight = parameters["lambda"]
    assert weight is not None
    text = _unbiased(log_p, values, rest, verified, weight)
    if not fit.on and tau is None:
        return np.exp(text.log_p)
    tau = fit.tau(share) if tau is None else tau
    scores, background = _of_towers(values, fit.share if share is None else share)
    evidence, general = scores / tau, general_evidence(background, tau)
    if not has_bare(text.log_p, evidence, verified):
        return posterior(text.log_p, evidence, general, text.rest, text.verified, weight)
    groups = groups_of(text.log_p, evidence, general, text.rest, text.verified, weight)
    odds = _odds(groups, log_p, values, rest, verified, weight)
    return within_groups(text.log_p, evidence, groups, odds, weight)


@dataclass(frozen=True, eq=False)
class _Text:
    """The text softmax with the bias of the labels that have prototypes taken off: log p′, and
    likewise `rest` and `verified`."""

    log_p: Float64s
    rest: Float64s
    verified: Float64s


def _unbiased(
    log_p: Float64s, values: DiscriminantValues, rest: Float64s, verified: Float64s, weight: float
) -> _Text:
    bare = np.isnan(values.values)
    biased = log_p + weight * np.where(bare, 0.0, values.bias)
    with np.errstate(divide="ignore"):
        outside = np.log(rest * verified)
    before = log_sum(np.where(bare, -np.inf, log_p), outside)
    after = log_sum(np.where(bare, -np.inf, biased), outside)
    shift = np.where(np.isneginf(before), 0.0, before - np.where(np.isneginf(after), 0.0, after))
    inside = rest * verified * np.exp(shift)
    total = inside + rest * (1 - verified)
    share = np.divide(inside, total, out=np.ones(len(total)), where=total > 0)
    moved = np.where(bare, log_p, biased + shift[:, np.newaxis])
    return _Text(moved, total, np.where(verified == 1.0, 1.0, share))


def _of_towers(values: DiscriminantValues, share: float) -> tuple[Float64s, Floats]:
    """The values of the candidates and of the background, of both towers where there are two."""
    if values.classifier_values is None or values.classifier_background is None:
        return values.values, values.background
    other = 1 - share
    return (
        share * values.values + other * values.classifier_values,
        share * values.background + other * values.classifier_background,
    )


def _odds(
    groups: Groups,
    log_p: Float64s,
    values: DiscriminantValues,
    rest: Float64s,
    verified: Float64s,
    weight: float,
) -> Float64s:
    """(n,) log odds of "has a prototype": the fitted ones; with one image a label those of the
    posterior at its own τ, which is sharper; else those of the posterior."""
    odds = values.fit.odds
    if odds is not None:
        return groups.text_odds + weight * odds.image_odds(groups.gain, values.nearest)
    if values.fit.kind != "one image":
        return groups.tempered_odds(weight)
    evidence = values.values / DEFAULT_TAU
    general = general_evidence(values.background, DEFAULT_TAU)
    return groups_of(log_p, evidence, general, rest, verified, weight).tempered_odds(weight)
