"""Support images: add, list, look at, remove, restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from trustvlm.errors import NotFound
from trustvlm.http.routes.answers import jpeg, read, written
from trustvlm.http.routes.labels import checked_result, name_of
from trustvlm.http.routes.openapi import JPEG, route
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.schemas import IdsBody, SupportPatchBody, SupportsBody
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types import RegisterResult
from trustvlm.types.answers import Revision, SupportList

__all__ = ["router"]

SPACE = "/v1/spaces/{space}"
SUPPORTS = f"{SPACE}/labels/{{label}}/supports"
router = APIRouter(tags=["support images"])
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get(SUPPORTS, **route("read", SupportList))
async def list_supports(request: Request, space: str, label: str) -> Response:
    """The support images of a label, oldest first."""

    def work(serving: Serving) -> SupportList:
        return SupportList(tuple(serving.service.list_supports(space, name_of(label))))

    return await read(request, work)


@router.post(SUPPORTS, **route("write", RegisterResult, SupportsBody, JSON, NPZ, FORM))
async def add_supports(request: Request, space: str, label: str) -> Response:
    """Add support images to a label, as files or embeddings; those that it has are skipped."""
    received = await read_body(request, SupportsBody, JSON, NPZ, FORM)
    body = received.body
    options = _images(received) | received.reading | {"keep_originals": body.keep_originals}
    options["image_attributes"] = body.image_attributes

    def work(serving: Serving) -> RegisterResult:
        result = serving.service.add_support(space, name_of(label), **options)
        return checked_result(result, body.unreadable)

    return await written(
        request, work, digest=received.digest, encoders=received.images is not None, repeatable=True
    )


def _images(received: Received[SupportsBody]) -> dict[str, Any]:
    if received.images is not None:
        return {"images": received.images}
    return {name: received.rows(name) for name in ("image_vectors", "classifier_image_vectors")}


@router.patch(SPACE + "/supports/{support}", **route("write", Revision, SupportPatchBody, JSON))
async def update_support(request: Request, space: str, support: Id) -> Response:
    """Give a support image other attributes."""
    received = await read_body(request, SupportPatchBody, JSON)

    def work(serving: Serving) -> Revision:
        changes = vars(received.body)
        return Revision(serving.service.update_support(space, support, **changes))

    return await written(request, work, digest=received.digest)


@router.delete(SPACE + "/supports/{support}", **route("write", Revision))
async def remove_support(request: Request, space: str, support: Id) -> Response:
    """Remove a support image; it can be restored."""
    return await written(
        request, lambda serving: Revision(serving.service.remove_support(space, [support]))
    )


@router.post(f"{SPACE}/remove-supports", **route("write", Revision, IdsBody, JSON))
async def remove_supports(request: Request, space: str) -> Response:
    """Remove support images, all of them or none; they can be restored."""
    received = await read_body(request, IdsBody, JSON)

    def work(serving: Serving) -> Revision:
        return Revision(serving.service.remove_support(space, received.body.ids))

    return await written(request, work, digest=received.digest)


@router.post(f"{SPACE}/restore-supports", **route("write", Revision, IdsBody, JSON))
async def restore_supports(request: Request, space: str) -> Response:
    """Bring back removed support images, all of them or none."""
    received = await read_body(request, IdsBody, JSON)

    def work(serving: Serving) -> Revision:
        return Revision(serving.service.restore_support(space, received.body.ids))

    return await written(request, work, digest=received.digest)


@router.post(SPACE + "/supports/{support}/restore", **route("write", Revision))
async def restore_support(request: Request, space: str, support: Id) -> Response:
    """Bring back a removed support image."""
    return await written(
        request, lambda serving: Revision(serving.service.restore_support(space, [support]))
    )


@router.get("/v1/supports/{support}/thumbnail", **JPEG)
async def thumbnail_by_id(request: Request, support: Id) -> Response:
    """A support image as a small JPEG, of any space that the key opens."""
    serving, key_space = serving_of(request), request.state.caller.space
    space = await serving.reading.run(lambda: serving.home.support_space(support))
    if key_space not in (None, space):
        raise NotFound(f"no support image {support}")
    return await thumbnail(request, space, support)


@router.get(SPACE + "/supports/{support}/thumbnail", **JPEG)
async def thumbnail(request: Request, space: str, support: Id) -> Response:
    """A support image as a small JPEG."""
    serving = serving_of(request)
    picture = await serving.reading.run(lambda: serving.home.support_picture(space, support))
    return jpeg(picture)
