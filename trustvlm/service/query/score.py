"""Scoring: label, trust, evidence, for every query at one revision of the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import Rule, require_images, resolve_parameters
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import unit_queries
from trustvlm.service.memory.label_subset import subset_of
from trustvlm.service.memory.passes import ROUNDED_ERROR
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import applies, decide, undecided
from trustvlm.service.query.evidence import evidence_reader
from trustvlm.service.query.judge import judge
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Float64s, Int64s
from trustvlm.types.bounds import whole
from trustvlm.types.calibration import Calibration

__all__ = ["score", "verdicts_of"]


def score(
    home: Home,
    space_name: str,
    queries: Queries,
    rule: str | None,
    top_k: int,
    labels: Sequence[str] | npt.NDArray[np.bool_] | None,
    params: Mapping[str, float | None] | None,
    revision: int | None = None,
) -> Verdicts:
    """See :meth:`TrustService.score`."""
    if rule is not None:
        resolve_parameters(rule, params)  # refused before anything is encoded
    top_k = whole("top_k", top_k)
    expected = None if revision is None else whole("revision", revision)
    encoded, notes = None, list[str]()
    if not isinstance(queries, Queries) or queries.images is not None or queries.text is not None:
        if labels is not None:
            with home.snapshot(space_name) as (connection, view):
                subset_of(connection, view, labels)  # a wrong name shows before anything is encoded
        space = home.space(space_name)  # encoded outside of the transaction, as it may take long
        encoded = _unit(home, space, queries, notes)
    with home.snapshot(space_name, expected) as (connection, view):
        if encoded is None:
            space, encoded = view.space, _unit(home, view.space, queries, notes)
        verdicts = verdicts_of(
            home, connection, view, space, encoded, rule, top_k=top_k, labels=labels, params=params
        )
    return replace(verdicts, notes=tuple(notes))


def _unit(home: Home, space: SpaceRecord, queries: Queries, notes: list[str]) -> Queries:
    classifier, verifier = unit_queries(home, space, queries, notes)
    if classifier is None:
        raise InvalidInput(
            "queries.classifier: scoring needs classifier embeddings; only verifier embeddings "
            "were given"
        )
    return Queries(classifier, verifier)


def verdicts_of(
    home: Home,
    connection: Connection,
    view: SpaceView,
    space: SpaceRecord,
    unit: Queries,
    rule: str | None = None,
    *,
    top_k: int,
    labels: Sequence[str] | npt.NDArray[np.bool_] | None = None,
    params: Mapping[str, float | None] | None = None,
) -> Verdicts:
    """The verdicts of unit queries in one transaction; `space` is the space as the call began with
    it."""
    classifier, verifier = cast(Float64s, unit.classifier), cast(Float64s | None, unit.verifier)
    calibration = in_force(connection, view.space)
    name, chosen, parameters = _rule(rule, params, calibration)
    require_images([name], space.verifier_dim, images=verifier is not None)
    context = context_of(home, connection, view, space.id, labels)
    columns = judge(context, classifier, verifier, chosen, parameters, top_k)
    label_id, rival_id = cast(Int64s, columns["label_id"]), cast(Int64s, columns["rival_id"])
    copy_of = equal_others(connection, view, home.caches.memo(view), label_id, verifier)
    tau, image_evidence = _image_evidence(context, chosen, parameters, verifier)
    why_not = applies(calibration, name, parameters, all_labels=context.subset.text is None)
    if calibration is not None and why_not is None:
        decision = decide(context, columns, copy_of, calibration)
    else:
        why = why_not or "not calibrated"
        decision = undecided(context, columns, copy_of, chosen, image_evidence, why)
    error = _error_bound(view, all_nearest=bool(columns["exact"].all()))
    shown = {k: v for k, v in columns.items() if k not in ("close", "ahead", "exact")}
    return Verdicts(
        rule=name,
        params=parameters | ({"tau": tau} if "tau" in parameters else {}),
        revision=view.revision,
        approximate=error > 0,
        error_bound=error,
        read_evidence=evidence_reader(home, view, label_id, rival_id, verifier),
        tau=tau,
        tau_revision=context.fit.made if image_evidence in ("fitted", "off") else None,
        image_evidence=image_evidence,
        **cast(dict[str, Any], shown),
        **decision,
    )


def _error_bound(view: SpaceView, *, all_nearest: bool) -> float:
    """The largest error of a probability or similarity that approximate passes leave."""
    missed = 0.0 if view.index is None or all_nearest else view.index.max_error
    return max(missed, 0.0 if view.text.base is None else ROUNDED_ERROR)


def _rule(
    rule: str | None, params: Mapping[str, float | None] | None, calibration: Calibration | None
) -> tuple[str, Rule, dict[str, float | None]]:
    """The rule to score with: the named one, else the calibrated one with its parameters, else the
    default."""
    if rule is not None or calibration is None:
        return resolve_parameters(rule, params)
    resolve_parameters(calibration.rule, params)  # refused before the tuned ones are added
    given = {key: value for key, value in (params or {}).items() if value is not None}
    # What was tuned on embeddings of other encoders says nothing about these.
    tuned = {} if calibration.other_encoders else dict(calibration.params)
    return resolve_parameters(calibration.rule, tuned | given)


def _image_evidence(
    context: Context, rule: Rule, parameters: Mapping[str, float | None], verifier: Float64s | None
) -> tuple[float | None, str | None]:
    """(τ that served, where it came from) for a rule that has one."""
    if "tau" not in rule.parameters:
        return None, None
    evidence = context.fit.evidence
    if verifier is None or evidence.source == "none":
        return None, "none"
    if parameters["tau"] is not None:
        return parameters["tau"], "given"
    return (evidence.tau, evidence.source) if evidence.on else (None, "off")
