"""Support images that are proposed from images without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request, Response

from trustvlm.http.routes.answers import writes
from trustvlm.http.routes.measuring import begun, check_queries, embedded
from trustvlm.http.routes.openapi import route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, read_body
from trustvlm.http.wire.support_bodies import ProposeBody
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types.answers import Job
from trustvlm.types.support.proposals import Proposals, RemovedProposals

SPACE = "/v1/spaces/{space}"
router = router_of("support images")


@router.post(f"{SPACE}/propose", **route("write", Job, ProposeBody, JSON, NPZ, FORM, status=202))
async def propose_supports(request: Request, space: str) -> Response:
    """A job that proposes support images for labels that have none or few."""
    received = await read_body(request, ProposeBody, JSON, NPZ, FORM)
    serving, body = serving_of(request), received.body
    await check_queries(serving, space, received, "sources")
    options: dict[str, Any] = {"accept": body.accept, "review": body.review, "few": body.few}

    def work(progress: Progress) -> Proposals:
        queries, sources, _, notes = embedded(serving, space, received, progress)
        progress.tell("comparing", 0, None)
        proposals = serving.service.propose(space, queries, sources=sources, **options)
        return replace(proposals, notes=notes)

    return await begun(request, "propose", space, work, received.digest)


@writes(router.delete, f"{SPACE}/proposed-supports")
def remove_proposed_supports(
    serving: Serving, space: str, label: Annotated[str | None, Query(max_length=2_000)] = None
) -> RemovedProposals:
    """Remove the support images that were proposed, of one label or all; they can be restored."""
    return serving.service.remove_proposed(space, label=label)
