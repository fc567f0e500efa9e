"""Evaluating: how well each rule tells right from wrong on labelled images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import numpy as np

from trustvlm.catalog.rows import spaces, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, RULES, Rule, require_images, resolve_parameters
from trustvlm.selective.metrics import aurc
from trustvlm.selective.reliability import BINNING
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import (
    Observed,
    are_supports,
    observe,
    stored_images,
    truth_ids,
)
from trustvlm.service.measuring.items import check_items, evaluated_images
from trustvlm.service.measuring.outcome import right_rows, rule_outcome
from trustvlm.service.measuring.repeated import first_of_each
from trustvlm.service.measuring.shot_curve import MAX_LABELS, drawable, rules_of, shot_curve
from trustvlm.service.query.configurations import comparable
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.evidence import evidence_reader
from trustvlm.service.query.judge import Columns, judge_all
from trustvlm.system.stopping import may_stop
from trustvlm.types import Queries, RuleLeftOut
from trustvlm.types.array_input import texts
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.bounds import flags, number, whole
from trustvlm.types.evaluation import Evaluation, LabelOutcome, ShotOutcome, WrongImage
from trustvlm.types.options import EvaluateOptions

__all__ = ["evaluate", "evaluate_stored", "rule_names"]

Chosen = dict[str, tuple[Rule, Mapping[str, float | None]]]

_WRONG = 12
_PROFITS = 0.8
_POOR = 0.5


def _check(options: EvaluateOptions) -> None:
    """Raises InvalidInput: options that cannot be right."""
    if options.params is not None and not isinstance(options.params, Mapping):
        raise InvalidInput(
            f"params: expected a mapping of rules to their parameters, got {options.params!r:.60}"
        )
    whole("draws", options.draws)
    flags(items=options.items)
    for name in ("risk", "coverage", "confidence"):
        number(name, getattr(options, name))


def rule_names(rules: Sequence[str] | None) -> list[str] | None:
    """The names of rules as a list. Raises InvalidInput."""
    if rules is None:
        return None
    names = texts(rules, "rules", "a list of rule names")
    if not names:
        raise InvalidInput("rules: expected a list of rule names, got none")
    return names


def evaluate(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    sources: Sequence[str | None] | None,
    options: EvaluateOptions,
) -> Evaluation:
    """See :meth:`TrustService.evaluate`."""
    _check(options)
    space = home.space(space_name)
    return _evaluated(home, space, observe(home, space, queries, truth, sources), None, options)


def evaluate_stored(home: Home, space_name: str, options: EvaluateOptions) -> Evaluation:
    """See :meth:`TrustService.evaluate_stored`."""
    _check(options)
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        observed, truth = stored_images(connection, space)
    return _evaluated(home, space, observed, truth, options)


def _evaluated(
    home: Home,
    space: SpaceRecord,
    observed: Observed,
    truth: Int64s | None,
    options: EvaluateOptions,
) -> Evaluation:
    """Evaluate on these images; `truth`: the ids of their labels where they are known."""
    with home.snapshot(space.name) as (connection, view):
        context = context_of(home, connection, view, space.id)
        chosen, left_out = _chosen(options, context, images=observed.verifier is not None)
        given_ids = truth_ids(connection, view.space, observed.truth) if truth is None else truth
        gone = (given_ids >= 0) & (view.text.slots(np.maximum(given_ids, 0)) < 0)
        verifier = observed.unit[1]
        support = np.zeros(len(observed), np.bool_)
        if verifier is not None:
            support = are_supports(home, connection, view, verifier, len(observed))
        first = first_of_each(observed)
        kept = np.flatnonzero(~support & first & ~gone)
        if not len(kept):
            raise InvalidInput(
                f"queries: expected images that are not support images, got none (of "
                f"{len(observed)})"
            )
        if options.items:
            check_items(len(chosen), len(kept))
        told, true_ids = observed[kept], view.aliases.of(given_ids[kept])
        unit = told.unit
        judged = dict(zip(chosen, judge_all(context, *unit, list(chosen.values()), 1), strict=True))
        told_to = {
            name: getattr(options, name) for name in ("risk", "coverage", "items", "confidence")
        }
        outcomes = [
            rule_outcome(name, chosen[name][1], judged, true_ids, **told_to) for name in chosen
        ]
        text, image, fused = _sides(chosen)
        curve = {
            name: chosen[name]
            for name in rules_of([text, image, fused])
            if drawable(chosen[name][0])
        }
        shots: tuple[ShotOutcome, ...] = ()
        if options.draws and unit[1] is not None and curve and context.subset.labels <= MAX_LABELS:
            shots = shot_curve(context, unit[0], unit[1], true_ids, curve, options.draws)
        sources = [
            source or f"image {row}"
            for source, row in zip(told.sources, kept.tolist(), strict=True)
        ]
        # Of stored images the names that their labels have now: they may have been renamed.
        names = told.truth.tolist() if truth is None else _names(context, given_ids[kept])
        wrong = _wrong(
            context, judged, fused or text or next(iter(chosen)), true_ids, names, sources, unit[1]
        )
        return Evaluation(
            space=space.name,
            revision=view.revision,
            images=len(kept),
            labels=len(np.unique(true_ids[true_ids >= 0])),
            supports=int(support.sum()),
            text=text,
            image=image,
            fused=fused,
            risk=float(options.risk),
            coverage=float(options.coverage),
            rules=tuple(sorted(outcomes, key=lambda outcome: outcome.aurc.value)),
            per_label=_per_label(context, judged, (text, image, fused), true_ids),
            shots=shots,
            wrong=wrong,
            gone=int((gone & first & ~support).sum()),
            duplicates=int((~first & ~support).sum()),
            ece_binning=BINNING,
            left_out=left_out,
            items=evaluated_images(kept, sources, names) if options.items else None,
            confidence=float(options.confidence) if options.items else None,
            notes=observed.notes,
        )


def _names(context: Context, ids: Int64s) -> list[str | None]:
    """The names of labels that are there; None for −1."""
    slots = context.view.text.slots(np.maximum(ids, 0))
    return [
        None if i < 0 else context.view.names[slot]
        for i, slot in zip(ids.tolist(), slots.tolist(), strict=True)
    ]


def _chosen(
    options: EvaluateOptions, context: Context, *, images: bool
) -> tuple[Chosen, tuple[RuleLeftOut, ...]]:
    """The rules to compare, with their parameters, and those of the default list that are left
    out."""
    given = options.params or {}
    names, left_out = comparable(images=images, prototypes=len(context.view.prototypes))
    if options.rules is not None:
        names, left_out = list(options.rules), ()
    found: Chosen = {}
    if others := sorted(set(given) - set(names)):
        raise InvalidInput(
            f"params: {others[0][:80]!r} is none of the rules evaluated: {', '.join(names)}"
        )
    for name in names:
        found[name] = resolve_parameters(name, given.get(name))[1:]
    require_images(found, context.view.space.verifier_dim, images=images)
    return found, left_out


def _sides(chosen: Mapping[str, object]) -> tuple[str | None, str | None, str | None]:
    """The rules that stand for text only, image only and both."""
    favourites = {"text": "msp", "image": "image", "fused": DEFAULT_RULE}
    found = []
    for kind, favourite in favourites.items():
        of_kind = [name for name in chosen if RULES[name].kind == kind]
        found.append(favourite if favourite in of_kind else next(iter(of_kind), None))
    return found[0], found[1], found[2]


def _per_label(
    context: Context,
    judged: Mapping[str, Columns],
    sides: tuple[str | None, str | None, str | None],
    truth: Int64s,
) -> tuple[LabelOutcome, ...]:
    """The labels that the images have or are given, most errors first."""
    view = context.view
    plain = next((name for name in sides if name is not None and not RULES[name].relabels), None)
    if plain is None:
        return ()
    given, right = cast(Int64s, judged[plain]["label_id"]), right_rows(judged[plain], truth)
    owners = _support_counts(context, np.unique(np.concatenate([given, truth[truth >= 0]])))
    found = []
    for label, count in owners.items():
        may_stop()
        mine = np.flatnonzero(given == label)
        areas = [_area(judged, name, mine, right) for name in sides]
        correct = int(right[mine].sum())
        ideal = aurc(right[mine], right[mine]) if len(mine) else float("nan")
        standing = _standing(count, len(mine), correct, areas[0] - ideal, areas[2] - ideal, ideal)
        name = view.names[int(view.text.slots(np.array([label]))[0])]
        found.append(
            LabelOutcome(
                name,
                int((truth == label).sum()),
                len(mine),
                correct,
                count,
                areas[0],
                areas[1],
                areas[2],
                standing,
            )
        )
    return tuple(sorted(found, key=lambda label: (label.right - label.predicted, label.label)))


def _area(judged: Mapping[str, Columns], rule: str | None, rows: Int64s, right: Bools) -> float:
    if rule is None or not len(rows):
        return float("nan")
    return aurc(cast(Float64s, judged[rule]["trust"])[rows], right[rows])


def _standing(
    supports: int, predicted: int, right: int, text: float, fused: float, ideal: float
) -> str:
    """In words; `text` and `fused` are AURC above the ideal order's."""
    if not supports:
        return "no support images"
    if right == predicted:
        return "no errors"
    if fused < _PROFITS * text:
        return "profits"
    return "stays untrustworthy" if fused > _POOR * ideal else "as before"


