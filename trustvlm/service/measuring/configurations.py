"""What a comparison of rules compares: the rules that can say something, each with a few values of
its parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.scoring.rules import DEFAULT_RULE, RULES, Rule, resolve_parameters
from trustvlm.types import RuleLeftOut

_WEIGHTS = (1.0, 0.1, 0.3, 3.0)
_TEMPERATURES = (0.01, 0.03, 0.1)
_SHARPER = (None, 0.5, 2.0)  # τ as fitted, and factors to it


@dataclass(frozen=True)
class Configuration:
    """A rule with its parameters."""

    name: str
    rule: Rule
    parameters: Mapping[str, float | None]


def comparable(
    *, images: bool, prototypes: int, logits: bool, may_correct: bool = True, claims: bool = False
) -> tuple[list[str], tuple[RuleLeftOut, ...]]:
    """The rules that a comparison of all of them takes, in the order of the table, and those that
    it leaves out.

    Args:
        images: whether there are verifier embeddings. prototypes: how many labels have support
            images.
        logits: whether there are logits, not probabilities only.
        may_correct: whether rules may correct the classifier's labels.
        claims: it is about claimed labels.
    """
    reasons = {}
    for name, rule in RULES.items():
        if rule.uses_images and not images:
            reasons[name] = "no verifier embeddings were given"
        elif rule.kind == "image" and not prototypes:
            reasons[name] = "no label has support images to compare with"
        elif rule.absolute and not logits:
            reasons[name] = "an external classifier gives probabilities, not logits"
        elif claims and not rule.of_label:
            reasons[name] = "the trust is the same for every label and says nothing of a claim"
        elif rule.relabels and not may_correct:
            reasons[name] = "this call does not allow corrected labels"
    return [n for n in RULES if n not in reasons], tuple(
        RuleLeftOut(*item) for item in reasons.items()
    )


def configurations(
    names: Sequence[str], params: Mapping[str, float | None] | None, evidence: ImageEvidence
) -> list[Configuration]:
    """The configurations to compare, the plainest first: the default rule's own values, then each
    rule's, then variations.

    Args:
        names: rules. params: their parameters that are not up for choice.
        evidence: what the support images say; τ is varied around the fitted one.
    """
    plain: list[Configuration] = []
    varied: list[Configuration] = []
    for name in sorted(names, key=lambda name: name != DEFAULT_RULE):
        fixed = resolve_parameters(name, params)
        for place, values in enumerate(product(*_choices(fixed[1], params, evidence))):
            given = dict(zip(fixed[1].parameters, values, strict=True))
            (varied if place else plain).append(Configuration(name, fixed[1], fixed[2] | given))
    return plain + varied


def _choices(
    rule: Rule, params: Mapping[str, float | None] | None, evidence: ImageEvidence
) -> list[tuple[float | None, ...]]:
    """The values to try of each parameter of the rule, its default first."""
    choices: list[tuple[float | None, ...]] = []
    for name, default in rule.parameters.items():
        given = (params or {}).get(name)
        if given is not None:
            choices.append((float(given),))
        elif name == "tau" and not rule.discriminant:
            fitted = evidence.source == "fitted" and evidence.on
            sharper = tuple(m if m is None else m * evidence.tau for m in _SHARPER)
            choices.append(sharper if fitted else (None,))
        elif name == "lambda" and "tau" not in rule.parameters:  # beside a τ, λ says the same again
            choices.append(_WEIGHTS)
        elif name == "temperature" and rule.beyond:
            choices.append(_TEMPERATURES)
        else:
            choices.append((default,))
    return choices
