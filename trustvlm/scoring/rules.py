"""Trust rules: pure functions from candidate labels to trust, in one table (:data:`RULES`).

Larger trust = more likely correct. The formulas are those of TrustVLM (Dong et al., arXiv 2505.23745) and the baselines
it compares with. Every rule sees m candidates of n queries and works in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from numbers import Real

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.types import Bools, Float64s

__all__ = ["DEFAULT_RULE", "RULES", "Candidates", "Judgement", "Rule", "resolve_parameters"]

DEFAULT_RULE = "trustvlm"


@dataclass(frozen=True)
class Candidates:
    """What is known of m candidate labels of each of n queries.

    Attributes:
        p: (n, m) softmax probability over all labels; 0 where padded.
        similarity: (n, m) c_j = z·P_j; NaN where the label has no prototype.
        imputed: c̃, the similarity assumed where there is no prototype.
        image_log_z: (n,) log Σ e^(c_j/T) over all labels with a prototype, for the rule that asks for it, else None.
        valid: (n, m) False where padded.
    """

    p: Float64s
    similarity: Float64s
    imputed: float
    image_log_z: Float64s | None
    valid: Bools

    @property
    def filled(self) -> Float64s:
        """(n, m) c_j, with c̃ where the label has no support image."""
        return np.where(np.isnan(self.similarity), self.imputed, self.similarity)


@dataclass(frozen=True)
class Judgement:
    """What a rule says of every candidate.

    Attributes:
        quantity: (n, m) the rule's own quantity: what the rival is the second largest of.
        trust: (n, m) the trust the query would get if that candidate were the prediction.
    """

    quantity: Float64s
    trust: Float64s


@dataclass(frozen=True)
class Rule:
    """One entry of the table.

    Attributes:
        judge: (candidates, parameters) → judgement.
        parameters: names and defaults of what it accepts.
        uses_images: it needs verifier embeddings.
        relabels: it predicts argmax of its quantity instead of argmax p.
    """

    judge: Callable[[Candidates, Mapping[str, float]], Judgement]
    parameters: Mapping[str, float] = field(default_factory=dict)
    uses_images: bool = True
    relabels: bool = False


def _msp(candidates: Candidates, parameters: Mapping[str, float]) -> Judgement:
    """p_ŷ: the maximum softmax probability (Hendrycks & Gimpel 2017; MCM for CLIP, Ming et al. 2022)."""
    return Judgement(candidates.p, candidates.p)


def _image(candidates: Candidates, parameters: Mapping[str, float]) -> Judgement:
    """c_ŷ: similarity of the image and the predicted label's prototype alone."""
    return Judgement(candidates.filled, candidates.filled)


def _trustvlm(candidates: Candidates, parameters: Mapping[str, float]) -> Judgement:
    """p_ŷ + λ·c_ŷ (the paper)."""
    total = candidates.p + parameters["lambda"] * candidates.filled
    return Judgement(total, total)


def _trustvlm_star(candidates: Candidates, parameters: Mapping[str, float]) -> Judgement:
    """y* = argmax_j (p_j + λ·softmax_j(c/T)); trust = that maximum + λ·c_{y*} (the paper's starred variant).

    The softmax runs over the labels that have support images; the others get nothing from it.
    """
    assert candidates.image_log_z is not None
    weight = parameters["lambda"]
    with np.errstate(invalid="ignore"):  # −inf − −inf, where nothing has a prototype
        softmax = np.exp(candidates.similarity / parameters["temperature"] - candidates.image_log_z[:, np.newaxis])
    quantity = candidates.p + weight * np.where(np.isnan(candidates.similarity), 0.0, softmax)
    return Judgement(quantity, quantity + weight * candidates.filled)


RULES: dict[str, Rule] = {
    "msp": Rule(_msp, uses_images=False),
    "image": Rule(_image),
    "trustvlm": Rule(_trustvlm, {"lambda": 1.0}),
    "trustvlm_star": Rule(_trustvlm_star, {"lambda": 1.0, "temperature": 0.01}, relabels=True),
}
"""Name → rule. The command line and the service list what stands here."""

_BOUNDS = {"lambda": (0.0, 1e6), "temperature": (1e-4, 1e4), "tau": (1e-4, 1e4)}
"""Every parameter that rules can have (API.md), with its range."""


def resolve_parameters(name: str | None, given: Mapping[str, float | None] | None) -> tuple[str, Rule, dict[str, float]]:
    """The rule `name` (None: :data:`DEFAULT_RULE`) and its parameters, the given ones over the defaults.

    A parameter given as None means its default.

    Raises:
        InvalidInput: unknown rule, a parameter that the rule does not have, or a value out of range.
    """
    name = DEFAULT_RULE if name is None else name
    if not isinstance(name, str) or name not in RULES:
        raise InvalidInput(f"rule: expected one of {', '.join(RULES)}; got {name!r}")
    rule = RULES[name]
    resolved = dict(rule.parameters)
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(f"params: expected a mapping such as {{'lambda': 1.0}}, got {given!r:.60}")
    for key, value in (given or {}).items():
        if value is None and key in _BOUNDS:
            continue  # not given
        if key not in rule.parameters:
            known = ", ".join(rule.parameters) or "none"
            raise InvalidInput(f"params: rule {name!r} has no parameter {key!r} (it has: {known})")
        low, high = _BOUNDS[key]
        number = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
        if not low <= number <= high:
            raise InvalidInput(f"params: {key} must be a number from {low:g} to {high:g}, got {value!r}")
        resolved[key] = number
    return name, rule, resolved
