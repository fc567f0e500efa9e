"""Scoring: label, trust, evidence, for every query at one revision of the space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.images.pictures import Pictures
from trustvlm.reading.claims import claimed_names, source_names
from trustvlm.scoring.rules import Rule, require_images, resolve_parameters
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.home.verdict_log.keep import keep
from trustvlm.service.inputs.encode import ImageQueries, encoded, to_be_encoded, unit_queries
from trustvlm.service.inputs.outputs import no_classifier, require_logits
from trustvlm.service.memory.label_subset import LabelChoice, subset_of
from trustvlm.service.memory.passes import ROUNDED_ERROR
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.query.back_off.nodes import answers, no_answers, tree_of_call
from trustvlm.service.query.back_off.threshold import check_back_off, node_threshold
from trustvlm.service.query.claims.decide_claims import (
    JudgedClaims,
    able_to_judge,
    calibration_of_claims,
    claimed_verdicts,
)
from trustvlm.service.query.claims.resolve import claims_of, require_claimable
from trustvlm.service.query.collect import collect
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import applies, decide, undecided
from trustvlm.service.query.evidence import evidence_reader
from trustvlm.service.query.judge import judge
from trustvlm.service.query.whitened.words import discriminant_evidence, discriminant_remarks
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Float32s
from trustvlm.types.bounds import choice, whole
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import ON_ERROR, BackOff

_OFF = "image evidence is off: the support images do not tell the labels apart"


def score(
    home: Home,
    space_name: str,
    queries: Queries,
    rule: str | None,
    top_k: int,
    labels: LabelChoice,
    params: Mapping[str, float | None] | None,
    revision: int | None = None,
    review: bool | None = None,
    on_error: str = "raise",
    *,
    back_off: BackOff | None = None,
    logged: bool = False,
) -> Verdicts:
    """See :meth:`TrustService.score`; `logged`: the space's verdict log, if it has one, gets the
    answer."""
    choice("on_error", on_error, ON_ERROR)
    if back_off is not None:
        back_off = check_back_off(back_off)
    if rule is not None:
        resolve_parameters(rule, params)  # refused before anything is encoded
    top_k = whole("top_k", top_k)
    expected = None if revision is None else whole("revision", revision)
    given: tuple[SpaceRecord, Queries] | None = None
    images: ImageQueries | None = None
    if not isinstance(queries, Queries) or to_be_encoded(queries):
        if labels is not None:
            # a wrong name shows before anything is encoded
            home.answer(space_name, lambda reading: subset_of(reading, labels))
        space = home.space(space_name)  # encoded outside of the transaction, as it may take long
        if isinstance(queries, Queries) and isinstance(queries.images, list | tuple):
            claimed_names(queries.claimed, len(queries.images))
            source_names(queries.sources, len(queries.images))
        vectors, images = encoded(home, space, queries, on_error)
        unit, places = _unit(home, space, vectors), None if images is None else images.places
        came = len(cast(Any, unit.classifier)) if images is None else images.came
        given = space, replace(unit, claimed=claimed_names(queries.claimed, came, places))
    else:
        vectors = queries
    about = {} if images is None else _about(home, images)
    judged_in: list[SpaceRecord] = []

    def verdicts(reading: Reading, *, claims: bool = True) -> Verdicts:
        space = reading.view.space
        judged_in[:] = [space]
        unit = (space, _with_claims(home, space, queries)) if given is None else given
        if not claims:
            unit = unit[0], replace(unit[1], claimed=None)
        described = about if queries.sources is None else about | _named(queries, unit[1], images)
        return verdicts_of(
            home, reading, *unit, rule, top_k=top_k, labels=labels, params=params,
            about=described, back_off=back_off,
        )  # fmt: skip

    answer = home.answer(space_name, verdicts, expected)
    if review:  # a person is asked about the label that the space gives, whatever is claimed
        without = partial(verdicts, claims=False)
        labelled = answer if answer.claimed is None else home.answer(space_name, without, expected)
        _collect(home, judged_in[0], vectors, labelled)
    if logged and judged_in[0].verdict_log is not None and review is not False:
        keep(home.verdict_writer, judged_in[0], answer, all_labels=labels is None)
    return answer


def _named(queries: Queries, unit: Queries, images: ImageQueries | None) -> dict[str, Any]:
    """The names that the queries of a call are given. Raises InvalidInput."""
    came, places = len(cast(Any, unit.classifier)), None
    if images is not None:
        came, places = images.came, images.places
    return {"source": np.array(source_names(queries.sources, came, places), dtype=object)}


def _collect(home: Home, space: SpaceRecord, vectors: Queries, verdicts: Verdicts) -> None:
    """Queue the images of a call for review."""

    def row_of(place: int) -> dict[str, Any]:
        row = verdicts.plain_rows(place, place + 1)[0]
        return row if verdicts.source is None else row | {"source": verdicts.source[place]}

    collect(home, space, vectors, verdicts.decision.tolist(), row_of)


def _with_claims(home: Home, space: SpaceRecord, queries: Queries) -> Queries:
    unit = _unit(home, space, queries)
    if queries.claimed is None:
        return unit
    return replace(unit, claimed=claimed_names(queries.claimed, len(cast(Any, unit.classifier))))


def _unit(home: Home, space: SpaceRecord, queries: Queries) -> Queries:
    classifier, verifier = unit_queries(home, space, queries)
    if classifier is None:
        raise no_classifier(space, "scoring")
    return Queries(classifier, verifier)


def verdicts_of(
    home: Home,
    reading: Reading,
    space: SpaceRecord,
    unit: Queries,
    rule: str | None = None,
    *,
    top_k: int,
    labels: LabelChoice = None,
    params: Mapping[str, float | None] | None = None,
    about: Mapping[str, Any] | None = None,
    back_off: BackOff | None = None,
) -> Verdicts:
    """The verdicts of unit queries at one state of the catalog; `space` is the space as the call
    began with it; `about`: the fields that say which images the queries are."""
    view = reading.view
    classifier, verifier = cast(Float32s, unit.classifier), cast(Float32s | None, unit.verifier)
    calibration = reading.once("calibration", lambda: in_force(reading.connection, view.space))
    of_claims = None if unit.claimed is None else calibration_of_claims(reading)
    leading = calibration if unit.claimed is None else of_claims or able_to_judge(calibration)
    name, chosen, parameters = _rule(rule, params, leading)
    require_images([name], space.verifier_dim, images=verifier is not None)
    if chosen.absolute:
        require_logits(space, [name])
    context = context_of(home, reading, space.id, labels)
    every_label = context.subset.text is None
    why_not = applies(calibration, name, parameters, all_labels=every_label)
    tree, threshold = None, None
    deciding = calibration if why_not is None else None
    if back_off is not None or deciding is not None:
        nodes = node_threshold(back_off, name, chosen, deciding)
        why_not, threshold = why_not or nodes.why_not, nodes.value
        if threshold is not None:
            tree = tree_of_call(context, required=back_off is not None)
    claims = None
    if unit.claimed is not None:
        require_claimable([name])
        claims = claims_of(reading.connection, view, context.subset, unit.claimed)
    columns = judge(
        context, classifier, verifier, chosen, parameters, top_k,
        close=why_not is None or claims is not None,
        claimed=None if claims is None else claims.slots, tree=tree,
    )  # fmt: skip
    label_id, rival_id = columns.arrays["label_id"], columns.arrays["rival_id"]
    copy_of = equal_others(reading, label_id, verifier)
    tau, image_evidence = _image_evidence(context, chosen, parameters, verifier)
    fallbacks = discriminant_remarks(context) if chosen.discriminant else ()
    off = (_OFF,) if image_evidence == "off" else ()
    if calibration is not None and why_not is None:
        decision = decide(context, columns, copy_of, calibration, fallbacks)
    else:
        why = why_not or "not calibrated"
        decision = undecided(context, columns, copy_of, chosen, (*off, *fallbacks), why)
    said = None
    if claims is not None:
        judged = JudgedClaims(context, columns, claims, verifier, name, chosen, parameters)
        said = claimed_verdicts(judged, of_claims, decision, off, fallbacks)
        decision = said.decision
    error = _error_bound(view, all_nearest=bool(columns.arrays["exact"].all()))
    if tree is None or threshold is None:
        later, node_values = decision.later | no_answers(len(label_id)), {}
    else:
        later, node_values = decision.later, answers(tree, columns, threshold)
    return Verdicts.lazily(
        columns.names() | later,
        rule=name,
        params=parameters | ({"tau": tau} if "tau" in parameters else {}),
        revision=view.revision,
        approximate=error > 0,
        error_bound=error,
        read_evidence=evidence_reader(
            home, view, label_id, rival_id, verifier, None if said is None else said.ids
        ),
        tau=tau,
        tau_revision=_fitted_at(context, chosen, image_evidence),
        image_evidence=image_evidence,
        **(about or {}),
        **columns.numbers(),
        **node_values,
        **decision.values,
        **({} if said is None else said.values),
    )


def _fitted_at(context: Context, rule: Rule, image_evidence: str | None) -> int | None:
    """The revision of the fit that served; None where nothing was fitted."""
    if image_evidence not in ("fitted", "cosine", "off"):
        return None
    return context.discriminant.made if rule.discriminant else context.fit.made


def _about(home: Home, images: ImageQueries) -> dict[str, Any]:
    """What verdicts say of the images that they are on."""
    return {
        "notes": images.notes,
        "source": np.array(images.names, dtype=object),
        "failures": images.failures,
        "read_thumbnail": Pictures(images.pictures, home.limits),
    }


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
    context: Context, rule: Rule, parameters: Mapping[str, float | None], verifier: Float32s | None
) -> tuple[float | None, str | None]:
    """(τ that served, where it came from) for a rule that has one."""
    if "tau" not in rule.parameters:
        return None, None
    if rule.discriminant:
        return discriminant_evidence(context, parameters, images=verifier is not None)
    evidence = context.fit.evidence
    if verifier is None or evidence.source == "none":
        return None, "none"
    if parameters["tau"] is not None:
        return parameters["tau"], "given"
    return (evidence.tau, evidence.source) if evidence.on else (None, "off")
