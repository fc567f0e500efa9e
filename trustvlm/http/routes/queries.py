"""Embedding, scoring, searching, projecting; and evidence that is read later."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import Query, Request, Response

from trustvlm.errors import Conflict, Forbidden, InvalidInput
from trustvlm.http.routes.answers import answer, reads
from trustvlm.http.routes.openapi import SPACE, Id, route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, MOST_VALUES, NPZ, Received, read_body
from trustvlm.http.wire.parameters import expected_revision
from trustvlm.http.wire.schemas import EmbedBody, EvidenceBody, RuleName, ScoreBody, SearchBody
from trustvlm.http.work.batches import Part
from trustvlm.http.work.process import Serving, refuse_unknown, serving_of, with_vectors
from trustvlm.reading.claims import claimed_names, source_names
from trustvlm.reading.outputs.probabilities import beside_images
from trustvlm.scoring.rules import RULES
from trustvlm.service.query.evidence import EvidenceGone, EvidenceReader
from trustvlm.service.query.like.stored import require_few
from trustvlm.types import CALL_COLUMNS, Embedded, Hits, Queries, Verdicts
from trustvlm.types.answers import Embeddings, EvidenceList, HitList, Scored, UnreadFile
from trustvlm.types.arrays import Float64s
from trustvlm.types.attributes.filters import Filter, filter_or_names
from trustvlm.types.json_form import to_plain
from trustvlm.types.options import Within
from trustvlm.types.rows import ObservationList, ObservationRow
from trustvlm.types.tables.projection import Projection
from trustvlm.types.tables.verdict import CLAIM_CALL_COLUMNS

OBSERVATION = SPACE + "/observations/{observation}"
router = router_of("queries")
_NAMED = ("text", "like_supports", "like_labels")
_SEARCH = ("kind", "k", "min_similarity", "vectors")
EVIDENCE = 3
"""Nearest support images of label and rival that come with the verdict on an image, unless another
number is requested."""


@router.post(f"{SPACE}/score", **route("read", Scored, ScoreBody, JSON, NPZ, FORM))
async def score(request: Request, space: str) -> Response:
    """Label, trust and evidence of every query, at one revision of the space."""
    serving, received = serving_of(request), await read_body(request, ScoreBody, JSON, NPZ, FORM)
    body = received.body
    if body.review and not request.state.caller.may("write"):
        raise Forbidden("review: to store images needs a key of scope 'write'")
    labels = filter_or_names(body.labels)
    if received.images is not None and isinstance(labels, list):
        await refuse_unknown(serving, space, "labels", labels)
    embedded, queries = await _embedded(serving, space, received)
    names = ("rule", "params", "top_k", "back_off")
    options = {name: getattr(body, name) for name in names}
    options["labels"] = labels
    options["revision"] = expected_revision(request)
    sources: Sequence[str | None] | None = body.sources
    if embedded is not None:
        named = source_names(sources, len(received.images or ()), embedded.places)
        sources = embedded.sources if named is None else named
    part = await serving.score(
        space, queries, options, review=body.review, request_id=request.state.request_id,
        sources=sources,
    )  # fmt: skip
    evidence = body.evidence
    if evidence is None:
        evidence = 0 if embedded is None else EVIDENCE
    scored = await _scored(serving, part, evidence, embedded)
    if body.terms:
        terms = _term_rows(part.answer, part.start, part.stop)
        for row, row_terms in zip(scored["verdicts"], terms, strict=True):
            row["terms"] = row_terms
    return answer(scored)


async def _embedded(
    serving: Serving, space: str, received: Received[Any]
) -> tuple[Embedded | None, Queries]:
    """Queries as embeddings; of image files also how they were read. Raises InvalidInput."""
    if received.images is None:
        return None, await with_vectors(serving, space, received.queries())
    embedded = await serving.embed(space, received.images, received.reading)
    if not embedded.places:
        source, reason = embedded.failures[0]
        count = len(embedded.failures)
        raise InvalidInput(f"images: {source}: {reason} (none of {count} can be read)")
    given, came = received.queries(), len(received.images)
    claimed = claimed_names(given.claimed, came, embedded.places)
    queries = beside_images(given, embedded.queries, came, embedded.places)
    return embedded, await with_vectors(serving, space, replace(queries, claimed=claimed))


async def _scored(
    serving: Serving, part: Part, evidence: int, embedded: Embedded | None
) -> dict[str, Any]:
    """Verdicts with their evidence and, of image files, their names and the unreadable ones."""
    verdicts: Verdicts = part.answer
    rows = part.rows
    if evidence:

        def read() -> list[Any]:
            numbers = range(part.start, part.stop)
            return [to_plain(verdicts.evidence(number, evidence)) for number in numbers]

        for row, images in zip(rows, await serving.reading.run(read), strict=True):
            row["evidence"] = images
    scored: dict[str, Any] = {name: getattr(verdicts, name) for name in CALL_COLUMNS}
    if verdicts.claimed is not None:
        scored |= {name: getattr(verdicts, name) for name in CLAIM_CALL_COLUMNS}
    scored |= {"params": verdicts.params, "top_k": verdicts.top_labels.shape[1], "verdicts": rows}
    if isinstance(verdicts.read_evidence, EvidenceReader):
        scored["evidence_state"] = verdicts.read_evidence.state(part.start, part.stop)
    if embedded is not None:
        for row, place in zip(rows, embedded.places, strict=True):
            row["index"] = place
        scored["notes"] = embedded.notes
        scored["failures"] = [to_plain(file) for file in _unread_files(embedded)]
    return scored


def _term_rows(verdicts: Verdicts, start: int, stop: int) -> list[dict[str, Any]]:
    """The parts of the trust of label and rival that come from text and from images (None: the rule
    does not use them), with the ends of the rule's scale (None: it has none)."""
    ends = RULES[verdicts.rule].trust_range(verdicts.params)
    scale = ends if all(map(math.isfinite, ends)) else None
    label = _terms(verdicts.rule, verdicts.trust[start:stop], verdicts.text_confidence[start:stop])
    assert verdicts.rival_confidence is not None
    rival = _terms(
        verdicts.rule, verdicts.rival_trust[start:stop], verdicts.rival_confidence[start:stop]
    )
    return [
        {"range": scale, "label": one, "rival": None if name is None else other}
        for one, other, name in zip(label, rival, verdicts.rival[start:stop].tolist(), strict=True)
    ]


