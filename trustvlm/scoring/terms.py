"""The text term and the image term of a trust, to show people.

The text term is what the rule would say of the label without image evidence (λ = 0), and the image
term is what the images add to it or take away: trust = text + image for every rule that looks at
both. For the sums `trustvlm` and `trustvlm_star` that is p and λ times the similarities; a
posterior is no sum, but at λ = 0 it is the text softmax p, and q − p is by how much the images
moved it. Rules that look at one side only have one term, the trust itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from trustvlm.scoring.rules import RULES
from trustvlm.types.arrays import Float64s


def terms_of(
    rule: str, trust: Float64s, confidence: Float64s
) -> tuple[Float64s | None, Float64s | None]:
    """(text, image) terms of n labels' trust; None for a side that the rule does not look at.

    Args:
        trust: (n,) under the rule. confidence: (n,) text softmax probability of the same labels.
    """
    kind = RULES[rule].kind
    if kind == "text":
        return trust, None
    if kind == "image":
        return None, trust
    return confidence, trust - confidence


def _share(_: float) -> tuple[float, float]:
    return 0.0, 1.0


RANGES: dict[str, Callable[[float], tuple[float, float]] | None] = {
    "msp": _share,
    "max_logit": None,
    "margin": lambda _: (-1.0, 1.0),  # below 0 for a label that is not the most probable one
    "entropy": None,
    "energy": None,
    "doctor": None,
    "image": lambda _: (-1.0, 1.0),
    "knn": _share,
    "ratio": None,
    "trustvlm": lambda weight: (-weight, 1 + weight),
    "trustvlm_star": lambda weight: (-weight, 1 + 2 * weight),
    "posterior": _share,
    "posterior_star": _share,
    "lda": _share,
    "lda_star": _share,
}
"""Rule → (lowest, highest) trust by λ; None where it has no bounds that a space does not set."""


def trust_range(rule: str, parameters: Mapping[str, float | None]) -> tuple[float, float] | None:
    """The lowest and highest trust that a rule can give, as the ends of a scale; None: it has no
    bounds."""
    bounds, weight = RANGES[rule], parameters.get("lambda")
    return None if bounds is None else bounds(1.0 if weight is None else weight)
