"""What trust would be worth with fewer support images: rules anew on random parts of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.scoring.image_evidence import BACKGROUND, ImageEvidence, fit_evidence
from trustvlm.scoring.prototypes import leave_one_out, mean_prototype
from trustvlm.scoring.rules import Candidates, Rule
from trustvlm.scoring.vectors import unit_rows
from trustvlm.selective.metrics import aurc
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import Moments
from trustvlm.system.stopping import may_stop
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.evaluation import ShotOutcome

__all__ = ["MAX_LABELS", "SHOTS", "drawable", "rules_of", "shot_curve"]

SHOTS = (0, 1, 2, 4, 8, 16)

MAX_LABELS = 2_000
"""Beyond so many labels the curve is not drawn: it computes every label of every image anew."""

_ROWS = 256


@dataclass(frozen=True, eq=False)
class _Draw:
    """Prototypes of some labels from a part of their support images.

    Attributes:
        columns: (p,) places of these labels among all. prototypes: (p, d_v). evidence: what the
            part says of itself.
    """

    columns: Int64s
    prototypes: Float64s
    evidence: ImageEvidence


def shot_curve(
    context: Context,
    classifier: Float64s,
    verifier: Float64s,
    truth: Int64s,
    rules: Mapping[str, tuple[Rule, Mapping[str, float | None]]],
    draws: int,
    seed: int = 0,
) -> tuple[ShotOutcome, ...]:
    """AURC of the rules with 0, 1, 2, … support images a label, over `draws` random parts of the
    space's own.

    Numbers of images that half of the labels do not have are left out. Labels with fewer use what
    they have. No rule that asks for single support images.

    Args:
        classifier: (n, d_t), verifier: (n, d_v) unit queries. truth: (n,) label ids.
    """
    view = context.view
    aliases = view.aliases.canonical
    slots = np.array(
        [
            s
            for s in np.flatnonzero(view.text.alive).tolist()
            if int(view.text.ids[s]) not in aliases
        ]
    )
    ids = view.text.ids[slots]
    owners, _, raw = supports.embeddings(context.connection, ids.tolist(), view.space.verifier_dim)
    counts = np.array([int((owners == label).sum()) for label in ids])
    found = []
    for shots in SHOTS:
        if shots and np.median(counts) < shots:
            break
        values: dict[str, list[float]] = {name: [] for name in rules}
        for draw in range(draws if shots else 1):
            may_stop()
            part = _drawn(
                ids,
                owners,
                raw.astype(np.float64),
                shots,
                np.random.default_rng([seed, shots, draw]),
            )
            for name, value in _areas(
                context, slots, ids, part, (classifier, verifier), truth, rules
            ).items():
                values[name].append(value)
        found += [
            ShotOutcome(shots, n, float(np.mean(v)), min(v), max(v)) for n, v in values.items()
        ]
    return tuple(found)


def _drawn(
    ids: Int64s, owners: Int64s, raw: Float64s, shots: int, rng: np.random.Generator
) -> _Draw:
    rows = [rng.permutation(np.flatnonzero(owners == label))[:shots] for label in ids]
    columns = np.flatnonzero([len(part) > 0 for part in rows])
    if not len(columns):
        none = np.empty((0, raw.shape[1]))
        return _Draw(
            columns,
            none,
            fit_evidence(none, np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64), none),
        )
    chosen = np.concatenate([np.sort(rows[c]) for c in columns])
    images, own = raw[chosen], owners[chosen]
    order = np.argsort(ids[columns])
    prototypes = np.array(
        [mean_prototype(raw[np.sort(rows[c])]) for c in columns], dtype=np.float64
    )
    left_out = leave_one_out(images, own, np.arange(len(chosen)))
    evidence = fit_evidence(
        unit_rows(images), own, left_out, ids[columns][order], prototypes[order]
    )
    return _Draw(columns, prototypes, evidence)


def _areas(
    context: Context,
    slots: Int64s,
    ids: Int64s,
    part: _Draw,
    queries: tuple[Float64s, Float64s],
    truth: Int64s,
    rules: Mapping[str, tuple[Rule, Mapping[str, float | None]]],
) -> dict[str, float]:
    """AURC of each rule; every label is a candidate."""
    trust: dict[str, list[Float64s]] = {name: [] for name in rules}
    right: dict[str, list[Int64s]] = {name: [] for name in rules}
    text = context.view.text.take(slots).astype(np.float64)
    for start in range(0, len(truth), _ROWS):
        may_stop()
        classifier, verifier = (side[start : start + _ROWS] for side in queries)
        logit = context.view.space.logit_scale * classifier @ text.T
        candidates = _candidates(logit, verifier, part)
        at = np.arange(len(logit))
        for name, (rule, parameters) in rules.items():
            judgement = rule.judge(candidates, parameters)
            chosen = (judgement.quantity if rule.relabels else logit).argmax(axis=1)
            trust[name].append(judgement.trust[at, chosen])
            right[name].append(ids[chosen] == truth[start : start + _ROWS])
    return {name: aurc(np.concatenate(trust[name]), np.concatenate(right[name])) for name in rules}


def _candidates(logit: Float64s, verifier: Float64s, part: _Draw) -> Candidates:
    top = logit.max(axis=1, keepdims=True)
    log_z = (top + np.log(np.exp(logit - top).sum(axis=1, keepdims=True)))[:, 0]
    log_p = logit - log_z[:, np.newaxis]
    p = np.exp(log_p)
    similarity = np.full(logit.shape, np.nan)
    similarity[:, part.columns] = verifier @ part.prototypes.T
    return Candidates(
        logit=logit,
        moments=Moments(log_z, (p * log_p).sum(axis=1), (p * (1 - p)).sum(axis=1)),
        similarity=similarity,
        imputed=part.evidence.imputed,
        image_log_z=None,
        valid=np.ones(logit.shape, np.bool_),
        rest=np.zeros(len(logit)),
        labels=logit.shape[1],
        prototypes=len(part.columns),
        evidence=part.evidence,
        background=verifier @ part.prototypes[:BACKGROUND].T,
    )


def drawable(rule: Rule) -> bool:
    """Whether the curve can be drawn for a rule: not for one that looks at single support images or
    beyond the candidates."""
    return not (rule.beyond or rule.neighbours)


def rules_of(names: Sequence[str | None]) -> list[str]:
    """The names that are there, each once."""
    return list(dict.fromkeys(name for name in names if name is not None))