def _terms(rule: str, trust: Float64s, confidence: Float64s) -> list[dict[str, float | None]]:
    """The text term is what the rule says of a label without images (λ = 0): of rules that look at
    both sides, p. The image term is what the images add: trust = text + image."""
    kinds = {
        "text": (trust, None), "image": (None, trust), "fused": (confidence, trust - confidence),
    }  # fmt: skip
    sides = [
        [None] * len(trust) if side is None else _undefined_as_none(side)
        for side in kinds[RULES[rule].kind]
    ]
    return [{"text": text, "image": image} for text, image in zip(*sides, strict=True)]


def _undefined_as_none(numbers: Float64s) -> list[float | None]:
    return [None if number != number else number for number in numbers.tolist()]


def _unread_files(embedded: Embedded) -> tuple[UnreadFile, ...]:
    """The files that could not be read, by their place among all."""
    failed = zip(embedded.failed, embedded.failures, strict=True)
    return tuple(UnreadFile(place, source, reason) for place, (source, reason) in failed)


@reads(router.get, f"{SPACE}/observations/pictured")
def pictured_observations(
    serving: Serving, space: str, limit: Annotated[int, Query(ge=1, le=100)] = 8
) -> ObservationList:
    """Some of the stored images of known label that have a thumbnail, to look at."""
    return ObservationList(tuple(serving.home.pictured_observations(space, limit)))


@reads(router.get, OBSERVATION)
def get_observation(serving: Serving, space: str, observation: Id) -> ObservationRow:
    """A stored image of known label."""
    return serving.home.get_observation(space, observation)


@router.get(f"{OBSERVATION}/verdict", **route("read", Scored))
async def score_observation(
    request: Request,
    space: str,
    observation: Id,
    rule: Annotated[RuleName | None, Query()] = None,
    top_k: Annotated[int, Query(), Within("top_k")] = 5,
    evidence: Annotated[int, Query(ge=0, le=1_000)] = EVIDENCE,
    terms: bool = False,
    filter: Annotated[str | None, Query(min_length=1, max_length=20_000)] = None,
) -> Response:
    """The verdict that a stored image gets now, from its stored embeddings: a list of one.

    `filter`: only labels whose attributes it keeps take part, as JSON or as text.
    """
    serving = serving_of(request)
    labels = None if filter is None else Filter(filter)
    score_it = partial(serving.home.score_observation, space, observation, rule=rule, labels=labels)
    verdicts: Verdicts = await serving.reading.run(partial(score_it, top_k=top_k))
    part = Part(verdicts, 0, 1, verdicts.plain_rows(0, 1))
    scored = await _scored(serving, part, evidence, None)
    row = scored["verdicts"][0]
    if (source := verdicts[0].source) is not None:
        row["source"] = source
    if terms:
        row["terms"] = _term_rows(verdicts, 0, 1)[0]
    return answer(scored)


