"""Support images: add, list, look at, remove, restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.http.routes.answers import jpeg, read, written
from trustvlm.http.routes.labels import checked_result, name_of
from trustvlm.http.routes.openapi import JPEG, route
from trustvlm.http.wire.attribute_bodies import SupportPatchBody
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.schemas import IdsBody, SupportsBody
from trustvlm.http.wire.support_bodies import ChosenSupports, RemoveBody
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types import RegisterResult, SupportRow
from trustvlm.types.answers import Revision, SupportList
from trustvlm.types.registration import RemovedSupports
from trustvlm.types.support.lists import SupportCount, SupportPage

SPACE = "/v1/spaces/{space}"
SUPPORTS = f"{SPACE}/labels/{{label}}/supports"
router = APIRouter(tags=["support images"])
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
_IDS = "^[0-9]{1,19}(,[0-9]{1,19})*$"


@router.get(SUPPORTS, **route("read", SupportList))
async def list_label_supports(
    request: Request, space: str, label: str, vectors: bool = False
) -> Response:
    """The support images of a label, oldest first; `vectors`: with their embeddings."""

    def work(serving: Serving) -> SupportList:
        rows = serving.service.list_supports(space, name_of(label), vectors=vectors)
        return SupportList(tuple(rows))

    return await read(request, work)


@router.get(f"{SPACE}/supports", **route("read", SupportPage))
async def list_supports(
    request: Request,
    space: str,
    label: Annotated[str | None, Query(max_length=2_000)] = None,
    ids: Annotated[str | None, Query(pattern=_IDS, max_length=10_000)] = None,
    filter: Annotated[str | None, Query(min_length=1, max_length=20_000)] = None,
    vectors: bool = False,
    cursor: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> Response:
    """A page of the support images of the space, in order of id; of a label; those that `filter`
    keeps, by their attributes and those of their labels. Or those of `ids`, such as 3,1,2, in that
    order. `vectors`: with their embeddings."""

    def work(serving: Serving) -> SupportPage:
        if ids is not None:
            if (label, filter, cursor) != (None, None, 0):
                raise InvalidInput("ids: expected without label, filter and cursor")
            listed = [int(one) for one in ids.split(",")]
            some = serving.service.list_supports(space, ids=listed, vectors=vectors)
            return SupportPage(tuple(some))
        chosen: dict[str, Any] = {"filter": filter, "vectors": vectors}
        rows = serving.service.list_supports(space, label, after=cursor, limit=limit + 1, **chosen)
        more = len(rows) > limit
        return SupportPage(tuple(rows[:limit]), rows[limit - 1].id if more else None)

    return await read(request, work)


@router.get(SPACE + "/supports/{support}", **route("read", SupportRow))
async def get_support(request: Request, space: str, support: Id, vectors: bool = False) -> Response:
    """A support image; `vectors`: with its embeddings."""

    def work(serving: Serving) -> SupportRow:
        return serving.service.list_supports(space, ids=[support], vectors=vectors)[0]

    return await read(request, work)


@router.post(f"{SPACE}/count-supports", **route("read", SupportCount, ChosenSupports, JSON))
async def count_supports(request: Request, space: str) -> Response:
    """How many support images the space has, or a label, or a filter keeps of them."""
    body = (await read_body(request, ChosenSupports, JSON)).body

    def work(serving: Serving) -> SupportCount:
        count = serving.service.count_supports(space, body.label, filter=body.filter)
        return SupportCount(count)

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


@router.post(f"{SPACE}/remove-supports", **route("write", RemovedSupports, RemoveBody, JSON))
async def remove_supports(request: Request, space: str) -> Response:
    """Remove support images by id, all of them or none; or those of a label or a filter, where
    repeating it completes it. They can be restored."""
    received = await read_body(request, RemoveBody, JSON)
    body = received.body
    if body.ids is not None and (body.label is not None or body.filter is not None):
        raise InvalidInput("ids: expected without label and filter")

    def work(serving: Serving) -> RemovedSupports:
        if body.ids is None:
            return serving.service.remove_supports(space, body.label, filter=body.filter)
        revision = serving.service.remove_support(space, body.ids)
        return RemovedSupports(revision, tuple(dict.fromkeys(body.ids)))

    return await written(request, work, digest=received.digest, repeatable=body.ids is None)


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
