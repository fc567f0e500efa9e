"""Calibrating: which rule, which parameters, which threshold, and what they promise
(docs/rules.md, "Threshold with a promise")."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast

import numpy as np

from trustvlm.catalog.rows import observations, spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, require_images, resolve_parameters
from trustvlm.selective.calibration import (
    choose_configuration,
    cross_validated_ece,
    fit_probability_map,
    split,
)
from trustvlm.selective.risk import RiskThreshold, find_threshold, threshold_grid
from trustvlm.service.home.calibrations import in_force, newest, store
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import (
    Observed,
    are_supports,
    as_rows,
    observe,
    stored_images,
    truth_ids,
)
from trustvlm.service.measuring.configurations import Configuration, comparable, configurations
from trustvlm.service.measuring.usable import (
    UsableImages,
    as_stored,
    label_names,
    right_rows,
    usable_images,
)
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import acceptable, is_unknown
from trustvlm.service.query.judge import Columns, judge, judge_all
from trustvlm.system.stopping import may_stop
from trustvlm.types import Queries, RuleLeftOut
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.bounds import choice, flags, number
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import ON_STALE, ON_UNVERIFIED, CalibrateOptions

__all__ = ["calibrate", "recalibrate"]

_CORRECTING = f"{DEFAULT_RULE}_star"
"""The rule whose corrections are counted where the chosen one makes none."""


def calibrate(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    options: CalibrateOptions,
    sources: Sequence[str | None] | None = None,
) -> Calibration:
    """See :meth:`TrustService.calibrate`."""
    _check_options(options)
    space = home.space(space_name)
    observed = observe(home, space, queries, truth, sources)
    if not len(observed):
        raise InvalidInput("queries: expected images with known labels, got none")
    made = _calibrate(home, space, observed, None, options, keep=True)
    return replace(made, notes=observed.notes)


def recalibrate(
    home: Home, space_name: str, changes: Mapping[str, Any] | None = None
) -> Calibration:
    """See :meth:`TrustService.recalibrate`; `changes`: new values of fields of
    :class:`CalibrateOptions`."""
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        before = in_force(connection, space) or newest(connection, space)
        observed, truth = stored_images(connection, space)
    options = CalibrateOptions() if before is None else _options_of(before)
    options = replace(options, **changes or {})
    _check_options(options)
    return _calibrate(home, space, observed, truth, options, keep=False)


def _check_options(options: CalibrateOptions) -> None:
    """Raises InvalidInput."""
    rule = options.rule
    if not isinstance(rule, str):
        raise InvalidInput(
            f"rule: expected 'auto' or one of the names of trustvlm.RULES, got {rule!r:.60}"
        )
    flags(may_correct=options.may_correct)
    if rule != "auto":
        corrects = resolve_parameters(rule, options.params)[1].relabels
        if corrects and not options.may_correct:
            raise InvalidInput(
                f"rule: {rule!r} may correct the classifier's labels; pass may_correct=True to "
                f"allow that, or name a rule that keeps them, such as {DEFAULT_RULE!r}"
            )
    elif options.params is not None:
        raise InvalidInput("params: name the rule they belong to; rule='auto' chooses its own")
    for name in ("max_risk", "confidence", "unknown_rate"):
        number(name, getattr(options, name))
    choice("on_stale", options.on_stale, ON_STALE)
    choice("on_unverified", options.on_unverified, ON_UNVERIFIED)


def _options_of(calibration: Calibration) -> CalibrateOptions:
    """What a calibration was made with."""
    names = ("max_risk", "confidence", "on_stale", "on_unverified", "unknown_rate", "may_correct")
    values: dict[str, Any] = {name: getattr(calibration, name) for name in names}
    params = calibration.asked_params
    return CalibrateOptions(
        rule=calibration.asked_rule, params=None if params is None else dict(params), **values
    )


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
    with home.snapshot(space.name) as (connection, view):
        # A threshold is worth no more than the τ it was found with: not that of an earlier
        # revision.
        context = context_of(home, connection, view, space.id, own_fit=True)
        if truth is None:
            truth = truth_ids(connection, view.space, observed.truth)
        if keep:
            observed = as_stored(connection, space, observed)
        support = are_supports(home, connection, view, observed.unit[1], len(observed))
        images = usable_images(context, observed, truth, support)
        calibration = _calibration(context, images, options)
    may_stop()
    with home.catalog.write("calibrate") as connection:
        if spaces.find(connection, space.name).id != space.id:
            raise Conflict(
                f"space {space.name!r} was removed and made again, or re-embedded, during the "
                f"call; calibrate again"
            )
        if keep and not (calibration.failed and in_force(connection, space)):
            observations.forget_calibration(connection, space.id)
            rows = as_rows(observed, truth, "calibration", "random")
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
    """The configuration that is proved, what it says of the images that chose it, the comparison
    (best first, as JSON holds it), and the rules that were not compared."""

    configuration: Configuration
    tuned: _Part
    candidates: tuple[Mapping[str, object], ...]
    left_out: tuple[RuleLeftOut, ...]


def _calibration(context: Context, images: UsableImages, options: CalibrateOptions) -> Calibration:
    """Choose on one part of the images, prove the threshold on the other."""
    if not len(images):
        raise InvalidInput(
            f"queries: none of {images.came} images can calibrate: {images.supports} are support "
            f"images, {images.duplicates} came twice, {images.gone} are of labels that were removed"
        )
    if len(images) < 2:
        raise InvalidInput(
            "queries: expected at least 2 images that can calibrate, one to choose with and one "
            "to prove; got 1"
        )
    tuning, testing = split(images.observed.hashes)
    choice = _choose(context, images, tuning, options)
    best, tuned = choice.configuration, choice.tuned
    tested = _judge(context, images, testing, best)
    threshold = _threshold(context, options, tuned, tested)
    trust = np.concatenate([tuned.trust, tested.trust]).astype(np.float64)
    right = np.concatenate([tuned.right, tested.right])
    predicted = np.unique([*tuned.columns["label_id"], *tested.columns["label_id"]])
    params = options.params
    return Calibration(
        id=0,
        space=context.view.space.name,
        created_at=datetime.now(UTC),
        revision=context.view.revision,
        rule=best.name,
        params=dict(best.parameters),
        threshold=threshold.threshold,
        max_risk=float(options.max_risk),
        confidence=float(options.confidence),
        reason=threshold.reason,
        needed=threshold.needed,
        images=images.came,
        supports=images.supports,
        duplicates=images.duplicates,
        gone=images.gone,
        tuning=len(tuning),
        tested=len(testing),
        accepted=threshold.accepted,
        errors=threshold.errors,
        coverage=threshold.coverage,
        risk_bound=threshold.risk_bound,
        ece=cross_validated_ece(trust, right),
        candidates=choice.candidates,
        on_stale=options.on_stale,
        on_unverified=options.on_unverified,
        unknown_rate=float(options.unknown_rate),
        knots=fit_probability_map(trust, right).knots,
        predicted=tuple(predicted.tolist()),
        asked_rule=options.rule,
        asked_params=None
        if params is None
        else {name: value if value is None else float(value) for name, value in params.items()},
        left_out=choice.left_out,
        may_correct=options.may_correct,
        **_corrections(context, images, best),
    )


def _choose(
    context: Context, images: UsableImages, tuning: Int64s, options: CalibrateOptions
) -> _Choice:
    """The configuration that ranks the images `tuning` best."""
    tuning_images = images.observed[tuning]
    classifier, verifier = tuning_images.unit
    names, left_out = comparable(
        images=verifier is not None,
        prototypes=len(context.view.prototypes),
        may_correct=options.may_correct,
    )
    if options.rule != "auto":
        names, left_out = [options.rule], ()
    require_images(names, context.view.space.verifier_dim, images=verifier is not None)
    compared = configurations(names, options.params, context.fit.evidence)
    rules = [(one.rule, one.parameters) for one in compared]
    parts = [
        _Part(columns, right_rows(columns, images.truth[tuning]))
        for columns in judge_all(context, classifier, verifier, rules, 1)
    ]
    trust, right = [part.trust for part in parts], [part.right for part in parts]
    chosen = choose_configuration(trust, right, keys=tuning_images.hashes)
    rows = [
        {"rule": one.name, "params": dict(one.parameters), "aurc": mean, "error": error}
        for one, mean, error in zip(
            compared, chosen.means.tolist(), chosen.errors.tolist(), strict=True
        )
    ]
    candidates = tuple(sorted(rows, key=lambda row: cast(float, row["aurc"])))
    return _Choice(compared[chosen.index], parts[chosen.index], candidates, left_out)


def _judge(
    context: Context, images: UsableImages, rows: Int64s, configuration: Configuration
) -> _Part:
    classifier, verifier = images.observed[rows].unit
    rule, parameters = configuration.rule, configuration.parameters
    columns = judge(context, classifier, verifier, rule, parameters, 1)
    return _Part(columns, right_rows(columns, images.truth[rows]))


def _threshold(
    context: Context, options: CalibrateOptions, tuned: _Part, tested: _Part
) -> RiskThreshold:
    """The threshold that the second part proves, of the candidates that the first part names."""

    def acceptable_trust(part: _Part) -> Float64s:
        """−inf for an image that is never accepted."""
        unknown = is_unknown(context, part.columns, options.unknown_rate)
        unverified = cast(Bools, part.columns["unverified"])
        fit = acceptable(unknown, unverified, options.on_unverified)
        return np.where(fit, part.trust, -np.inf)

    max_risk, confidence = float(options.max_risk), float(options.confidence)
    grid = threshold_grid(
        acceptable_trust(tuned), tuned.right, len(tested.right),
        max_risk=max_risk, confidence=confidence,
    )  # fmt: skip
    return find_threshold(
        acceptable_trust(tested), tested.right, grid, max_risk=max_risk, confidence=confidence
    )


def _corrections(context: Context, images: UsableImages, best: Configuration) -> dict[str, Any]:
    """What the chosen rule, or one that may correct labels where it does not, changes of the labels
    of all the images."""
    classifier, verifier = images.observed.unit
    if verifier is None:
        return {}
    name, rule, parameters = best.name, best.rule, best.parameters
    if not rule.relabels:
        name, rule, parameters = resolve_parameters(_CORRECTING, None)
    columns = judge(context, classifier, verifier, rule, parameters, 1)
    truth = np.array(label_names(context, images.truth), dtype=object)
    label, before = columns["label"], cast(Objects, columns["corrected_from"])
    changed = np.array([one is not None for one in before], dtype=np.bool_)
    return {
        "correcting_rule": name,
        "corrected": int(changed.sum()),
        "corrected_rightly": int((changed & (label == truth)).sum()),
        "corrected_wrongly": int((changed & (before == truth)).sum()),
    }
