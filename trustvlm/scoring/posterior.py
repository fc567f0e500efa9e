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

import math
from dataclasses import dataclass

import numpy as np

from trustvlm.softmax.dense import log_sums
from trustvlm.types.arrays import Float64s, Floats

BARE_DEFICIT = 1.0
"""Nats by which a label without support images is less likely than one with them, other things
equal."""

BARE_SPREAD = 10.0
"""Standard deviation, in nats, of the evidence of one such label."""


_LEAST = 5e-324  # the smallest probability that has a logarithm


def general_evidence(background: Floats, tau: float) -> Float64s:
    """(n,) log mean_a e^(z·P_a/τ): the image evidence expected of a bare label.

    Args:
        background: (n, a) similarities of the queries to the sample A of prototypes, a ≥ 1.
    """
    return log_sums(background, 1.0 / tau) - math.log(background.shape[1])


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
    if not has_bare(log_p, evidence, verified):
        joint = log_p + (evidence if weight == 1.0 else weight * evidence)
        np.copyto(joint, -np.inf, where=np.isnan(joint))  # padded
        outside = np.log(np.maximum(rest, _LEAST)) + weight * general
        top = np.maximum(joint.max(axis=1), outside)
        joint -= top[:, np.newaxis]
        fused = np.exp(joint, out=joint)
        fused /= (fused.sum(axis=1) + np.exp(outside - top))[:, np.newaxis]
        return fused
    groups = groups_of(log_p, evidence, general, rest, verified, weight)
    return within_groups(log_p, evidence, groups, groups.tempered_odds(weight), weight)


@dataclass(frozen=True, eq=False)
class Groups:
    """n queries' labels as two groups, those with a prototype and bare ones.

    Attributes:
        mass, bare_mass: (n,) log A and log B, the text probability of each group.
        fused: (n,) log S. gain: (n,) log(S/A) − λ·general.
        concentration: (n,) Σ(p_j/B)² over the bare ones.
    """

    mass: Float64s
    bare_mass: Float64s
    fused: Float64s
    gain: Float64s
    concentration: Float64s

    @property
    def text_odds(self) -> Float64s:
        """(n,) log(A/B)."""
        return self.mass - self.bare_mass

    def tempered_odds(self, weight: float) -> Float64s:
        """(n,) log odds of "has a prototype", from :func:`posterior`."""
        tempered = 1 / np.sqrt(1 + np.pi / 8 * (weight * BARE_SPREAD) ** 2 * self.concentration)
        odds: Float64s = self.text_odds + tempered * (self.gain + weight * BARE_DEFICIT)
        return odds


def groups_of(
    log_p: Float64s,
    evidence: Float64s,
    general: Float64s,
    rest: Float64s,
    verified: Float64s,
    weight: float,
) -> Groups:
    """The two groups; arguments as of :func:`posterior`. Values of an empty group are NaN or
    infinite."""
    bare = np.isnan(evidence)
    with np.errstate(divide="ignore", invalid="ignore"):  # −inf − −inf, where a group is empty
        outside, outside_bare = np.log(rest) + np.log(verified), np.log(rest) + np.log1p(-verified)
        bare_p = np.where(bare, log_p, -np.inf)
        joint = np.where(bare, -np.inf, log_p + weight * _evidence_or_zero(evidence))
        mass = log_sum(np.where(bare, -np.inf, log_p), outside)
        bare_mass = log_sum(bare_p, outside_bare)
        fused = log_sum(joint, outside + weight * general)
        gain = fused - mass - weight * general
        concentration = np.exp(2 * (bare_p - bare_mass[:, np.newaxis])).sum(axis=1)
    return Groups(mass, bare_mass, fused, gain, concentration)


def within_groups(
    log_p: Float64s, evidence: Float64s, groups: Groups, odds: Float64s, weight: float
) -> Float64s:
    """(n, m) probability of each candidate, given the (n,) log odds of "has a prototype"."""
    bare = np.isnan(evidence)
    joint = log_p + weight * _evidence_or_zero(evidence)
    odds = np.where(np.isneginf(groups.mass), -np.inf, odds)
    odds = np.where(np.isneginf(groups.bare_mass), np.inf, odds)[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        within_verified = joint - groups.fused[:, np.newaxis] - np.logaddexp(0, -odds)
        within_bare = log_p - groups.bare_mass[:, np.newaxis] - np.logaddexp(0, odds)
    q = np.exp(np.where(bare, within_bare, within_verified))
    return np.where(np.isneginf(log_p), 0.0, q)


def _evidence_or_zero(evidence: Float64s) -> Float64s:
    """The evidence, 0 where there is none."""
    bare = np.isnan(evidence)
    return np.where(bare, 0.0, evidence) if bare.any() else evidence


def has_bare(log_p: Float64s, evidence: Float64s, verified: Float64s) -> bool:
    """Whether a label without a prototype has any text probability."""
    bare = np.isnan(evidence)
    return bool((verified != 1.0).any() or (bare.any() and not np.isneginf(log_p[bare]).all()))


def log_sum(values: Float64s, further: Float64s | float = -np.inf) -> Float64s:
    """(n,) log of the sum of e^values of each row and of e^further; −inf for a sum of nothing."""
    top = np.maximum(values.max(axis=1), further)
    top = np.where(np.isneginf(top), 0.0, top)
    with np.errstate(divide="ignore"):
        total = np.exp(values - top[:, np.newaxis]).sum(axis=1) + np.exp(further - top)
        total_log: Float64s = top + np.log(total)
    return total_log
