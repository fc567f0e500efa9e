"""Evaluating: how well each rule tells right from wrong on labelled images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, RULES, Rule, require_text_rules, resolve_parameters
from trustvlm.selective.advice import label_advice
from trustvlm.selective.ranking import BINNING
from trustvlm.service.home.calibrations import chosen_rules
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import (
    Observed,
    are_supports,
    observe,
    stored_images,
    truth_ids,
)
from trustvlm.service.inputs.outputs import is_external, require_logits
from trustvlm.service.inputs.space_encoders import encodes_texts
from trustvlm.service.measuring.by_label import Sides, by_label
from trustvlm.service.measuring.configurations import comparable
from trustvlm.service.measuring.outcome import (
    check_items,
    evaluated_images,
    rule_outcome,
    with_range,
)
from trustvlm.service.measuring.peers import compare_peers
from trustvlm.service.measuring.shot_curve import shot_curve
from trustvlm.service.measuring.usable import (
    UsableImages,
    all_support_images,
    as_stored,
    label_names,
    right_rows,
    usable_images,
)
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.claims.judge_claims import about_claims, require_claimable
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import UNKNOWN_RATE, is_unknown
from trustvlm.service.query.evidence import EvidenceReader
from trustvlm.service.query.judge import judge
from trustvlm.types import Queries, RuleLeftOut
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.bounds import flags, number, whole
from trustvlm.types.evaluation import Evaluation, ShotOutcome, WrongImage
from trustvlm.types.options import EvaluateOptions

Chosen = dict[str, tuple[Rule, Mapping[str, float | None]]]
Judged = dict[str, Columns]
_WRONG_SHOWN = 12


def evaluate(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    sources: Sequence[str | None] | None,
    options: EvaluateOptions,
    on_error: str = "raise",
) -> Evaluation:
    """See :meth:`TrustService.evaluate`."""
    _check_options(options)
    space = home.space(space_name)
    observed = observe(home, space, queries, truth, sources, on_error)
    return _evaluate(home, space, observed, None, options)


def evaluate_stored(home: Home, space_name: str, options: EvaluateOptions) -> Evaluation:
    """See :meth:`TrustService.evaluate_stored`."""
    _check_options(options)
    with home.read(space_name) as (connection, space):
        observed, truth = stored_images(connection, space)
    return _evaluate(home, space, observed, truth, options)


def _check_options(options: EvaluateOptions) -> None:
    """Raises InvalidInput."""
    if options.params is not None and not isinstance(options.params, Mapping):
        raise InvalidInput(
            f"params: expected a mapping of rules to their parameters, got {options.params!r:.60}"
        )
    whole("draws", options.draws)
    flags(items=options.items, peers=options.peers)
    for name in ("risk", "coverage", "confidence"):
        number(name, getattr(options, name))


def _evaluate(
    home: Home,
    space: SpaceRecord,
    observed: Observed,
    truth: Int64s | None,
    options: EvaluateOptions,
) -> Evaluation:
    """Evaluate on these images; `truth`: the ids of their labels where they are stored images."""
    with home.snapshot(space.name) as reading:
        connection, view = reading.connection, reading.view
        context = context_of(home, reading, space.id)
        has_images, claims = observed.verifier is not None, observed.claimed is not None
        chosen, left_out = _choose_rules(options, context, images=has_images, claims=claims)
        given = truth_ids(connection, view.space, observed.truth) if truth is None else truth
        if options.items and truth is None:  # split as calibrating on them would split them
            observed = as_stored(connection, space, observed)
        images = _usable(context, observed, given)
        if options.items:
            check_items(len(chosen), len(images))
        # Stored images have the names that their labels have now: they may have been renamed.
        names = label_names(context, images.given)
        if truth is None:
            names = images.observed.truth.tolist()
        rules = list(chosen.values())
        queries = UnitQueries(*images.observed.unit)
        columns = judge(context, queries, rules, 1, claimed=images.claimed)
        if claims:
            columns = [about_claims(one) for one in columns]
        judged = dict(zip(chosen, columns, strict=True))
        stored = [number for number, _ in images.observed.stored]
        chosen_before = chosen_rules(connection, view.space, min(stored)) if stored else frozenset()
        return _evaluation(context, images, chosen, judged, names, left_out, options, chosen_before)


def _usable(context: Context, observed: Observed, truth: Int64s) -> UsableImages:
    """The images to measure with. Raises InvalidInput: there are none."""
    verifier, count = observed.unit[1], len(observed)
    support = np.zeros(count, np.bool_)
    if verifier is not None:
        support = are_supports(context.home, context.reading, verifier, count)
    images = usable_images(context, observed, truth, support)
    if count and images.supports == count:
        raise all_support_images(context.view.space.name, count)
    if not len(images):
        raise InvalidInput(
            f"queries: expected images to measure with, got none: {images.left_out()}"
        )
    return images


def _evaluation(
    context: Context,
    images: UsableImages,
    chosen: Chosen,
    judged: Judged,
    names: Sequence[str | None],
    left_out: tuple[RuleLeftOut, ...],
    options: EvaluateOptions,
    chosen_before: Collection[str],
) -> Evaluation:
    """The evaluation; `chosen_before`: the rules that some of these images chose."""
    truth, observed, claims = images.truth, images.observed, images.claimed is not None
    space = context.view.space
    outcomes = [
        rule_outcome(name, parameters, judged, truth, options)
        for name, (_, parameters) in chosen.items()
    ]
    if options.items:
        outcomes = [
            with_range(
                outcome,
                images,
                judged[outcome.rule],
                is_unknown(context, judged[outcome.rule], UNKNOWN_RATE),
                options,
                chose=outcome.rule in chosen_before,
            )
            for outcome in outcomes
        ]
    text, image, fused = sides = _sides(chosen)
    labels, confused = by_label(context, judged, sides, truth, float(options.risk))
    sources = [
        source or f"image {place}"
        for source, place in zip(observed.sources, images.places.tolist(), strict=True)
    ]
    return Evaluation(
        space=space.name,
        revision=context.view.revision,
        images=len(images),
        labels=len(np.unique(truth[truth >= 0])),
        supports=images.supports,
        text=text,
        image=image,
        fused=fused,
        risk=float(options.risk),
        coverage=float(options.coverage),
        rules=tuple(sorted(outcomes, key=lambda outcome: outcome.aurc.value)),
        per_label=labels,
        label_advice=()
        if claims
        else label_advice(space.name, labels, confused, prompts=encodes_texts(space.classifier)),
        confusions=confused,
        shots=() if claims else _shots(context, images, chosen, sides, options.draws),
        wrong=_wrong(context, images, judged, fused or text or next(iter(chosen)), names, sources),
        gone=images.gone,
        duplicates=images.duplicates,
        ece_binning=BINNING,
        left_out=left_out,
        items=evaluated_images(images, sources, names) if options.items else None,
        confidence=float(options.confidence) if options.items else None,
        notes=observed.notes,
        failures=observed.failures,
        claims=claims,
        unclaimed=images.unclaimed,
        peers=compare_peers(context, observed.unit, truth, claims=claims) if options.peers else (),
    )


def _choose_rules(
    options: EvaluateOptions, context: Context, *, images: bool, claims: bool
) -> tuple[Chosen, tuple[RuleLeftOut, ...]]:
    """The rules to compare, with their parameters, and those of the default list that are left
    out."""
    given = options.params or {}
    prototypes = len(context.view.prototypes)
    space = context.view.space
    names, left_out = comparable(
        images=images, prototypes=prototypes, logits=not is_external(space), claims=claims
    )
    if options.rules is not None:
        names, left_out = options.rules, ()
    if unknown := sorted(set(given) - set(names)):
        raise InvalidInput(
            f"params: {unknown[0][:80]!r} is none of the rules evaluated: {', '.join(names)}"
        )
    chosen: Chosen = {name: resolve_parameters(name, given.get(name))[1:] for name in names}
    if not images:
        require_text_rules(chosen, space.verifier_dim)
    require_logits(space, list(chosen))
    if claims:
        require_claimable(list(chosen))
    return chosen, left_out


def _sides(chosen: Chosen) -> Sides:
    def side(kind: str, favourite: str) -> str | None:
        of_kind = [name for name in chosen if RULES[name].kind == kind]
        return favourite if favourite in of_kind else next(iter(of_kind), None)

    return side("text", "msp"), side("image", "image"), side("fused", DEFAULT_RULE)


def _shots(
    context: Context, images: UsableImages, chosen: Chosen, sides: Sides, draws: int
) -> tuple[ShotOutcome, ...]:
    """The curve over the number of support images, for one rule of each side."""
    classifier, verifier = images.observed.unit
    rules = {name: chosen[name] for name in dict.fromkeys(sides) if name is not None}
    if not draws or verifier is None:
        return ()
    return shot_curve(context, (classifier, verifier), images.truth, rules, draws)


def _wrong(
    context: Context,
    images: UsableImages,
    judged: Judged,
    rule: str,
    names: Sequence[str | None],
    sources: Sequence[str],
) -> tuple[WrongImage, ...]:
    """The wrong images of largest trust, with their evidence."""
    columns, verifier = judged[rule], images.observed.unit[1]
    trust = cast(Float64s, columns["trust"])
    rows = np.flatnonzero(~right_rows(columns, images.truth))
    rows = rows[np.argsort(-trust[rows], kind="stable")][:_WRONG_SHOWN]
    view = context.view
    read = EvidenceReader(
        context.home, view.space.id, view.epoch, view.revision, view.space.verifier_dim,
        view.aliases.groups,
        label_ids=cast(Int64s, columns["label_id"])[rows],
        rival_ids=cast(Int64s, columns["rival_id"])[rows],
        verifier=None if verifier is None else verifier[rows],
    )  # fmt: skip
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
