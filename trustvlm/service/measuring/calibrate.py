"""Calibrating: which rule, which parameters, which threshold, and what they promise."""

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
from trustvlm.service.measuring.repeated import as_stored, first_of_each
from trustvlm.service.query.configurations import Configuration, comparable, configurations
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import acceptable, is_unknown
from trustvlm.service.query.judge import Columns, judge, judge_all
from trustvlm.system.stopping import may_stop
from trustvlm.types import Queries
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.bounds import choice, flags, number
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import ON_STALE, ON_UNVERIFIED, CalibrateOptions

__all__ = ["calibrate", "recalibrate"]

_CORRECTING = f"{DEFAULT_RULE}_star"
"""The rule whose corrections are counted where the chosen one makes none."""


def _check(promise: CalibrateOptions) -> None:
    """Raises InvalidInput: options that cannot be right."""
    rule = promise.rule
    if not isinstance(rule, str):
        raise InvalidInput(
            f"rule: expected 'auto' or one of the names of trustvlm.RULES, got {rule!r:.60}"
        )
    flags(may_correct=promise.may_correct)
    if rule != "auto":
        corrects = resolve_parameters(rule, promise.params)[1].relabels
        if corrects and not promise.may_correct:
            raise InvalidInput(
                f"rule: {rule!r} may correct the classifier's labels; pass may_correct=True to "
                f"allow that, or name a rule that keeps them, such as {DEFAULT_RULE!r}"
            )
    elif promise.params is not None:
        raise InvalidInput("params: name the rule they belong to; rule='auto' chooses its own")
    for name in ("max_risk", "confidence", "unknown_rate"):
        number(name, getattr(promise, name))
    choice("on_stale", promise.on_stale, ON_STALE)
    choice("on_unverified", promise.on_unverified, ON_UNVERIFIED)


def calibrate(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None],
    promise: CalibrateOptions,
    sources: Sequence[str | None] | None = None,
) -> Calibration:
    """See :meth:`TrustService.calibrate`."""
    _check(promise)
    space = home.space(space_name)
    observed = observe(home, space, queries, truth, sources)
    if not len(observed):
        raise InvalidInput("queries: expected images with known labels, got none")
    return replace(
        _calibrated(home, space, observed, None, promise, keep=True), notes=observed.notes
    )


def recalibrate(
    home: Home, space_name: str, changes: Mapping[str, Any] | None = None
) -> Calibration:
    """See :meth:`TrustService.recalibrate`; `changes`: new values of fields of
    :class:`CalibrateOptions`."""
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        before = in_force(connection, space) or newest(connection, space)
        observed, truth = stored_images(connection, space)
    promise = replace(
        CalibrateOptions() if before is None else _options_of(before), **changes or {}
    )
    _check(promise)
    return _calibrated(home, space, observed, truth, promise, keep=False)


def _options_of(calibration: Calibration) -> CalibrateOptions:
    names = ("max_risk", "confidence", "on_stale", "on_unverified", "unknown_rate", "may_correct")
    return CalibrateOptions(
        rule=calibration.asked_rule,
        params=calibration.asked_params,
        **{name: getattr(calibration, name) for name in names},
    )