def _support_counts(context: Context, ids: Int64s) -> dict[int, int]:
    owners, _, _ = supports.embeddings(
        context.connection, ids.tolist(), context.view.space.verifier_dim
    )
    owning, counts = np.unique(owners, return_counts=True)
    found = dict(zip(owning.tolist(), counts.tolist(), strict=True))
    return {label: found.get(label, 0) for label in ids.tolist()}


def _wrong(
    context: Context,
    judged: Mapping[str, Columns],
    rule: str,
    truth: Int64s,
    names: Sequence[str | None],
    sources: Sequence[str],
    verifier: Float64s | None,
) -> tuple[WrongImage, ...]:
    """The wrong images of largest trust, with their evidence."""
    columns = judged[rule]
    trust = cast(Float64s, columns["trust"])
    rows = np.flatnonzero(~right_rows(columns, truth))
    rows = rows[np.argsort(-trust[rows], kind="stable")][:_WRONG]
    read = evidence_reader(
        context.home,
        context.view,
        cast(Int64s, columns["label_id"])[rows],
        cast(Int64s, columns["rival_id"])[rows],
        None if verifier is None else verifier[rows],
    )
    return tuple(
        WrongImage(
            source=sources[row],
            truth=names[row],
            label=str(columns["label"][row]),
            trust=float(trust[row]),
            text_confidence=float(cast(Float64s, columns["text_confidence"])[row]),
            image_similarity=float(cast(Float64s, columns["image_similarity"])[row]),
            rival=cast(str | None, columns["rival"][row]),
            evidence=read(place, 3),
        )
        for place, row in enumerate(rows.tolist())
    )
