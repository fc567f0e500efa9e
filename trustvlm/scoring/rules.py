"""Trust rules: pure functions from candidate labels to trust, in one table (:data:`RULES`).

Larger trust = more likely correct. docs/rules.md has the formulas: those of TrustVLM (Dong et al.,
arXiv 2505.23745), the baselines it compares with, and the posteriors of this project. Every rule
sees m candidates of n queries and works in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.candidates import Candidates
from trustvlm.scoring.discriminant.rule import discriminant_posterior
from trustvlm.scoring.posterior import general_evidence, posterior
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.bounds import number
from trustvlm.types.messages.meant import did_you_mean

DEFAULT_RULE = "posterior"

NEIGHBOURS = 20
"""k of the rule `knn`, the value of Caron et al. 2021."""

_SHORTEST = 1e-6  # a distance below this is rounding of two equal unit vectors

# A close rival has this share of the label's probability, or of a sum of probabilities; of a sum
# with cosines, where every label has much, a larger one; and never less than the last.
_CLOSE, _CLOSE_COSINES, _CLOSE_LEAST = 0.5, 0.9, 0.2


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
        kind: what it looks at: "text", "image", or both ("fused").
        parameters: names and defaults of what it accepts; None: found from the support images.
        probability: trust is a probability.
        relabels: it predicts argmax of its quantity instead of argmax p.
        beyond: a label outside the candidates can win it (it relabels by a sum over all labels).
        neighbours: it looks at the nearest support images. discriminant: at whitened evidence.
        absolute: its trust changes when one number is added to all logits, so that probabilities do
            not determine it.
        of_label: its trust belongs to a label; else to the query, and is the same for every label.
        reach: which labels can be its answer or its rival: "text" leaders, those of the largest
            "sum" p + λ·c, or any of the "candidates".
        least, most: ends of the range of its trust, each a number and how much λ adds to it.
        logits: its quantity is a logit. cosines: its trust adds cosines, which are never far apart.
    """

    judge: Callable[[Candidates, Mapping[str, float | None]], Judgement]
    kind: Literal["text", "image", "fused"]
    parameters: Mapping[str, float | None] = field(default_factory=dict)
    probability: bool = False
    relabels: bool = False
    beyond: bool = False
    neighbours: bool = False
    discriminant: bool = False
    absolute: bool = False
    of_label: bool = True
    reach: Literal["text", "sum", "candidates"] = "candidates"
    least: tuple[float, float] = (-math.inf, 0.0)
    most: tuple[float, float] = (math.inf, 0.0)
    logits: bool = False
    cosines: bool = False

    def trust_range(self, parameters: Mapping[str, float | None]) -> tuple[float, float]:
        """The lowest and the highest trust of any label; infinite where nothing bounds it."""
        weight = parameters.get("lambda") or 0.0
        (low, low_added), (high, high_added) = self.least, self.most
        return low + weight * low_added, high + weight * high_added

    @property
    def uses_images(self) -> bool:
        """It needs verifier embeddings."""
        return self.kind != "text"


def _value(parameters: Mapping[str, float | None], name: str) -> float:
    value = parameters[name]
    assert value is not None  # it has a default
    return value


def _both(values: Float64s) -> Judgement:
    """A quantity that is the trust as well."""
    return Judgement(values, values)


def _of_query(candidates: Candidates, trust: Float64s) -> Judgement:
    """A trust that belongs to the query and not to a label; the rival goes by p."""
    every_label = np.repeat(trust[:, np.newaxis], candidates.logit.shape[1], axis=1)
    return Judgement(candidates.p, every_label)


def _largest_other(values: Float64s) -> Float64s:
    """(n, m) the largest of the other entries of each row; −inf in a row of one."""
    if values.shape[1] < 2:
        return np.full(values.shape, -np.inf)
    ordered = np.sort(values, axis=1)
    best, second = ordered[:, -1:], ordered[:, -2:-1]
    first = np.arange(values.shape[1]) == values.argmax(axis=1)[:, np.newaxis]
    return np.where(first, second, best)


