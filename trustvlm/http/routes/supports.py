"""Support images: add, list, look at, remove, restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from trustvlm.errors import NotFound
from trustvlm.http.routes.answers import answer, written
from trustvlm.http.routes.labels import checked_result, name_of
from trustvlm.http.routes.openapi import READ, WRITE, takes
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.schemas import IdsBody, SupportsBody
from trustvlm.http.work.process import serving_of
from trustvlm.types import RegisterResult
from trustvlm.types.answers import Revision, SupportList

__all__ = ["router"]

router = APIRouter(tags=["support images"])
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]


@router.get(
    "/v1/spaces/{space}/labels/{label}/supports", dependencies=READ, response_model=SupportList
)
async def list_supports(request: Request, space: str, label: str) -> Response:
    """The support images of a label, oldest first."""
    serving = serving_of(request)
    rows = await serving.reading.run(lambda: serving.service.list_supports(space, name_of(label)))
    return answer(SupportList(tuple(rows)))


@router.post(
    "/v1/spaces/{space}/labels/{label}/supports",
    dependencies=WRITE,
    openapi_extra=takes(SupportsBody, JSON, NPZ, FORM),
    response_model=RegisterResult,
)
async def add_supports(request: Request, space: str, label: str) -> Response:
    """Add support images to a label, as files or embeddings; those that it has are skipped."""
    service, received = (
        serving_of(request).service,
        await read_body(request, SupportsBody, JSON, NPZ, FORM),
    )
    given, body = _given(received) | received.reading, received.body

    def work() -> RegisterResult:
        result = service.add_support(
            space, name_of(label), keep_originals=body.keep_originals, **given
        )
        return checked_result(result, body.unreadable)

    return await written(
        request, work, digest=received.digest, encoders=received.images is not None, repeatable=True
    )


def _given(received: Received[SupportsBody]) -> dict[str, Any]:
    if received.images is not None:
        return {"images": received.images}
    return {name: received.rows(name) for name in ("image_vectors", "classifier_image_vectors")}


@router.delete("/v1/spaces/{space}/supports/{support}", dependencies=WRITE, response_model=Revision)
async def remove_support(request: Request, space: str, support: Id) -> Response:
    """Remove a support image; it can be restored."""
    service = serving_of(request).service
    return await written(request, lambda: Revision(service.remove_support(space, [support])))


@router.post(
    "/v1/spaces/{space}/remove-supports",
    dependencies=WRITE,
    openapi_extra=takes(IdsBody, JSON),
    response_model=Revision,
)
async def remove_supports(request: Request, space: str) -> Response:
    """Remove support images, all of them or none; they can be restored."""
    service, received = serving_of(request).service, await read_body(request, IdsBody, JSON)
    return await written(
        request,
        lambda: Revision(service.remove_support(space, received.body.ids)),
        digest=received.digest,
    )


@router.post(
    "/v1/spaces/{space}/restore-supports",
    dependencies=WRITE,
    openapi_extra=takes(IdsBody, JSON),
    response_model=Revision,
)
async def restore_supports(request: Request, space: str) -> Response:
    """Bring back removed support images, all of them or none."""
    service, received = serving_of(request).service, await read_body(request, IdsBody, JSON)
    return await written(
        request,
        lambda: Revision(service.restore_support(space, received.body.ids)),
        digest=received.digest,
    )


@router.post(
    "/v1/spaces/{space}/supports/{support}/restore", dependencies=WRITE, response_model=Revision
)
async def restore_support(request: Request, space: str, support: Id) -> Response:
    """Bring back a removed support image."""
    service = serving_of(request).service
    return await written(request, lambda: Revision(service.restore_support(space, [support])))


PICTURE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.get(
    "/v1/supports/{support}/thumbnail",
    dependencies=READ,
    response_class=Response,
    responses=PICTURE,
)
async def thumbnail_by_id(request: Request, support: Id) -> Response:
    """A support image as a small JPEG, whatever space of those that the key opens it belongs to."""
    serving, only = serving_of(request), request.state.caller.space
    space = await serving.reading.run(lambda: serving.home.support_space(support))
    if only not in (None, space):
        raise NotFound(f"no support image {support}")
    return await thumbnail(request, space, support)


@router.get(
    "/v1/spaces/{space}/supports/{support}/thumbnail",
    dependencies=READ,
    response_class=Response,
    responses=PICTURE,
)
async def thumbnail(request: Request, space: str, support: Id) -> Response:
    """A support image as a small JPEG."""
    serving = serving_of(request)
    picture = await serving.reading.run(lambda: serving.home.support_picture(space, support))
    return Response(
        picture, media_type="image/jpeg", headers={"cache-control": "private, max-age=3600"}
    )
