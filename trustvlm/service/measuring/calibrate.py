"""Calibrating: which rule, which parameters, which threshold, and what they promise
(docs/guarantee.md, "How")."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from trustvlm.catalog.rows import observations, spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import Rule, require_text_rules, resolve_parameters
from trustvlm.selective.calibration import (
    choose_configuration,
    cross_validated_ece,
    fit_probability_map,
    split,
)
from trustvlm.selective.chosen_threshold import Range, prove_threshold, threshold_range
from trustvlm.selective.ranks import find_by_ranks
from trustvlm.selective.risk import RiskThreshold, find_threshold, threshold_grid
from trustvlm.service.home.calibrations import chosen_rules, in_force, newest, store
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import (
    Observed,
    are_supports,
    observe,
    stored_images,
    truth_ids,
)
from trustvlm.service.inputs.outputs import is_external, require_logits
from trustvlm.service.measuring.calibration_options import (
    CORRECTING,
    POLICIES,
    check_options,
    options_again,
    resolved,
)
from trustvlm.service.measuring.configurations import Configuration, comparable, configurations
from trustvlm.service.measuring.usable import (
    UsableImages,
    all_support_images,
    as_stored,
    label_names,
    right_rows,
    stored_rows,
    usable_images,
)
from trustvlm.service.memory.space_tree import SpaceTree, space_tree
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.claims.judge_claims import about_claims, require_claimable
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import acceptable, is_unknown
from trustvlm.service.query.judge import judge
from trustvlm.service.query.nodes import top_mass, tree_of_call, wrong_up_to
from trustvlm.system.stages import may_stop
from trustvlm.types import Queries, RuleLeftOut
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import CalibrateOptions

_PROVED = ("threshold", "reason", "needed", "accepted", "errors", "coverage", "risk_bound")
_LEFT_OUT = ("supports", "duplicates", "gone", "unclaimed")
"""Fields that a calibration has of its threshold and of its images."""


def calibrate(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    options: CalibrateOptions,
    sources: Sequence[str | None] | None = None,
    on_error: str = "raise",
) -> Calibration:
    """See :meth:`TrustService.calibrate`."""
    check_options(options)
    space = home.space(space_name)
    observed = observe(home, space, queries, truth, sources, on_error)
    if not len(observed):
        raise InvalidInput("queries: expected images with known labels, got none")
    claims = observed.claimed is not None
    if claims and options.back_off:
        raise InvalidInput("back_off: a promise on claims is about labels; leave out back_off")
    if claims and options.rule not in (None, "auto"):
        require_claimable([options.rule])
    made = _calibrate(home, space, observed, None, options, keep=True)
    return replace(made, notes=observed.notes, failures=observed.failures)


def recalibrate(
    home: Home, space_name: str, changes: Mapping[str, Any] | None = None, *, claims: bool = False
) -> Calibration:
    """See :meth:`TrustService.recalibrate`; `changes`: new values of fields of
    :class:`CalibrateOptions`."""
    with home.read(space_name) as (connection, space):
        before = in_force(connection, space, claims=claims)
        before = before or newest(connection, space, claims=claims)
        observed, truth = stored_images(connection, space, claims=claims)
        first = min(number for number, _ in observed.stored)
        chosen = chosen_rules(connection, space, first, claims=claims)
    options = options_again(before, changes or {}, chosen)
    check_options(options)
    return _calibrate(home, space, observed, truth, options, keep=False)


def _calibrate(
    home: Home,
    space: SpaceRecord,
    observed: Observed,
    truth: Int64s | None,
    options: CalibrateOptions,
    *,
    keep: bool,
) -> Calibration:
    """Calibrate on these images; with `keep`, they become the calibration images of the space.

    Those of a calibration that stays in force, because this one failed, are not replaced: it is
    renewed with them.
    """
    with home.snapshot(space.name) as reading:
        connection, view = reading.connection, reading.view
        # A threshold is worth no more than the τ it was found with: not that of an earlier
        # revision.
        context = context_of(home, reading, space.id, own_fit=True)
        if truth is None:
            truth = truth_ids(connection, view.space, observed.truth)
        if keep:
            observed = as_stored(connection, space, observed)
        support = are_supports(home, reading, observed.unit[1], len(observed))
        images = usable_images(context, observed, truth, support)
        calibration = _calibration(context, images, options)
        rows = (
            stored_rows(connection, space, observed, truth, "calibration", "random") if keep else []
        )
    may_stop()
    with home.catalog.write("calibrate") as connection:
        spaces.require_same(connection, space)
        claims = calibration.claims
        if keep and not (calibration.failed and in_force(connection, space, claims=claims)):
            observations.forget_calibration(connection, space.id, claims=claims)
            observations.store(connection, space.id, rows)
        return store(connection, space, calibration)


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the images, and what a configuration says of them."""

    columns: Columns
    right: Bools

    @property
    def trust(self) -> Float64s:
        """(n,) as it is compared with thresholds."""
        return cast(Float64s, self.columns["trust"])


