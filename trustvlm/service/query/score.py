"""Scoring: label, trust, evidence, for every query at one revision of the space."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.images.sandboxes import Pictures
from trustvlm.reading.claims import claimed_names, source_names
from trustvlm.scoring.rules import Rule, require_images, resolve_parameters
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import ImageQueries, encoded, to_be_encoded, unit_queries
from trustvlm.service.inputs.outputs import no_classifier, require_logits
from trustvlm.service.memory.label_subset import LabelChoice, subset_of
from trustvlm.service.memory.passes import ROUNDED_ERROR
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.memory.taxonomy.space_tree import SpaceTree
from trustvlm.service.query.back_off.nodes import answers, no_answers, tree_of_call
from trustvlm.service.query.back_off.threshold import check_back_off, node_threshold
from trustvlm.service.query.claims.decide_claims import (
    ClaimedVerdicts,
    JudgedClaims,
    able_to_judge,
    calibration_of_claims,
    claimed_verdicts,
)
from trustvlm.service.query.claims.resolve import Claims, claims_of, require_claimable
from trustvlm.service.query.collect import collect
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context, context_of
from trustvlm.service.query.decide import Decision, applies, decide, undecided
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
        unit = _unit(home, space, replace(vectors, claimed=None))
        places = None if images is None else images.places
        came = len(cast(Any, unit.classifier)) if images is None else images.came
        given = space, replace(unit, claimed=claimed_names(queries.claimed, came, places))
    else:
        vectors = queries
    about = {} if images is None else _about(home, images)
    judged_in: list[SpaceRecord] = []

    def verdicts(reading: Reading, *, claims: bool = True) -> Verdicts:
        space = reading.view.space
        judged_in[:] = [space]
        unit = (space, _unit(home, space, queries)) if given is None else given
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
        home.verdict_writer.keep(judged_in[0], answer, all_labels=labels is None)
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


def _unit(home: Home, space: SpaceRecord, queries: Queries) -> Queries:
    """Embeddings as unit vectors, with the claims. Raises InvalidInput."""
    classifier, verifier = unit_queries(home, space, queries)
    if classifier is None:
        raise no_classifier(space, "scoring")
    claimed = queries.claimed
    if claimed is not None:
        claimed = claimed_names(claimed, len(classifier))
    return Queries(classifier, verifier, claimed=claimed)


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
    judging = _judging(reading, space, unit, rule, params)
    context = context_of(home, reading, space.id, labels)
    deciding = _deciding(context, judging, back_off)
    claims = None
    if unit.claimed is not None:
        require_claimable([judging.name])
        claims = claims_of(reading.connection, reading.view, context.subset, unit.claimed)
    verifier = cast(Float32s | None, unit.verifier)
    columns = judge(
        context, cast(Float32s, unit.classifier), verifier, judging.rule, judging.parameters, top_k,
        close=deciding.calibration is not None or claims is not None,
        claimed=None if claims is None else claims.slots, tree=deciding.tree,
    )  # fmt: skip
    evidence = _image_evidence(context, judging, verifier)
    decision, said = _decided(context, judging, deciding, columns, claims, verifier, evidence)
    label_id, rival_id = columns.arrays["label_id"], columns.arrays["rival_id"]
    claimed_ids = None if said is None else said.ids
    error = _error_bound(reading.view, all_nearest=bool(columns.arrays["exact"].all()))
    later, node_values = columns.names() | decision.later, dict[str, Any]()
    if deciding.tree is None or deciding.threshold is None:
        later |= no_answers(len(label_id))
    else:
        node_values = answers(deciding.tree, columns, deciding.threshold)
    tau = {"tau": evidence.tau} if "tau" in judging.parameters else {}
    return Verdicts.lazily(
        later,
        rule=judging.name,
        params=judging.parameters | tau,
        revision=reading.view.revision,
        approximate=error > 0,
        error_bound=error,
        read_evidence=evidence_reader(
            home, reading.view, label_id, rival_id, verifier, claimed_ids
        ),
        tau=evidence.tau,
        tau_revision=evidence.revision,
        image_evidence=evidence.source,
        **(about or {}),
        **columns.numbers(),
        **node_values,
        **decision.values,
        **({} if said is None else said.values),
    )


class _Judging(NamedTuple):
    """What judges the queries of a call.

    Attributes:
        name, rule, parameters: the rule. calibration: the one in force for predicted labels.
        of_claims: the one in force for claims, where queries have any.
    """

    name: str
    rule: Rule
    parameters: dict[str, float | None]
    calibration: Calibration | None
    of_claims: Calibration | None


def _judging(
    reading: Reading,
    space: SpaceRecord,
    unit: Queries,
    rule: str | None,
    params: Mapping[str, float | None] | None,
) -> _Judging:
    """The named rule, else the calibrated one with its parameters, else the default.

    Raises:
        InvalidInput: it does not fit what the queries have.
    """
    in_view = reading.view.space
    calibration = reading.once("calibration", lambda: in_force(reading.connection, in_view))
    leading, of_claims = calibration, None
    if unit.claimed is not None:
        of_claims = calibration_of_claims(reading)
        leading = of_claims or able_to_judge(calibration)
    if rule is None and leading is not None:
        rule = leading.rule
        resolve_parameters(rule, params)  # refused before the tuned ones are added
        given = {key: value for key, value in (params or {}).items() if value is not None}
        # What was tuned on embeddings of other encoders says nothing about these.
        params = given if leading.other_encoders else dict(leading.params) | given
    name, chosen, parameters = resolve_parameters(rule, params)
    require_images([name], space.verifier_dim, images=unit.verifier is not None)
    if chosen.absolute:
        require_logits(space, [name])
    return _Judging(name, chosen, parameters, calibration, of_claims)


class _Deciding(NamedTuple):
    """What decides about predicted labels.

    Attributes:
        calibration: None: none does, and `why_not` says why. threshold, tree: of the nodes that
            verdicts back off to; None: they do not.
    """

    calibration: Calibration | None
    why_not: str
    threshold: float | None = None
    tree: SpaceTree | None = None


def _deciding(context: Context, judging: _Judging, back_off: BackOff | None) -> _Deciding:
    """Whether the calibration in force decides, and how verdicts back off."""
    name, calibration = judging.name, judging.calibration
    every_label = context.subset.text is None
    why_not = applies(calibration, name, judging.parameters, all_labels=every_label)
    if why_not is not None:
        calibration = None
    if back_off is None and calibration is None:
        return _Deciding(None, why_not or "")
    nodes = node_threshold(back_off, name, judging.rule, calibration)
    why_not = why_not or nodes.why_not
    tree = None
    if nodes.value is not None:
        tree = tree_of_call(context, required=back_off is not None)
    deciding = calibration if why_not is None else None
    return _Deciding(deciding, why_not or "", nodes.value, tree)


def _decided(
    context: Context,
    judging: _Judging,
    deciding: _Deciding,
    columns: Columns,
    claims: Claims | None,
    verifier: Float32s | None,
    evidence: _ImageEvidence,
) -> tuple[Decision, ClaimedVerdicts | None]:
    """The decision on each claim or predicted label, and what is said of the claims."""
    copy_of = equal_others(context.reading, columns.arrays["label_id"], verifier)
    remarks = discriminant_remarks(context) if judging.rule.discriminant else ()
    off = (_OFF,) if evidence.source == "off" else ()
    if deciding.calibration is not None:
        decision = decide(context, columns, copy_of, deciding.calibration, remarks)
    else:
        every = (*off, *remarks)
        decision = undecided(context, columns, copy_of, judging.rule, every, deciding.why_not)
    if claims is None:
        return decision, None
    judged = JudgedClaims(context, columns, claims, verifier, *judging[:3])
    said = claimed_verdicts(judged, judging.of_claims, decision, off, remarks)
    return said.decision, said


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


class _ImageEvidence(NamedTuple):
    """The τ that served, where it came from, and at which revision it was fitted; None where there
    is none."""

    tau: float | None
    source: str | None
    revision: int | None = None


def _image_evidence(
    context: Context, judging: _Judging, verifier: Float32s | None
) -> _ImageEvidence:
    """The image evidence of a rule that has a τ."""
    rule, parameters, fit = judging.rule, judging.parameters, context.fit
    if "tau" not in rule.parameters:
        return _ImageEvidence(None, None)
    images = verifier is not None
    if rule.discriminant:
        tau, source = discriminant_evidence(context, parameters, images=images)
    elif not images or fit.evidence.source == "none":
        tau, source = None, "none"
    elif parameters["tau"] is not None:
        tau, source = parameters["tau"], "given"
    elif fit.evidence.on:
        tau, source = fit.evidence.tau, fit.evidence.source
    else:
        tau, source = None, "off"
    if source not in ("fitted", "cosine", "off"):
        return _ImageEvidence(tau, source)
    return _ImageEvidence(tau, source, context.discriminant.made if rule.discriminant else fit.made)
