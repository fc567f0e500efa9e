"""What trust would be worth with fewer support images: rules computed again on random parts of
them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.scoring.candidates import Candidates
from trustvlm.scoring.image_evidence import BACKGROUND, ImageEvidence, fit_evidence
from trustvlm.scoring.prototypes import leave_one_out, mean_prototype
from trustvlm.scoring.rules import Rule
from trustvlm.scoring.vectors import unit_rows
from trustvlm.selective.metrics import aurc
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import Moments
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.evaluation import ShotOutcome

SHOTS = (0, 1, 2, 4, 8, 16)

MAX_LABELS = 2_000
"""Beyond this number the curve is not drawn: it computes every label of every image again."""

_ROWS = 256

Rules = Mapping[str, tuple[Rule, Mapping[str, float | None]]]


@dataclass(frozen=True, eq=False)
class SpaceLabels:
    """The N labels of a space, without aliases, and their M support images.

    Attributes:
        ids: (N,). text: (N, d_t) text prototypes. scale: of the logits.
        owners: (M,) the label of each support image. images: (M, d_v) raw embeddings.
    """

    ids: Int64s
    text: Float64s
    scale: float
    owners: Int64s
    images: Float64s


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
    context: Context, queries: tuple[Float64s, Float64s], truth: Int64s, rules: Rules, draws: int
) -> tuple[ShotOutcome, ...]:
    """AURC of the rules with 0, 1, 2, … support images a label, over `draws` random parts of the
    space's own; empty in a space of more than :data:`MAX_LABELS` labels.

    Numbers of images that half of the labels do not have are left out. Labels with fewer use what
    they have. Rules that look at single support images, beyond the candidates, or at whitened
    evidence, are left out.

    Args:
        queries: (n, d_t) and (n, d_v) unit vectors. truth: (n,) label ids.
    """
    rules = {
        name: chosen for name, chosen in rules.items()
        if not (chosen[0].beyond or chosen[0].neighbours or chosen[0].discriminant)
    }  # fmt: skip
    if not rules or context.subset.labels > MAX_LABELS:
        return ()
    labels = space_labels(context)
    typical = np.median([int((labels.owners == label).sum()) for label in labels.ids])
    outcomes = []
    for shots in SHOTS:
        if shots and typical < shots:
            break
        values: dict[str, list[float]] = {name: [] for name in rules}
        for number in range(draws if shots else 1):
            may_stop()
            rng = np.random.default_rng([0, shots, number])
            part = _draw(labels, shots, rng)
            for name, area in _areas(labels, part, queries, truth, rules).items():
                values[name].append(area)
        outcomes += [
            ShotOutcome(shots, name, float(np.mean(areas)), min(areas), max(areas))
            for name, areas in values.items()
        ]
    return tuple(outcomes)


def space_labels(context: Context) -> SpaceLabels:
    """The labels of a space, without aliases, and their support images."""
    view, aliases = context.view, context.view.aliases.canonical
    live = np.flatnonzero(view.text.alive)
    slots = live[[int(label) not in aliases for label in view.text.ids[live]]]
    ids, text = view.text.ids[slots], view.text.take(slots).astype(np.float64)
    owners, _, raw = supports.embeddings(context.connection, ids.tolist(), view.space.verifier_dim)
    return SpaceLabels(ids, text, view.space.logit_scale, owners, raw.astype(np.float64))


def _draw(labels: SpaceLabels, shots: int, rng: np.random.Generator) -> _Draw:
    """Up to `shots` support images of each label, at random."""
    ids, owners, raw = labels.ids, labels.owners, labels.images
    rows = [np.sort(rng.permutation(np.flatnonzero(owners == label))[:shots]) for label in ids]
    columns = np.flatnonzero([len(part) > 0 for part in rows])
    chosen = np.concatenate(rows)
    images, image_owners = raw[chosen], owners[chosen]
    prototypes = np.array([mean_prototype(raw[rows[c]]) for c in columns], dtype=np.float64)
    prototypes = prototypes.reshape(len(columns), raw.shape[1])
    order = np.argsort(ids[columns])
    left_out = (
        leave_one_out(images, image_owners, np.arange(len(chosen))) if len(chosen) else np.empty(0)
    )
    unit = unit_rows(images) if len(chosen) else images
    evidence = fit_evidence(unit, image_owners, left_out, ids[columns][order], prototypes[order])
    return _Draw(columns, prototypes, evidence)


def _areas(
    labels: SpaceLabels,
    part: _Draw,
    queries: tuple[Float64s, Float64s],
    truth: Int64s,
    rules: Rules,
) -> dict[str, float]:
    """AURC of each rule; every label is a candidate."""
    trust: dict[str, list[Float64s]] = {name: [] for name in rules}
    label: dict[str, list[Int64s]] = {name: [] for name in rules}
    for start in range(0, len(truth), _ROWS):
        may_stop()
        classifier, verifier = (side[start : start + _ROWS] for side in queries)
        logit = labels.scale * classifier @ labels.text.T
        candidates = _candidates(logit, verifier, part)
        for name, (rule, parameters) in rules.items():
            judgement = rule.judge(candidates, parameters)
            chosen = (judgement.quantity if rule.relabels else logit).argmax(axis=1)
            trust[name].append(judgement.trust[np.arange(len(logit)), chosen])
            label[name].append(labels.ids[chosen])
    return {
        name: aurc(np.concatenate(trust[name]), np.concatenate(label[name]) == truth)
        for name in rules
    }


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