@dataclass(frozen=True, eq=False)
class _Choice:
    """The configuration that is proved, what it says of the images that were looked at, the
    comparison (best first, as JSON holds it), and the rules that were not compared."""

    configuration: Configuration
    judged: _Part
    candidates: tuple[Mapping[str, object], ...]
    left_out: tuple[RuleLeftOut, ...]


def _calibration(context: Context, images: UsableImages, options: CalibrateOptions) -> Calibration:
    """Choose the configuration, on images that prove nothing where there is a choice, and prove the
    threshold."""
    if images.came and images.supports == images.came:
        raise all_support_images(context.view.space.name, images.came)
    if not len(images):
        raise InvalidInput(f"queries: no image can calibrate: {images.left_out()}")
    if len(images) < 2:
        raise InvalidInput("queries: expected at least 2 images that can calibrate, got 1")
    requested = options.rule
    options = resolved(options, images=images.observed.unit[1] is not None)
    hashes = images.observed.hashes
    if options.procedure == "split":
        tuning, testing = split(hashes)
        choice = _choose(context, images, tuning, options)
        best = choice.configuration
        tested = _judged(context, images, testing, [(best.rule, best.parameters)])[0]
        parts = [choice.judged, tested]
        proved, between = _by_split(context, options, *parts)
        threshold = _in_all(proved, len(tuning))
    else:
        tuning, testing = np.empty(0, np.int64), np.arange(len(images))
        choice = _choose(context, images, testing, options)
        parts = [choice.judged]
        threshold, between = _by_ranks(context, options, choice.judged, hashes, images.truth)
    best = choice.configuration
    trust = np.concatenate([part.trust for part in parts]).astype(np.float64)
    right = np.concatenate([part.right for part in parts])
    predicted = np.unique(np.concatenate([part.columns["label_id"] for part in parts]))
    params = options.params
    if params is not None:
        params = {name: None if value is None else float(value) for name, value in params.items()}
    return Calibration(
        id=0, space=context.view.space.name, created_at=datetime.now(UTC),
        revision=context.view.revision, rule=best.name, params=dict(best.parameters),
        max_risk=float(options.max_risk), confidence=float(options.confidence),
        unknown_rate=float(options.unknown_rate), images=images.came, tuning=len(tuning),
        tested=len(testing), ece=cross_validated_ece(trust, right), candidates=choice.candidates,
        knots=fit_probability_map(trust, right).knots, predicted=tuple(predicted.tolist()),
        asked_rule=requested, asked_params=params, left_out=choice.left_out,
        asked_threshold=None if options.threshold is None else float(options.threshold),
        threshold_range=between, **_fields(threshold, *_PROVED), **_fields(images, *_LEFT_OUT),
        claims=images.claimed is not None,
        **_fields(options, "procedure", *POLICIES), **_corrections(context, images, best),
    )  # fmt: skip


def _in_all(proved: RiskThreshold, tuning: int) -> RiskThreshold:
    """The threshold with the number of images that would do counted as `Calibration.needed` is:
    with those that choose the rule (`tuning` of them now), which are no part of the proof."""
    if not proved.needed:
        return proved
    needed = math.ceil(proved.needed * (1 + tuning / proved.images))
    reason = f"{proved.reason}, {needed:,} with the third that chooses the rule"
    return replace(proved, needed=needed, reason=reason)


def _fields(source: object, *names: str) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def _choose(
    context: Context, images: UsableImages, rows: Int64s, options: CalibrateOptions
) -> _Choice:
    """The configuration that ranks the images `rows` best; by ranks there is no choice."""
    some = images.observed[rows]
    verifier = some.unit[1]
    names, left_out = comparable(
        images=verifier is not None,
        prototypes=len(context.view.prototypes),
        logits=not is_external(context.view.space),
        may_correct=options.may_correct,
        claims=images.claimed is not None,
    )
    if options.rule not in (None, "auto"):
        names, left_out = [options.rule], ()
    if verifier is None:
        require_text_rules(names, context.view.space.verifier_dim)
    require_logits(context.view.space, names)
    compared = configurations(names, options.params, context.fit.evidence)
    if options.threshold is not None or options.procedure == "ranks":
        compared = compared[:1]  # a threshold is no threshold of other parameters
    rules = [(one.rule, one.parameters) for one in compared]
    tree = tree_of_call(context, required=True) if options.back_off else None
    parts = _judged(context, images, rows, rules, tree)
    trust, right = [part.trust for part in parts], [part.right for part in parts]
    chosen = choose_configuration(trust, right, keys=some.hashes)
    table = [
        {"rule": one.name, "params": dict(one.parameters), "aurc": mean, "error": error}
        for one, mean, error in zip(
            compared, chosen.means.tolist(), chosen.errors.tolist(), strict=True
        )
    ]
    candidates = tuple(sorted(table, key=lambda row: cast(float, row["aurc"])))
    return _Choice(compared[chosen.index], parts[chosen.index], candidates, left_out)


