"""Support images that are proposed from images without labels."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from trustvlm.errors import InvalidInput
from trustvlm.http.routes.answers import written
from trustvlm.http.routes.labels import name_of
from trustvlm.http.routes.measuring import begun
from trustvlm.http.routes.openapi import route
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.support_bodies import ProposeBody
from trustvlm.http.work.batches import joined, shaped
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of, with_vectors
from trustvlm.reading.outputs.probabilities import beside_images
from trustvlm.types import Queries
from trustvlm.types.answers import Job
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.support.proposals import Proposals, RemovedProposals

SPACE = "/v1/spaces/{space}"
router = APIRouter(tags=["support images"])
_STEP = 32


@router.post(f"{SPACE}/propose", **route("write", Job, ProposeBody, JSON, NPZ, FORM, status=202))
async def propose_supports(request: Request, space: str) -> Response:
    """A job that proposes support images for labels that have none or few."""
    received = await read_body(request, ProposeBody, JSON, NPZ, FORM)
    serving, body = serving_of(request), received.body
    await _check(serving, space, received)
    options: dict[str, Any] = {"accept": body.accept, "review": body.review, "few": body.few}

    def work(progress: Progress) -> Proposals:
        queries, sources, notes = _given(serving, space, received, progress)
        progress.tell("comparing", 0, None)
        proposals = serving.service.propose(space, queries, sources=sources, **options)
        return replace(proposals, notes=notes)

    return await begun(request, "propose", space, work, received.digest)


async def _check(serving: Serving, space: str, received: Received[ProposeBody]) -> None:
    """Check images now as far as possible, not when the job's turn comes. Raises InvalidInput."""
    if received.images is not None:
        await serving.encode(lambda: serving.service.embed(space, []))
        rows = len(received.images)
        beside_images(received.queries(), Queries(), rows, ())  # their number is right
    else:
        _, dimensions, rows = shaped(await with_vectors(serving, space, received.queries()))
        if dimensions == (None, None):
            raise InvalidInput("classifier, verifier: expected embeddings, got none")
    names = received.body.sources
    if names is not None and rows != len(names):
        raise InvalidInput(f"sources: expected {rows} names, one for each image, got {len(names)}")


def _given(
    serving: Serving, space: str, received: Received[ProposeBody], progress: Progress
) -> tuple[Queries, list[str | None] | None, tuple[str, ...]]:
    """(embeddings, names, notes) of the images of a job, which are embedded in parts."""
    if received.images is None:
        return received.queries(), received.body.sources, ()
    parts, sources, notes = [], list[str | None](), list[str]()
    read_places = list[int]()
    for start in range(0, len(received.images), _STEP):
        progress.tell("embedding", start, len(received.images))
        files: Any = received.images[start : start + _STEP]
        embed = partial(serving.service.embed, space, files, **received.reading)
        embedded = serving.encode_now(embed)
        parts.append(embedded.queries)
        notes += embedded.notes
        names = received.body.sources
        places = [start + place for place in embedded.places]
        read_places += places
        sources += embedded.sources if names is None else [names[place] for place in places]
    came = len(received.images)
    queries = beside_images(received.queries(), joined(parts), came, read_places)
    return queries, sources, merged_notes(notes)


@router.delete(f"{SPACE}/proposed-supports", **route("write", RemovedProposals))
async def remove_proposed_supports(
    request: Request, space: str, label: Annotated[str | None, Query(max_length=2_000)] = None
) -> Response:
    """Remove the support images that were proposed, of one label or all; they can be restored."""
    name = None if label is None else name_of(label)

    def work(serving: Serving) -> RemovedProposals:
        return serving.service.remove_proposed(space, label=name)

    return await written(request, work)
