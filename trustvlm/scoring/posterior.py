"""The posterior: text probabilities and image evidence fused, for labels with support images and
labels without any.

Labels with a prototype have the evidence e_j = c_j/τ (docs/rules.md). That of "bare" labels, which
have none, is uncertain. Its expectation is that of prototypes in general (log mean e^(c/τ) over a
sample of them), a little less, for labels that people gave images to are the ones that turn up. Its
spread is large: were the image of that label, its similarity would stand out. So bare labels are
weighed as a group against those with prototypes, and the evidence is tempered by how uncertain the
group's is. If its mass is on one label, the image says little for or against it; over many labels
the uncertainty averages out, and the image decides. This is the moderated output of a classifier
with an uncertain activation (MacKay, "The Evidence Framework Applied to Classification Networks",
1992): κ = 1/√(1 + π·variance/8). `python -m benchmarks.rules` measures it against labels that have
lost their support images, and against a vocabulary of labels that are never right.
"""

from __future__ import annotations

import numpy as np

from trustvlm.types.arrays import Float64s

__all__ = ["BARE_DEFICIT", "BARE_SPREAD", "general_evidence", "posterior"]

BARE_DEFICIT = 1.0
"""Nats by which a label without support images is less likely than one with them, other things
equal."""

BARE_SPREAD = 10.0
"""Standard deviation, in nats, of the evidence of one such label."""


def general_evidence(background: Float64s, tau: float) -> Float64s:
    """(n,) log mean_a e^(z·P_a/τ): the image evidence expected of a bare label.

    Args:
        background: (n, a) similarities of the queries to the sample A of prototypes, a ≥ 1.
    """
    scaled = background / tau
    top = scaled.max(axis=1)
    expected: Float64s = top + np.log(np.exp(scaled - top[:, np.newaxis]).mean(axis=1))
    return expected


def posterior(
    log_p: Float64s,
    evidence: Float64s,
    general: Float64s,
    rest: Float64s,
    verified: Float64s,
    weight: float = 1.0,
) -> Float64s:
    """(n, m) probability of each candidate given text and image.

    With S = Σ p_j·e^(λ·e_j) and A = Σ p_j over the candidates that have a prototype, and B = Σ p_j
    over the bare ones:

        log odds of "has a prototype" = log(A/B) + κ·(log(S/A) − λ·(general − deficit)),
        κ = 1/√(1 + π·(λ·spread)²·Σ(p_j/B)²/8), the last sum over the bare ones;

    within the first group q_j ∝ p_j·e^(λ·e_j), within the second q_j ∝ p_j. Labels that are no
    candidates take part as far as their share says: `verified` of their probability is in the first
    group, with the general evidence, the rest of it in the second, each label too improbable to
    count in Σ(p_j/B)². Without bare labels this is q_j = p_j·e^(e_j) / (Σ_C p_i·e^(e_i)
    + (1 − Σ_C p_i)·e^general).

    Args:
        log_p: (n, m) log of the text softmax; −inf where padded.
        evidence: (n, m) e_j = c_j/τ; NaN for a label without a prototype.
        general: (n,) from :func:`general_evidence`.
        rest: (n,) probability of all labels that are not candidates.
        verified: (n,) share of those labels that have a prototype.
        weight: λ ≥ 0; at 0 the posterior is the text softmax.
    """
    bare = np.isnan(evidence)
    with np.errstate(divide="ignore"):
        outside, outside_bare = np.log(rest) + np.log(verified), np.log(rest) + np.log1p(-verified)
    verified_p = np.where(bare, -np.inf, log_p)
    bare_p = np.where(bare, log_p, -np.inf)
    joint = verified_p + weight * np.where(bare, 0.0, evidence)
    mass, bare_mass = _log_sum(verified_p, outside), _log_sum(bare_p, outside_bare)
    fused = _log_sum(joint, outside + weight * general)
    with np.errstate(invalid="ignore"):  # −inf − −inf, where a group is empty
        concentration = np.exp(2 * (bare_p - bare_mass[:, np.newaxis])).sum(axis=1)
        tempered = 1 / np.sqrt(1 + np.pi / 8 * (weight * BARE_SPREAD) ** 2 * concentration)
        odds = mass - bare_mass + tempered * (fused - mass - weight * (general - BARE_DEFICIT))
        odds = np.where(np.isneginf(mass), -np.inf, odds)
        odds = np.where(np.isneginf(bare_mass), np.inf, odds)[:, np.newaxis]
        within_verified = joint - fused[:, np.newaxis] - np.logaddexp(0, -odds)
        within_bare = bare_p - bare_mass[:, np.newaxis] - np.logaddexp(0, odds)
    q = np.exp(np.where(bare, within_bare, within_verified))
    return np.where(np.isneginf(log_p), 0.0, q)


def _log_sum(values: Float64s, further: Float64s) -> Float64s:
    """(n,) log of the sum of e^values of each row and of e^further; −inf for a sum of nothing."""
    top = np.maximum(values.max(axis=1), further)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        total = np.exp(values - top[:, np.newaxis]).sum(axis=1) + np.exp(further - top)
        log_sum: Float64s = top + np.log(total)
    return log_sum
