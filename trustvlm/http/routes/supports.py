"""Support images: add, list, look at, remove, restore."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.http.routes.answers import has_images, reads, writes
from trustvlm.http.routes.labels import checked_result
from trustvlm.http.routes.openapi import SPACE, Id, router_of
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received
from trustvlm.http.wire.support_bodies import (
    ChosenSupports,
    IdsBody,
    RemoveBody,
    SupportPatchBody,
    SupportsBody,
)
from trustvlm.http.work.process import Serving
from trustvlm.types import RegisterResult, SupportRow
from trustvlm.types.answers import Revision, SupportList
from trustvlm.types.registration import RemovedSupports
from trustvlm.types.rows import SupportCount, SupportPage

SUPPORTS = f"{SPACE}/labels/{{label}}/supports"
router = router_of("support images")
_IDS = "^[0-9]{1,19}(,[0-9]{1,19})*$"


@reads(router.get, SUPPORTS)
def list_label_supports(
    serving: Serving, space: str, label: str, vectors: bool = False
) -> SupportList:
    """The support images of a label, oldest first; `vectors`: with their embeddings."""
    return SupportList(tuple(serving.service.list_supports(space, label, vectors=vectors)))


@reads(router.get, f"{SPACE}/supports")
def list_supports(
    serving: Serving,
    space: str,
    label: Annotated[str | None, Query(max_length=2_000)] = None,
    ids: Annotated[str | None, Query(pattern=_IDS, max_length=10_000)] = None,
    filter: Annotated[str | None, Query(min_length=1, max_length=20_000)] = None,
    vectors: bool = False,
    cursor: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
) -> SupportPage:
    """A page of the support images of the space, in order of id; of a label; those that `filter`
    keeps, by their attributes and those of their labels. Or those of `ids`, such as 3,1,2, in that
    order, without label, filter and cursor. `vectors`: with their embeddings."""
    if ids is not None:
        if (label, filter, cursor) != (None, None, 0):
            raise InvalidInput("ids: expected without label, filter and cursor")
        listed = [int(one) for one in ids.split(",")]
        return SupportPage(tuple(serving.service.list_supports(space, ids=listed, vectors=vectors)))
    rows = serving.service.list_supports(
        space, label, after=cursor, limit=limit + 1, filter=filter, vectors=vectors
    )
    return SupportPage(tuple(rows[:limit]), rows[limit - 1].id if len(rows) > limit else None)


@reads(router.get, SPACE + "/supports/{support}")
def get_support(serving: Serving, space: str, support: Id, vectors: bool = False) -> SupportRow:
    """A support image; `vectors`: with its embeddings."""
    return serving.service.list_supports(space, ids=[support], vectors=vectors)[0]


@reads(router.post, f"{SPACE}/count-supports")
def count_supports(serving: Serving, space: str, body: ChosenSupports) -> SupportCount:
    """How many support images the space has, or a label, or a filter keeps of them."""
    return SupportCount(serving.service.count_supports(space, body.label, filter=body.filter))


@writes(router.post, SUPPORTS, JSON, NPZ, FORM, encoders=has_images, repeatable=True)
def add_supports(
    serving: Serving, space: str, label: str, received: Received[SupportsBody]
) -> RegisterResult:
    """Add support images to a label, as files or embeddings; those that it has are skipped."""
    body = received.body
    options = _images(received) | received.reading | {"keep_originals": body.keep_originals}
    options["image_attributes"] = body.image_attributes
    return checked_result(serving.service.add_support(space, label, **options), body.unreadable)


def _images(received: Received[SupportsBody]) -> dict[str, Any]:
    if received.images is not None:
        return {"images": received.images}
    return {name: received.rows(name) for name in ("image_vectors", "classifier_image_vectors")}


@writes(router.patch, SPACE + "/supports/{support}")
def update_support(serving: Serving, space: str, support: Id, body: SupportPatchBody) -> Revision:
    """Give a support image other attributes."""
    return Revision(serving.service.update_support(space, support, **vars(body)))


@writes(router.delete, SPACE + "/supports/{support}")
def remove_support(serving: Serving, space: str, support: Id) -> Revision:
    """Remove a support image; it can be restored."""
    return Revision(serving.service.remove_support(space, [support]))


def _by_label_or_filter(received: Received[RemoveBody]) -> bool:
    return received.body.ids is None


@writes(router.post, f"{SPACE}/remove-supports", repeatable=_by_label_or_filter)
def remove_supports(serving: Serving, space: str, body: RemoveBody) -> RemovedSupports:
    """Remove support images by id, all of them or none; or those of a label or a filter, where
    repeating it completes it. They can be restored."""
    if body.ids is None:
        return serving.service.remove_supports(space, body.label, filter=body.filter)
    if body.label is not None or body.filter is not None:
        raise InvalidInput("ids: expected without label and filter")
    revision = serving.service.remove_support(space, body.ids)
    return RemovedSupports(revision, tuple(dict.fromkeys(body.ids)))


@writes(router.post, f"{SPACE}/restore-supports")
def restore_supports(serving: Serving, space: str, body: IdsBody) -> Revision:
    """Bring back removed support images, all of them or none."""
    return Revision(serving.service.restore_support(space, body.ids))


@writes(router.post, SPACE + "/supports/{support}/restore")
def restore_support(serving: Serving, space: str, support: Id) -> Revision:
    """Bring back a removed support image."""
    return Revision(serving.service.restore_support(space, [support]))


@reads(router.get, "/v1/supports/{support}/thumbnail")
def thumbnail_by_id(serving: Serving, request: Request, support: Id) -> bytes:
    """A support image as a small JPEG, of any space that the key opens."""
    key_space, space = request.state.caller.space, serving.home.support_space(support)
    if key_space not in (None, space):
        raise NotFound(f"no support image {support}")
    return serving.home.support_picture(space, support)


@reads(router.get, SPACE + "/supports/{support}/thumbnail")
def thumbnail(serving: Serving, space: str, support: Id) -> bytes:
    """A support image as a small JPEG."""
    return serving.home.support_picture(space, support)
