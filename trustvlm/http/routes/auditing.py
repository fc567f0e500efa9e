"""Support images that are probably wrong: list them, and move or keep them."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import Query, Request, Response

from trustvlm.http.routes.answers import reads, writes
from trustvlm.http.routes.measuring import begun, labelled, labelled_body
from trustvlm.http.routes.openapi import route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, NPZ
from trustvlm.http.wire.support_bodies import AuditBody, KeepBody, MoveBody
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.reading.claims import are_labelled_by_claims
from trustvlm.types.answers import Job, Revision
from trustvlm.types.support.audit import Audit, MovedSupports

SPACE = "/v1/spaces/{space}"
router = router_of("support images")
After = Annotated[int | None, Query(ge=0, le=2**63 - 1)]


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