def _msp(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """p_ŷ: the maximum softmax probability (Hendrycks & Gimpel 2017; MCM for CLIP, Ming et al.
    2022)."""
    return _both(candidates.p)


def _max_logit(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """s·x·t_ŷ (Hendrycks et al. 2022, "Scaling Out-of-Distribution Detection for Real-World
    Settings")."""
    return _both(candidates.logit)


def _margin(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """p_ŷ − the largest other p (Scheffer, Decomain, Wrobel 2001); p_ŷ − 0 where there is no
    other."""
    return Judgement(candidates.p, candidates.p - np.maximum(_largest_other(candidates.p), 0.0))


def _entropy(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """−H(p) = Σ p·log p over all labels (Shannon 1948)."""
    return _of_query(candidates, candidates.moments.negative_entropy)


def _energy(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """log Σ e^(s·x·t_j) over all labels: the negative free energy (Liu et al. 2020)."""
    return _of_query(candidates, candidates.moments.log_z)


def _doctor(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """1 − (1 − Σp²)/Σp² over all labels: DOCTOR-α (Granese et al. 2021), turned so that larger is
    better."""
    impurity = candidates.moments.impurity
    return _of_query(candidates, 1 - impurity / (1 - impurity))


def _image(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """c_ŷ: similarity of the image and the predicted label's prototype alone."""
    return _both(candidates.filled)


def _ratio(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """Distance to the nearest other prototype / distance to P_ŷ, both Euclidean between unit
    vectors.

    After the trust score of Jiang et al. 2018 ("To Trust Or Not To Trust A Classifier"), with
    prototypes in place of their high-density sets. Where there is no other prototype its distance
    is 2, the largest there is.
    """
    filled, similarity = candidates.filled, candidates.similarity
    distance = np.sqrt(np.maximum(2 - 2 * filled, 0.0))
    other = _largest_other(np.where(np.isnan(similarity), -np.inf, similarity))
    other = np.maximum(other, -1.0)
    trust = np.sqrt(np.maximum(2 - 2 * other, 0.0)) / np.maximum(distance, _SHORTEST)
    return Judgement(filled, trust)


def _knn(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """Share of ŷ in the votes of the k = 20 nearest support images, each of weight
    e^(similarity/T).

    The weighted nearest-neighbour classifier of Wu et al. 2018 with the T = 0.07 and k of Caron et
    al. 2021 (DINO).
    """
    votes = np.zeros(candidates.logit.shape)
    neighbours = candidates.neighbours
    assert neighbours is not None
    if neighbours.similarity.shape[1]:
        best = neighbours.similarity.max(axis=1, keepdims=True)
        margin = neighbours.similarity - np.where(np.isneginf(best), 0.0, best)
        weight = np.exp(margin / _value(parameters, "temperature"))
        total = weight.sum(axis=1, keepdims=True)
        share = weight / np.where(total > 0, total, 1.0)
        rows, ranks = np.nonzero(neighbours.column >= 0)
        np.add.at(votes, (rows, neighbours.column[rows, ranks]), share[rows, ranks])
    return _both(votes)


def _trustvlm(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """p_ŷ + λ·c_ŷ (the paper)."""
    return _both(candidates.p + _value(parameters, "lambda") * candidates.filled)


def _trustvlm_star(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """y* = argmax_j (p_j + λ·softmax_j(c/T)); trust = that maximum + λ·c_{y*} (the paper's starred
    variant).

    The softmax runs over the labels that have support images; the others get nothing from it.
    """
    assert candidates.image_log_z is not None
    weight = _value(parameters, "lambda")
    with np.errstate(invalid="ignore"):  # −inf − −inf, where nothing has a prototype
        scaled = candidates.similarity / _value(parameters, "temperature")
        softmax = np.exp(scaled - candidates.image_log_z[:, np.newaxis])
    quantity = candidates.p + weight * np.where(np.isnan(candidates.similarity), 0.0, softmax)
    return Judgement(quantity, quantity + weight * candidates.filled)


def _posterior(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """q_ŷ, the probability of ŷ given text and image:
    :func:`trustvlm.scoring.posterior.posterior`.

    q = p without prototypes, and where the support images do not tell the labels apart (the guard),
    unless τ is given.
    """
    evidence, tau = candidates.evidence, parameters["tau"]
    if tau is None and evidence is not None and evidence.on:
        tau = evidence.tau
    if tau is None or candidates.background is None or not candidates.background.shape[1]:
        return _both(candidates.p)
    log_p = candidates.log_p
    if not candidates.valid.all():
        log_p = np.where(candidates.valid, log_p, -np.inf)
    general = general_evidence(candidates.background, tau)
    weight, verified = _value(parameters, "lambda"), candidates.verified_outside
    evidence_of = candidates.similarity / tau
    return _both(posterior(log_p, evidence_of, general, candidates.rest, verified, weight))


def _lda(candidates: Candidates, parameters: Mapping[str, float | None]) -> Judgement:
    """q_ŷ with the evidence of a discriminant, and the text's bias taken off:
    :func:`trustvlm.scoring.discriminant.rule.discriminant_posterior`.

    q = p without verifier embeddings or prototypes.
    """
    values = candidates.discriminant
    if values is None or not values.background.shape[1]:
        return _both(candidates.p)
    log_p = np.where(candidates.valid, candidates.log_p, -np.inf)
    verified = candidates.verified_outside
    return _both(discriminant_posterior(log_p, values, candidates.rest, verified, parameters))


_STAR: dict[str, float | None] = {"lambda": 1.0, "temperature": 0.01}
_BAYES: dict[str, float | None] = {"lambda": 1.0, "tau": None}
_WHITE: dict[str, float | None] = _BAYES | {"towers": None}

_ONE = (1.0, 0.0)  # the largest share, at every λ
_NIL = (0.0, 0.0)

RULES: dict[str, Rule] = {
    "msp": Rule(_msp, "text", reach="text", probability=True, least=_NIL, most=_ONE),
    "max_logit": Rule(_max_logit, "text", absolute=True, reach="text", logits=True),
    "margin": Rule(_margin, "text", reach="text", least=(-1.0, 0.0), most=_ONE),
    "entropy": Rule(_entropy, "text", of_label=False, reach="text", most=_NIL),
    "energy": Rule(_energy, "text", absolute=True, of_label=False, reach="text"),
    "doctor": Rule(_doctor, "text", of_label=False, reach="text", most=_ONE),
    "image": Rule(_image, "image", cosines=True, least=(-1.0, 0.0), most=_ONE),
    "knn": Rule(_knn, "image", {"temperature": 0.07}, neighbours=True, least=_NIL, most=_ONE),
    "ratio": Rule(_ratio, "image", cosines=True, least=_NIL),
    "trustvlm": Rule(
        _trustvlm, "fused", {"lambda": 1.0}, reach="sum", cosines=True,
        least=(0.0, -1.0), most=(1.0, 1.0),
    ),
    "trustvlm_star": Rule(
        _trustvlm_star, "fused", _STAR, relabels=True, beyond=True, cosines=True,
        least=(0.0, -1.0), most=(1.0, 2.0),
    ),
    "posterior": Rule(
        _posterior, "fused", _BAYES, probability=True, least=_NIL, most=_ONE,
    ),
    "posterior_star": Rule(
        _posterior, "fused", _BAYES, probability=True, relabels=True, least=_NIL, most=_ONE,
    ),
    "lda": Rule(
        _lda, "fused", _WHITE, probability=True, discriminant=True, least=_NIL, most=_ONE,
    ),
    "lda_star": Rule(
        _lda, "fused", _WHITE, probability=True, relabels=True, discriminant=True, least=_NIL,
        most=_ONE,
    ),
}  # fmt: skip
"""Name → rule. The command line and the service list what stands here."""

_PARAMETERS = ("lambda", "temperature", "tau", "towers")  # all that rules can have


def resolve_parameters(
    name: str | None, given: Mapping[str, float | None] | None
) -> tuple[str, Rule, dict[str, float | None]]:
    """The rule `name` (None: :data:`DEFAULT_RULE`) and its parameters, the given ones over the
    defaults.

    A parameter given as None means its default.

    Raises:
        InvalidInput: unknown rule or parameter, or a value out of range.
    """
    name = DEFAULT_RULE if name is None else name
    if not isinstance(name, str) or name not in RULES:
        meant = did_you_mean(name, RULES)
        raise InvalidInput(f"rule: expected one of {', '.join(RULES)}; got {name!r}{meant}")
    rule, resolved = RULES[name], dict(RULES[name].parameters)
    if given is not None and not isinstance(given, Mapping):
        raise InvalidInput(
            f"params: expected a mapping such as {{'lambda': 1.0}}, got {given!r:.60}"
        )
    for key, value in (given or {}).items():
        if value is None and key in _PARAMETERS:
            continue  # not given
        if key not in rule.parameters:
            names = ", ".join(rule.parameters) or "none"
            meant = did_you_mean(key, rule.parameters)
            raise InvalidInput(
                f"params: rule {name!r} has no parameter {key!r} (it has: {names}){meant}"
            )
        resolved[key] = number(f"params: {key}", value, bounds=key)
    return name, rule, resolved


def require_text_rules(names: Iterable[str], dim: int) -> None:
    """Make sure that no rule looks at images, where there are no verifier embeddings (of `dim`
    values). Raises InvalidInput."""
    for name in names:
        if RULES[name].uses_images:
            raise InvalidInput(
                f"queries.verifier: rule {name!r} needs verifier embeddings of {dim} values; none "
                f"were given"
            )


def close_calls(
    rule: Rule, judgement: Judgement, p: Float64s, label: Int64s, rival: Int64s
) -> Bools:
    """(n,) whether the rival is close to the label in the rule's own quantity.

    A rule of logits compares them as softmax probabilities. Where cosines are added, so that every
    label has a large sum, the rival must also not be far behind in trust and, unless the rule
    relabels, in text probability.

    Args:
        judgement: (n, m) quantity and trust of the candidates. p: (n, m) their softmax probability.
        label, rival: (n,) columns of the two.
    """
    at = np.arange(len(p))

    def has_share(values: Float64s, least: float) -> Bools:
        best, other = values[at, label], values[at, rival]
        # Below 0 a share says nothing: as large, or larger.
        close: Bools = (other >= np.minimum(best, least * best)) & ((other > 0) | (best < 0))
        return close

    if not rule.cosines:
        return has_share(p if rule.logits else judgement.quantity, _CLOSE)
    in_trust = has_share(judgement.trust, _CLOSE_LEAST)
    if rule.relabels:  # by a sum of two probabilities; the cosines come in with the trust
        return has_share(judgement.quantity, _CLOSE) & in_trust
    return has_share(judgement.quantity, _CLOSE_COSINES) & in_trust & has_share(p, _CLOSE_LEAST)
