"""Support images that are probably wrong: list them, and move or keep them; and proposals of new
ones, from images without labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

from fastapi import Query, Request, Response

from trustvlm.http.routes.answers import reads, writes
from trustvlm.http.routes.measuring import begun, check_queries, embedded, labelled, labelled_body
from trustvlm.http.routes.openapi import SPACE, After, route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, read_body
from trustvlm.http.wire.support_bodies import AuditBody, KeepBody, MoveBody, ProposeBody
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.reading.claims import are_labelled_by_claims
from trustvlm.types.answers import Job, Revision
from trustvlm.types.support.audit import Audit, MovedSupports
from trustvlm.types.support.proposals import Proposals, RemovedProposals

router = router_of("support images")


@reads(router.get, f"{SPACE}/audit")
def audit_supports(
    serving: Serving,
    space: str,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: After = None,
) -> Audit:
    """A page of support images, those first that are most probably wrong; `cursor`: the next_cursor
    of the page before. The first page of a revision judges all of them."""
    return serving.service.audit(space, limit=limit, cursor=cursor)


@router.post(f"{SPACE}/audit", **route("read", Job, AuditBody, JSON, NPZ, FORM, status=202))
async def audit_images(request: Request, space: str) -> Response:
    """A job that says which of these labelled images probably have a wrong label."""
    serving, received = serving_of(request), await labelled_body(request, space, AuditBody)
    are_labelled_by_claims(received.queries(), received.body.truth or None)

    def work(progress: Progress) -> Audit:
        given, notes = labelled(serving, space, received, progress)
        progress.tell("auditing", 0, None)
        return replace(serving.service.audit(space, **given), notes=notes)

    return await begun(request, "audit", space, work, received.digest)


@writes(router.post, f"{SPACE}/move-supports")
def move_supports(serving: Serving, space: str, body: MoveBody) -> MovedSupports:
    """Give support images to another label, all of them or none."""
    return serving.service.move_support(space, body.ids, body.label)


@writes(router.post, f"{SPACE}/keep-supports")
def keep_supports(serving: Serving, space: str, body: KeepBody) -> Revision:
    """Say that support images are right: an audit flags them no more."""
    return Revision(serving.service.keep_support(space, body.ids, keep=body.keep))


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
