"""What a calibration chooses from: every rule, with a few values of each of its parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

from trustvlm.scoring.evidence import ImageEvidence
from trustvlm.scoring.rules import DEFAULT_RULE, RULES, Rule, resolve_parameters

__all__ = ["Configuration", "configurations"]

_WEIGHTS = (1.0, 0.1, 0.3, 3.0)
_TEMPERATURES = (0.01, 0.03, 0.1)
_SHARPER = (None, 0.5, 2.0)  # τ as fitted, and so many times it


@dataclass(frozen=True)
class Configuration:
    """A rule with its parameters."""

    name: str
    rule: Rule
    parameters: Mapping[str, float | None]


def configurations(
    rule: str, params: Mapping[str, float | None] | None, evidence: ImageEvidence, *, images: bool
) -> list[Configuration]:
    """The configurations to compare, the plainest first: the default rule's own values, then each rule's, then variations.

    Args:
        rule: "auto" for all, or the name of one. params: parameters that are not up for choice.
        evidence: what the support images say; τ is varied around the fitted one.
        images: whether there are verifier embeddings; without, only rules on text alone are compared.
    """
    names = [DEFAULT_RULE, *(name for name in RULES if name != DEFAULT_RULE)] if rule == "auto" else [rule]
    if not images and rule == "auto":
        names = [name for name in names if not RULES[name].uses_images]
    plain: list[Configuration] = []
    varied: list[Configuration] = []
    for name in names:
        fixed = resolve_parameters(name, params if rule != "auto" else None)
        for place, values in enumerate(product(*_choices(fixed[1], params, evidence))):
            given = dict(zip(fixed[1].parameters, values, strict=True))
            (varied if place else plain).append(Configuration(name, fixed[1], fixed[2] | given))
    return plain + varied


def _choices(rule: Rule, params: Mapping[str, float | None] | None, evidence: ImageEvidence) -> list[tuple[float | None, ...]]:
    """The values to try of each parameter of the rule, its default first."""
    found: list[tuple[float | None, ...]] = []
    for name, default in rule.parameters.items():
        given = (params or {}).get(name)
        if given is not None:
            found.append((float(given),))
        elif name == "tau":
            fitted = evidence.tau if evidence.source == "fitted" and evidence.on else None
            found.append(tuple(m if m is None else m * fitted for m in _SHARPER) if fitted is not None else (None,))
        elif name == "lambda" and "tau" not in rule.parameters:  # beside a τ, λ says the same again
            found.append(_WEIGHTS)
        elif name == "temperature" and rule.beyond:
            found.append(_TEMPERATURES)
        else:
            found.append((default,))
    return found