def _judged(
    context: Context,
    images: UsableImages,
    rows: Int64s,
    rules: Sequence[tuple[Rule, Mapping[str, float | None]]],
    tree: SpaceTree | None = None,
) -> list[_Part]:
    """What each rule says of these images: of their claims, where they have some; with a `tree`,
    also of its nodes."""
    queries = UnitQueries(*images.observed[rows].unit)
    claimed = None if images.claimed is None else images.claimed[rows]
    every = judge(context, queries, rules, 1, claimed=claimed, tree=tree)
    if claimed is not None:
        every = [about_claims(columns) for columns in every]
    return [_Part(columns, right_rows(columns, images.truth[rows])) for columns in every]


def _by_split(
    context: Context, options: CalibrateOptions, tuned: _Part, tested: _Part
) -> tuple[RiskThreshold, Range | None]:
    """The threshold that the second part proves, the requested one or one of the candidates that
    the first part names; and the range of those that can be requested."""
    choosing = _acceptable_trust(context, options, tuned), tuned.right
    proving = _acceptable_trust(context, options, tested), tested.right
    promise = _promise(options)
    between = threshold_range(*choosing, *proving, **promise)
    if options.threshold is not None:
        chosen = float(options.threshold)
        return prove_threshold(*proving, between, chosen, **promise), between
    grid = threshold_grid(*choosing, len(tested.right), **promise)
    return find_threshold(*proving, grid, **promise), between


def _by_ranks(
    context: Context,
    options: CalibrateOptions,
    judged: _Part,
    hashes: Sequence[bytes],
    truth: Int64s,
) -> tuple[RiskThreshold, Range | None]:
    """The loosest threshold that all images prove, or the requested one; and the range of those
    that can be requested. `truth`: (n,) ids of their true labels, −1 for none."""
    proving = _acceptable_trust(context, options, judged), judged.right
    promise, wrong = _promise(options), None
    if options.back_off:
        slots = np.where(truth < 0, -1, context.view.text.slots(np.maximum(truth, 0)))
        wrong = wrong_up_to(space_tree(context.reading), judged.columns, slots)
    loosest, between = find_by_ranks(*proving, hashes, wrong_up_to=wrong, **promise)
    if options.back_off:
        return loosest, None  # a threshold on nodes cannot be requested
    if options.threshold is None:
        return loosest, between
    chosen = float(options.threshold)
    return prove_threshold(*proving, between, chosen, sequences=1, **promise), between


def _promise(options: CalibrateOptions) -> Any:
    return {"max_risk": float(options.max_risk), "confidence": float(options.confidence)}


def _acceptable_trust(context: Context, options: CalibrateOptions, part: _Part) -> Float64s:
    """(n,) the trust, or the largest probability of a node; −inf for an image that is never
    accepted."""
    unknown = is_unknown(context, part.columns, options.unknown_rate)
    unverified = cast(Bools, part.columns["unverified"])
    trust = top_mass(part.columns) if options.back_off else part.trust
    return np.where(acceptable(unknown, unverified, options.on_unverified), trust, -np.inf)


def _corrections(context: Context, images: UsableImages, best: Configuration) -> dict[str, Any]:
    """What the chosen rule, or one that may correct labels where it does not, changes of the labels
    of all the images."""
    classifier, verifier = images.observed.unit
    if verifier is None or images.claimed is not None:
        return {}
    name, rule, parameters = best.name, best.rule, best.parameters
    if not rule.relabels:
        name, rule, parameters = resolve_parameters(CORRECTING, None)
    queries = UnitQueries(classifier, verifier)
    [columns] = judge(context, queries, [(rule, parameters)], 1)
    truth = np.array(label_names(context, images.truth), dtype=object)
    label, before = columns["label"], cast(Objects, columns["corrected_from"])
    changed = np.array([one is not None for one in before], dtype=np.bool_)
    return {
        "correcting_rule": name,
        "corrected": int(changed.sum()),
        "corrected_rightly": int((changed & (label == truth)).sum()),
        "corrected_wrongly": int((changed & (before == truth)).sum()),
    }