@reads(router.post, f"{SPACE}/evidence")
def evidence(serving: Serving, space: str, received: Received[EvidenceBody]) -> EvidenceList:
    """The nearest support images of label and rival of verdicts, as of their revision, even if
    the space has changed since.

    The body repeats the queries and what the answer with the verdicts said of them.
    """
    body, queries = received.body, received.queries()
    try:
        images = serving.home.evidence_of(
            space, queries, body.label_ids, body.rival_ids, state=body.state,
            revision=body.revision, k=body.k, claimed_ids=body.claimed_ids,
        )  # fmt: skip
    except EvidenceGone as error:  # the verdicts are too old: no fault of the service
        raise Conflict(str(error)) from error
    return EvidenceList(tuple(images))


@router.post(f"{SPACE}/embed", **route("read", Embeddings, EmbedBody, JSON, FORM))
async def embed(request: Request, space: str) -> Response:
    """Image files as embeddings, which can be scored, searched with and evaluated repeatedly.

    `places` says which files they are of, `failures` which could not be read.
    """
    serving, received = serving_of(request), await read_body(request, EmbedBody, JSON, FORM)
    if received.images is None:
        raise InvalidInput("images: expected at least one image, got none")
    embedded = await serving.embed(space, received.images, received.reading)
    classifier, verifier = (
        None if matrix is None else np.asarray(matrix).tolist()
        for matrix in (embedded.queries.classifier, embedded.queries.verifier)
    )
    rest = embedded.places, tuple(embedded.sources), embedded.notes, _unread_files(embedded)
    thumbnails = None
    if received.body.thumbnails:
        pictures = embedded.queries.thumbnails or []
        thumbnails = tuple(b64encode(one or b"").decode() for one in pictures)
    return answer(Embeddings(classifier, verifier, *rest, thumbnails))


@router.post(f"{SPACE}/search", **route("read", HitList, SearchBody, JSON, NPZ, FORM))
async def search(request: Request, space: str) -> Response:
    """The nearest support images, prototypes or text prototypes of every query."""
    serving, received = serving_of(request), await read_body(request, SearchBody, JSON, NPZ, FORM)
    body, notes = received.body, tuple[str, ...]()
    named = [name for name in _NAMED if getattr(body, name) is not None]
    if received.images is not None and named:
        raise InvalidInput(f"{named[0]}: expected images or {named[0]} to search with, got both")
    if body.supports and body.kind == "support":
        raise InvalidInput("supports: applies to labels that are found, and kind is 'support'")
    options: dict[str, Any] = {name: getattr(body, name) for name in _SEARCH}
    options["filter"] = None if body.filter is None else Filter(body.filter)
    options["revision"] = expected_revision(request)
    if named:
        find = partial(serving.service.search, space, received.queries(), **options)
        alone = serving.encode if body.text is not None else serving.search_alone
        hits_alone: Hits = await alone(find)
        part = Part(hits_alone, 0, len(hits_alone))
    else:
        embedded, queries = await _embedded(serving, space, received)
        part = await serving.search(space, queries, options)
        notes = () if embedded is None else embedded.notes
    return answer(await _hit_list(serving, part, notes, body.supports))


async def _hit_list(serving: Serving, part: Part, notes: tuple[str, ...], supports: int) -> HitList:
    """The hits of a call, with up to `supports` support images of each label."""
    hits = part.answer
    if hits.vectors is not None:
        k, dim = hits.vectors.shape[1:]
        require_few(part.stop - part.start, k, dim, MOST_VALUES)
    rows = _hit_rows(part)
    some = await _supports(serving, rows, supports)
    quality = {name: getattr(hits, name) for name in ("approximate", "error_bound", "recall")}
    return HitList(hits.revision, hits.kind, rows, notes, supports=some, **quality)


@reads(router.get, f"{SPACE}/projection")
def project(
    serving: Serving, space: str, limit: Annotated[int, Query(ge=1, le=10_000)] = 2_000
) -> Projection:
    """Support images and stored images of known label in two dimensions, for a map."""
    return serving.service.project(space, limit=limit)


def _hit_rows(part: Part) -> list[Any]:
    """The hits of a call's own queries, numbered from 0."""
    names = ["ids", "similarity", "labels", "sources", "attributes"]
    names += [] if part.answer.vectors is None else ["vectors"]
    columns = {name: getattr(part.answer, name)[part.start : part.stop] for name in names}
    return list(Hits(part.answer.kind, revision=part.answer.revision, **columns).rows())


async def _supports(serving: Serving, rows: list[Any], most: int) -> tuple[Any, ...] | None:
    """For each hit the ids of up to `most` support images of its label; None where that is 0."""
    if not most:
        return None
    ids = [row["id"] for row in rows]
    first = await serving.reading.run(lambda: serving.home.first_supports(ids, most))
    return tuple(tuple(first[number]) for number in ids)
