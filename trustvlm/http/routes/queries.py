"""Embedding, scoring, searching; and evidence that is read later."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from fastapi import APIRouter, Request, Response

from trustvlm.errors import Conflict, InvalidInput
from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.openapi import READ, takes
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.matching import expected_revision
from trustvlm.http.wire.schemas import EmbedBody, EvidenceBody, ScoreBody, SearchBody
from trustvlm.http.wire.verdict_rows import term_rows, verdict_rows
from trustvlm.http.work.process import (
    Part,
    ScoreKey,
    SearchKey,
    Serving,
    refuse_unknown,
    serving_of,
    shaped,
)
from trustvlm.service.query.evidence import EvidenceGone, EvidenceReader
from trustvlm.types import CALL_COLUMNS, Embedded, Hits, Queries, Verdicts
from trustvlm.types.answers import Embeddings, EvidenceList, HitList, Scored, UnreadFile
from trustvlm.types.codec import to_plain

__all__ = ["router"]

router = APIRouter(tags=["queries"])
EVIDENCE = 3
"""Nearest support images of label and rival that come with the verdict on an image, unless another
number is requested."""


@router.post(
    "/v1/spaces/{space}/score",
    dependencies=READ,
    openapi_extra=takes(ScoreBody, JSON, NPZ, FORM),
    response_model=Scored,
)
async def score(request: Request, space: str) -> Response:
    """Label, trust and evidence of every query, at one revision of the space."""
    serving, received = serving_of(request), await read_body(request, ScoreBody, JSON, NPZ, FORM)
    body = received.body
    if received.images is not None and body.labels is not None:
        await refuse_unknown(serving, space, "labels", body.labels)
    embedded, queries = await embedded_queries(serving, space, received)
    queries, shape, rows = shaped(queries)
    params = None if body.params is None else tuple(sorted(body.params.items()))
    labels, revision = (
        None if body.labels is None else tuple(body.labels),
        expected_revision(request),
    )
    key = ScoreKey(space, body.rule, params, body.top_k, labels, revision, shape)
    part = await serving.score(key, queries, rows)
    evidence = body.evidence if body.evidence is not None else 0 if embedded is None else EVIDENCE
    answered = await verdicts_json(serving, space, part, evidence, embedded)
    if body.terms:
        for row, terms in zip(
            answered["verdicts"], term_rows(part.whole, part.start, part.stop), strict=True
        ):
            row["terms"] = terms
    return answer(answered)


async def embedded_queries(
    serving: Serving, space: str, received: Received[Any]
) -> tuple[Embedded | None, Queries]:
    """Queries as embeddings; for image files also how they were read.

    Raises:
        InvalidInput: no image could be read.
    """
    if received.images is None:
        return None, received.queries()
    found = await serving.embed(space, received.images, **received.reading)
    if not found.places:
        source, reason = found.failures[0]
        raise InvalidInput(
            f"images: {source}: {reason} (none of {len(found.failures)} can be read)"
        )
    return found, found.queries


async def verdicts_json(
    serving: Serving, space: str, part: Part, evidence: int, embedded: Embedded | None
) -> dict[str, Any]:
    """Verdicts with their evidence and, of image files, their names and the ones that could not be
    read."""
    verdicts: Verdicts = part.whole
    serving.meters.judged(space, verdicts, part.start, part.stop)
    rows = verdict_rows(verdicts, part.start, part.stop)
    if evidence:

        def read() -> list[dict[str, Any]]:
            each = range(part.start, part.stop)
            return [to_plain(verdicts.evidence(i, evidence)) for i in each]

        for row, found in zip(rows, await serving.reading.run(read), strict=True):
            row["evidence"] = found
    answered: dict[str, Any] = {name: getattr(verdicts, name) for name in CALL_COLUMNS}
    answered |= {"params": verdicts.params, "top_k": verdicts.top_labels.shape[1], "verdicts": rows}
    if isinstance(verdicts.read_evidence, EvidenceReader):
        answered["evidence_state"] = verdicts.read_evidence.state(part.start, part.stop)
    if embedded is not None:
        answered["notes"] = embedded.notes
        for row, place, source in zip(rows, embedded.places, embedded.sources, strict=True):
            row |= {"index": place, "source": source}
        answered["failures"] = [to_plain(file) for file in unread_files(embedded)]
    return answered


def unread_files(embedded: Embedded) -> tuple[UnreadFile, ...]:
    """The files that could not be read, by their place among all."""
    failed = zip(embedded.failed, embedded.failures, strict=True)
    return tuple(UnreadFile(place, source, reason) for place, (source, reason) in failed)


@router.post(
    "/v1/spaces/{space}/evidence",
    dependencies=READ,
    openapi_extra=takes(EvidenceBody, JSON),
    response_model=EvidenceList,
)
async def evidence(request: Request, space: str) -> Response:
    """The nearest support images of label and rival of verdicts, as of their revision, whatever
    changed since.

    The body repeats the queries and what the answer with the verdicts said of them.
    """
    serving, received = serving_of(request), await read_body(request, EvidenceBody, JSON)
    body, queries = received.body, received.queries()
    given: dict[str, Any] = {"state": body.state, "revision": body.revision, "k": body.k}
    work = partial(
        serving.home.evidence_of, space, queries, body.label_ids, body.rival_ids, **given
    )
    try:
        found = await serving.reading.run(work)
    except EvidenceGone as error:  # no fault of the service's: what the client knows is of the past
        raise Conflict(str(error)) from error
    return answer(EvidenceList(tuple(found)))


@router.post(
    "/v1/spaces/{space}/embed",
    dependencies=READ,
    openapi_extra=takes(EmbedBody, FORM),
    response_model=Embeddings,
)
async def embed(request: Request, space: str) -> Response:
    """Image files as embeddings, which can be scored, searched with and evaluated as often as is
    wanted.

    `places` says which files they are of, `failures` which could not be read.
    """
    serving, received = serving_of(request), await read_body(request, EmbedBody, FORM)
    found = await serving.embed(space, received.images or [], **received.reading)
    classifier, verifier = (
        None if matrix is None else np.asarray(matrix).tolist()
        for matrix in (found.queries.classifier, found.queries.verifier)
    )
    rest = found.places, tuple(found.sources), found.notes, unread_files(found)
    return answer(Embeddings(classifier, verifier, *rest))


@router.post(
    "/v1/spaces/{space}/search",
    dependencies=READ,
    openapi_extra=takes(SearchBody, JSON, NPZ, FORM),
    response_model=HitList,
)
async def search(request: Request, space: str) -> Response:
    """The nearest support images, prototypes or text prototypes of every query."""
    serving, received = serving_of(request), await read_body(request, SearchBody, JSON, NPZ, FORM)
    if received.images is not None and received.body.text is not None:
        raise InvalidInput("text: expected images or text to search with, got both")
    options: dict[str, Any] = {
        "kind": received.body.kind,
        "k": received.body.k,
        "revision": expected_revision(request),
    }
    if received.body.text is not None:
        texts = received.queries()
        hits = await serving.encode(lambda: serving.service.search(space, texts, **options))
        embedded, part = None, Part(hits, 0, len(hits))
    else:
        embedded, queries = await embedded_queries(serving, space, received)
        queries, shape, rows = shaped(queries)
        part = await serving.search(SearchKey(space, **options, shape=shape), queries, rows)
    notes = () if embedded is None else embedded.notes
    quality = {name: getattr(part.whole, name) for name in ("approximate", "error_bound", "recall")}
    return answer(
        HitList(part.whole.revision, part.whole.kind, hit_rows(part), tuple(notes), **quality)
    )


def hit_rows(part: Part) -> list[Any]:
    """The hits of a call's own queries, counted from 0."""
    own = slice(part.start, part.stop)
    columns = {
        name: getattr(part.whole, name)[own] for name in ("ids", "similarity", "labels", "sources")
    }
    return list(Hits(part.whole.kind, revision=part.whole.revision, **columns).rows())
