"""Scoring: label, trust, evidence, for every query at one revision of the space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.images.sandboxes import Pictures
from trustvlm.reading.claims import claimed_names, source_names
from trustvlm.scoring.rules import RULES, require_text_rules, resolve_parameters
from trustvlm.scoring.vectors import as_unit
from trustvlm.service.home.calibrations import in_force
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import ImageQueries, encoded, query_vectors, to_be_encoded
from trustvlm.service.inputs.outputs import no_classifier, require_logits
from trustvlm.service.memory.label_subset import LabelChoice, subset_of
from trustvlm.service.memory.passes import ROUNDED_ERROR
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.memory.space_tree import SpaceTree
from trustvlm.service.memory.support_prints import equal_others
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.claims.decide_claims import claimed_verdicts
from trustvlm.service.query.claims.judge_claims import Claims, claims_of, require_claimable
from trustvlm.service.query.collect import collect
from trustvlm.service.query.columns import Columns, no_nodes
from trustvlm.service.query.context import Context, Judging, context_of
from trustvlm.service.query.decide import Decision, applies, decide, undecided
from trustvlm.service.query.evidence import EvidenceReader
from trustvlm.service.query.judge import judge
from trustvlm.service.query.nodes import answers, check_back_off, node_threshold, tree_of_call
from trustvlm.service.query.whitened import discriminant_evidence, discriminant_remarks
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Floats
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
    labels: LabelChoice | None,
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
    encoded_for, vectors, images = None, queries, None
    if not isinstance(queries, Queries) or to_be_encoded(queries):
        encoded_for, vectors, images = _encoded(home, space_name, queries, labels, on_error)
    about = {} if images is None else _about(home, images)
    judged_in: list[SpaceRecord] = []

    def verdicts(reading: Reading, *, claims: bool = True) -> Verdicts:
        judged_in[:] = [reading.view.space]
        space = encoded_for or reading.view.space
        classifier, verifier = query_vectors(home, space, vectors, as_unit)
        if classifier is None:
            raise no_classifier(space, "scoring")
        came, places = (len(classifier), None) if images is None else (images.came, images.places)
        described, claimed = about, None
        if queries.sources is not None:
            names = np.array(source_names(queries.sources, came, places), dtype=object)
            described = about | {"source": names}
        if claims and queries.claimed is not None:
            claimed = claimed_names(queries.claimed, came, places)
        return verdicts_of(
            home, reading, space, UnitQueries(classifier, verifier), rule, top_k=top_k,
            labels=labels, params=params, claimed=claimed, about=described, back_off=back_off,
        )  # fmt: skip

    answer = home.answer(space_name, verdicts, expected)
    if review:  # a person is asked about the label that the space gives, whatever is claimed
        without = partial(verdicts, claims=False)
        labelled = answer if answer.claimed is None else home.answer(space_name, without, expected)
        _collect(home, judged_in[0], vectors, labelled)
    if logged and judged_in[0].verdict_log is not None and review is not False:
        home.verdict_writer.keep(judged_in[0], answer, all_labels=labels is None)
    return answer


def _encoded(
    home: Home, space_name: str, queries: Queries, labels: LabelChoice | None, on_error: str
) -> tuple[SpaceRecord, Queries, ImageQueries | None]:
    """Encode the queries of a call outside of any transaction, as it may take long: (the space that
    they are encoded for, embeddings, what is known of the images if these are of any). What is
    wrong with the names of the call shows before anything is encoded."""
    if labels is not None:
        home.answer(space_name, lambda reading: subset_of(reading, labels))
    space = home.space(space_name)
    if isinstance(queries, Queries) and isinstance(queries.images, list | tuple):
        claimed_names(queries.claimed, len(queries.images))
        source_names(queries.sources, len(queries.images))
    return space, *encoded(home, space, queries, on_error)


def _collect(home: Home, space: SpaceRecord, vectors: Queries, verdicts: Verdicts) -> None:
    """Queue the images of a call for review."""

    def row_of(place: int) -> dict[str, Any]:
        row = verdicts.plain_rows(place, place + 1)[0]
        return row if verdicts.source is None else row | {"source": verdicts.source[place]}

    collect(home, space, vectors, verdicts.decision.tolist(), row_of)


def verdicts_of(
    home: Home,
    reading: Reading,
    space: SpaceRecord,
    queries: UnitQueries,
    rule: str | None = None,
    *,
    top_k: int,
    labels: LabelChoice | None = None,
    params: Mapping[str, float | None] | None = None,
    claimed: Sequence[str | None] | None = None,
    about: Mapping[str, Any] | None = None,
    back_off: BackOff | None = None,
) -> Verdicts:
    """The verdicts of n queries at one state of the catalog.

    Args:
        space: as the call began with it. claimed: (n,) names of claimed labels. about: the fields
            of verdicts that say which images the queries are.
    """
    view, verifier = reading.view, queries.verifier
    judging = _judging(
        reading, space, rule, params, images=verifier is not None, claims=claimed is not None
    )
    context = context_of(home, reading, space.id, labels)
    deciding = _deciding(context, judging, back_off)
    claims = None
    if claimed is not None:
        require_claimable([judging.name])
        claims = claims_of(reading.connection, view, context.subset.text, claimed)
    [columns] = judge(
        context, queries, [(judging.rule, judging.parameters)], top_k,
        close=deciding.calibration is not None or claims is not None,
        claimed=None if claims is None else claims.slots, tree=deciding.tree,
    )  # fmt: skip
    evidence = _image_evidence(context, judging, images=verifier is not None)
    decision = _decided(context, judging, deciding, columns, claims, verifier, evidence)
    # the largest error of a probability or similarity that approximate passes leave
    error = 0.0 if view.text.base is None else ROUNDED_ERROR
    if view.index is not None and not columns.arrays["exact"].all():
        error = max(error, view.index.max_error)
    later, node_values = columns.names() | decision.later, dict[str, Any]()
    if deciding.tree is None or deciding.threshold is None:
        later |= no_nodes(len(queries.classifier))
    else:
        node_values = answers(deciding.tree, columns, deciding.threshold)
    tau = {"tau": evidence.tau} if "tau" in judging.parameters else {}
    return Verdicts.lazily(
        later,
        rule=judging.name,
        params=judging.parameters | tau,
        revision=view.revision,
        approximate=error > 0,
        error_bound=error,
        read_evidence=EvidenceReader(
            home, view.space.id, view.epoch, view.revision, view.space.verifier_dim,
            view.aliases.groups, columns.arrays["label_id"], columns.arrays["rival_id"], verifier,
            decision.values.get("claimed_id"),
        ),
        tau=evidence.tau,
        tau_revision=evidence.revision,
        image_evidence=evidence.source,
        **(about or {}),
        **columns.numbers(),
        **node_values,
        **decision.values,
    )  # fmt: skip


def _judging(
    reading: Reading,
    space: SpaceRecord,
    rule: str | None,
    params: Mapping[str, float | None] | None,
    *,
    images: bool,
    claims: bool,
) -> Judging:
    """The named rule, else the calibrated one with its parameters, else the default; `images`,
    `claims`: the queries have verifier embeddings, or claimed labels.

    Raises:
        InvalidInput: it does not fit what the queries have.
    """
    in_view = reading.view.space
    calibration = reading.once("calibration", lambda: in_force(reading.connection, in_view))
    leading, of_claims = calibration, None
    if claims:
        find = partial(in_force, reading.connection, in_view, claims=True)
        of_claims = leading = reading.once("calibration of claims", find)
        if leading is None and calibration and RULES[calibration.rule].of_label:
            leading = calibration
    if rule is None and leading is not None:
        rule = leading.rule
        resolve_parameters(rule, params)  # refused before the tuned ones are added
        given = {key: value for key, value in (params or {}).items() if value is not None}
        # What was tuned on embeddings of other encoders says nothing about these.
        params = given if leading.other_encoders else dict(leading.params) | given
    name, chosen, parameters = resolve_parameters(rule, params)
    if not images:
        require_text_rules([name], space.verifier_dim)
    if chosen.absolute:
        require_logits(space, [name])
    return Judging(name, chosen, parameters, calibration, of_claims)


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


def _deciding(context: Context, judging: Judging, back_off: BackOff | None) -> _Deciding:
    """Whether the calibration in force decides, and how verdicts back off."""
    name, calibration = judging.name, judging.calibration
    every_label = context.subset.text is None
    why_not = applies(calibration, name, judging.parameters, all_labels=every_label)
    if why_not is not None:
        calibration = None
    if back_off is None and calibration is None:
        return _Deciding(None, why_not or "")
    threshold, not_of_nodes = node_threshold(back_off, name, judging.rule, calibration)
    why_not = why_not or not_of_nodes
    tree = None
    if threshold is not None:
        tree = tree_of_call(context, required=back_off is not None)
    deciding = calibration if why_not is None else None
    return _Deciding(deciding, why_not or "", threshold, tree)


def _decided(
    context: Context,
    judging: Judging,
    deciding: _Deciding,
    columns: Columns,
    claims: Claims | None,
    verifier: Floats | None,
    evidence: _ImageEvidence,
) -> Decision:
    """The decision on each claim or predicted label."""
    copy_of = equal_others(context.reading, columns.arrays["label_id"], verifier)
    remarks = discriminant_remarks(context) if judging.rule.discriminant else ()
    off = (_OFF,) if evidence.source == "off" else ()
    if deciding.calibration is not None:
        decision = decide(context, columns, copy_of, deciding.calibration, remarks)
    else:
        every = (*off, *remarks)
        decision = undecided(context, columns, copy_of, judging.rule, every, deciding.why_not)
    if claims is None:
        return decision
    return claimed_verdicts(context, judging, columns, claims, verifier, decision, off, remarks)


def _about(home: Home, images: ImageQueries) -> dict[str, Any]:
    """What verdicts say of the images that they are on."""
    return {
        "notes": images.notes,
        "source": np.array(images.names, dtype=object),
        "failures": images.failures,
        "read_thumbnail": Pictures(images.pictures, home.limits),
    }


class _ImageEvidence(NamedTuple):
    """The τ that served, where it came from, and at which revision it was fitted; None where there
    is none."""

    tau: float | None
    source: str | None
    revision: int | None = None


def _image_evidence(context: Context, judging: Judging, *, images: bool) -> _ImageEvidence:
    """The image evidence of a rule that has a τ; `images`: there are verifier embeddings."""
    rule, parameters, fit = judging.rule, judging.parameters, context.fit
    if "tau" not in rule.parameters:
        return _ImageEvidence(None, None)
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