def _calibrated(
    home: Home,
    space: SpaceRecord,
    observed: Observed,
    truth: Int64s | None,
    promise: CalibrateOptions,
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
        sifted = _sift(context, observed, truth)
        calibration = _found(context, sifted, promise)
    may_stop()
    with home.catalog.write("calibrate") as connection:
        if spaces.find(connection, space.name).id != space.id:
            raise Conflict(
                f"space {space.name!r} was removed and made again, or re-embedded, during the "
                f"call; calibrate again"
            )
        if keep and not (calibration.failed and in_force(connection, space)):
            observations.forget_calibration(connection, space.id)
            observations.store(
                connection, space.id, as_rows(observed, truth, "calibration", "random")
            )
        return store(connection, space, calibration)


@dataclass(frozen=True, eq=False)
class _Sifted:
    """The images that may calibrate, and how many may not: support images, the second of two that
    are the same, and images of labels that are gone."""

    observed: Observed
    truth: Int64s
    images: int
    supports: int
    duplicates: int
    gone: int

    def right(self, columns: Columns, rows: Int64s) -> Bools:
        """(m,) which predictions for these rows are right."""
        return np.equal(cast(Int64s, columns["label_id"]), self.truth[rows])


def _sift(context: Context, observed: Observed, truth: Int64s) -> _Sifted:
    support = are_supports(
        context.home, context.connection, context.view, observed.unit[1], len(observed)
    )
    first = first_of_each(observed)
    gone = (truth >= 0) & (context.view.text.slots(np.maximum(truth, 0)) < 0)
    kept = np.flatnonzero(~support & first & ~gone)
    if not len(kept):
        raise InvalidInput(
            f"queries: none of {len(observed)} images can calibrate: {int(support.sum())} are "
            f"support images, "
            f"{int((~first).sum())} came twice, {int(gone.sum())} are of labels that were removed"
        )
    counts = (
        len(observed),
        int(support.sum()),
        int((~first & ~support).sum()),
        int((gone & first & ~support).sum()),
    )
    return _Sifted(observed[kept], context.view.aliases.of(truth[kept]), *counts)


def _found(context: Context, sifted: _Sifted, promise: CalibrateOptions) -> Calibration:
    """Choose on one part of the images, prove the threshold on the other."""
    classifier, verifier = sifted.observed.unit
    if len(sifted.observed) < 2:
        raise InvalidInput(
            "queries: expected at least 2 images that can calibrate, one to choose with and one "
            "to prove; got 1"
        )
    tuning, testing = split(sifted.observed.hashes)
    names, left_out = comparable(
        images=verifier is not None,
        prototypes=len(context.view.prototypes),
        may_correct=promise.may_correct,
    )
    if promise.rule != "auto":
        names, left_out = [promise.rule], ()
    require_images(names, context.view.space.verifier_dim, images=verifier is not None)
    options = configurations(names, promise.params, context.fit.evidence)
    judged = judge_all(
        context, classifier[tuning], None if verifier is None else verifier[tuning],
        [(option.rule, option.parameters) for option in options], 1,
    )  # fmt: skip
    trust = [cast(Float64s, columns["trust"]) for columns in judged]
    right = [sifted.right(columns, tuning) for columns in judged]
    choice = choose_configuration(
        trust, right, keys=[sifted.observed.hashes[i] for i in tuning.tolist()]
    )
    best = options[choice.index]
    tuned = judged[choice.index]
    tested = judge(
        context,
        classifier[testing],
        None if verifier is None else verifier[testing],
        best.rule,
        best.parameters,
        1,
    )
    threshold = _threshold(context, sifted, promise, (tuning, tuned), (testing, tested))
    everything = np.concatenate([tuned["trust"], tested["trust"]]).astype(np.float64)
    correct = np.concatenate([sifted.right(tuned, tuning), sifted.right(tested, testing)])
    curve = fit_probability_map(everything, correct)
    predicted = np.unique(np.concatenate([tuned["label_id"], tested["label_id"]]))
    return Calibration(
        id=0,
        space=context.view.space.name,
        created_at=datetime.now(UTC),
        revision=context.view.revision,
        rule=best.name,
        params=dict(best.parameters),
        threshold=threshold.threshold,
        max_risk=float(promise.max_risk),
        confidence=float(promise.confidence),
        reason=threshold.reason,
        needed=threshold.needed,
        images=sifted.images,
        supports=sifted.supports,
        duplicates=sifted.duplicates,
        gone=sifted.gone,
        tuning=len(tuning),
        tested=len(testing),
        accepted=threshold.accepted,
        errors=threshold.errors,
        coverage=threshold.coverage,
        risk_bound=threshold.risk_bound,
        ece=cross_validated_ece(everything, correct),
        candidates=_table(options, choice.means, choice.errors),
        on_stale=promise.on_stale,
        on_unverified=promise.on_unverified,
        unknown_rate=float(promise.unknown_rate),
        knots=curve.knots,
        predicted=tuple(int(i) for i in predicted),
        asked_rule=promise.rule,
        asked_params=None
        if promise.params is None
        else {k: v if v is None else float(v) for k, v in promise.params.items()},
        left_out=left_out,
        may_correct=promise.may_correct,
        **_corrections(context, sifted, best),
    )


def _corrections(context: Context, sifted: _Sifted, best: Configuration) -> dict[str, Any]:
    """What the chosen rule, or one that may correct labels where it does not, changes of the labels
    of all the images."""
    classifier, verifier = sifted.observed.unit
    if verifier is None:
        return {}
    name, rule, parameters = best.name, best.rule, best.parameters
    if not rule.relabels:
        name, rule, parameters = resolve_parameters(_CORRECTING, None)
    columns = judge(context, classifier, verifier, rule, parameters, 1)
    truth = _names(context, sifted.truth)
    label, before = columns["label"], cast(Objects, columns["corrected_from"])
    changed = np.array([one is not None for one in before], dtype=np.bool_)
    rightly, wrongly = changed & (label == truth), changed & (before == truth)
    return {
        "correcting_rule": name,
        "corrected": int(changed.sum()),
        "corrected_rightly": int(rightly.sum()),
        "corrected_wrongly": int(wrongly.sum()),
    }


def _names(context: Context, truth: Int64s) -> Objects:
    """The names of true labels (−1: of none)."""
    slots = context.view.text.slots(np.maximum(truth, 0))
    found = np.empty(len(truth), dtype=object)
    found[:] = [
        context.view.names[slot] if label >= 0 else ""
        for label, slot in zip(truth.tolist(), slots.tolist(), strict=True)
    ]
    return found


def _threshold(
    context: Context,
    sifted: _Sifted,
    promise: CalibrateOptions,
    tuned: tuple[Int64s, Columns],
    tested: tuple[Int64s, Columns],
) -> RiskThreshold:
    """The threshold that the second part proves, of the candidates that the first part names."""
    masked = []
    for _, columns in (tuned, tested):
        fit = acceptable(
            is_unknown(context, columns, promise.unknown_rate),
            cast(Bools, columns["unverified"]),
            promise.on_unverified,
        )
        masked.append(np.where(fit, cast(Float64s, columns["trust"]), -np.inf))
    max_risk, confidence = float(promise.max_risk), float(promise.confidence)
    grid = threshold_grid(
        masked[0],
        sifted.right(tuned[1], tuned[0]),
        len(tested[0]),
        max_risk=max_risk,
        confidence=confidence,
    )
    return find_threshold(
        masked[1],
        sifted.right(tested[1], tested[0]),
        grid,
        max_risk=max_risk,
        confidence=confidence,
    )


def _table(
    options: Sequence[Configuration], means: Float64s, errors: Float64s
) -> tuple[Mapping[str, object], ...]:
    """The comparison, best first, as JSON holds it."""
    rows = [
        {
            "rule": option.name,
            "params": dict(option.parameters),
            "aurc": float(mean),
            "error": float(error),
        }
        for option, mean, error in zip(options, means, errors, strict=True)
    ]
    return tuple(sorted(rows, key=lambda row: cast(float, row["aurc"])))
