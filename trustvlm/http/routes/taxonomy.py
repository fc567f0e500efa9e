"""The taxonomy of a space: which label or node stands under which node."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trustvlm.http.routes.answers import read, written
from trustvlm.http.routes.openapi import route
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.taxonomy_bodies import ParentsBody
from trustvlm.http.work.process import Serving
from trustvlm.types.answers import Revision
from trustvlm.types.taxonomy import Taxonomy

__all__ = ["router"]

TAXONOMY = "/v1/spaces/{space}/taxonomy"
router = APIRouter(tags=["labels"])


@router.get(TAXONOMY, **route("read", Taxonomy))
async def show_taxonomy(request: Request, space: str) -> Response:
    """Every label that has a parent and every node above one, by name."""
    return await read(request, lambda serving: serving.service.taxonomy(space))


@router.put(TAXONOMY, **route("write", Revision, ParentsBody, JSON))
async def set_parents(request: Request, space: str) -> Response:
    """Put labels or nodes under nodes (null: under none), all or none of them; the others stay
    where they are."""
    received = await read_body(request, ParentsBody, JSON)

    def work(serving: Serving) -> Revision:
        return Revision(serving.service.set_parents(space, received.body.parents))

    return await written(request, work, digest=received.digest)
