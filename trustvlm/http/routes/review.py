"""The review queue: images that wait for a person's answer."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response

from trustvlm.errors import NotFound
from trustvlm.http.routes.answers import read, written
from trustvlm.http.routes.measuring import begun
from trustvlm.http.routes.openapi import JPEG, route
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.review_bodies import AnswerBody, AnswersBody, CollectBody
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.reading.review.files import import_text, items_text
from trustvlm.types.answers import Job
from trustvlm.types.review import (
    ReviewExport,
    ReviewImport,
    ReviewItem,
    ReviewNext,
    ReviewPage,
    ReviewQuestion,
    ReviewStatus,
)

REVIEW = "/v1/spaces/{space}/review"
ITEM = f"{REVIEW}/items/{{item}}"
router = APIRouter(tags=["review"])
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
After = Annotated[int | None, Query(ge=0, le=2**63 - 1)]
Tray = Literal["review", "sample", "proposal"]
State = Literal["open", "answered", "skipped", "any"]


@router.get(REVIEW, **route("read", ReviewStatus))
async def review_status(request: Request, space: str) -> Response:
    """Whether the space collects images for review, and how many wait."""
    return await read(request, lambda serving: serving.service.review(space).status())


@router.post(REVIEW, **route("write", ReviewStatus, CollectBody, JSON))
async def collect(request: Request, space: str) -> Response:
    """Switch collecting on or off: images that are scored without a rule, parameters or a choice of
    labels are then stored if they are not accepted, or drawn at random."""
    received = await read_body(request, CollectBody, JSON)
    body = received.body

    def work(serving: Serving) -> ReviewStatus:
        return serving.service.review(space).collect(body.collecting, discard=body.discard)

    return await written(request, work, digest=received.digest, repeatable=True)


@router.get(f"{REVIEW}/items", **route("read", ReviewPage))
async def list_review_items(
    request: Request,
    space: str,
    tray: Tray | None = None,
    state: State = "open",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: After = None,
) -> Response:
    """A page of items, oldest first; `cursor`: the next_cursor of the page before."""
    wanted: Any = {"tray": tray, "state": None if state == "any" else state}
    wanted |= {"limit": limit, "cursor": cursor}
    return await read(request, lambda serving: serving.service.review(space).items(**wanted))


@router.get(f"{REVIEW}/next", **route("read", ReviewNext))
async def next_review_item(
    request: Request, space: str, tray: Tray | None = None, after: After = None
) -> Response:
    """The oldest item that waits behind the item `after`, or else of all, with likely labels and
    their nearest support images."""

    def work(serving: Serving) -> ReviewNext:
        return ReviewNext(serving.service.review(space).next(tray=tray, after=after))

    return await read(request, work)


@router.get(f"{REVIEW}/export", **route("read", ReviewExport))
async def export_review_items(
    request: Request,
    space: str,
    format: Literal["csv", "label-studio"] = "csv",
    tray: Tray | None = None,
    state: State = "open",
) -> Response:
    """Items as the text of a file, to answer them elsewhere: CSV with a column `truth` to fill in,
    or tasks for Label Studio with predictions and pictures."""
    which = None if state == "any" else state

    def work(serving: Serving) -> ReviewExport:
        return items_text(serving.service.review(space), format, tray, which)

    return await read(request, work)


@router.post(f"{REVIEW}/import", **route("write", Job, AnswersBody, JSON, status=202))
async def import_review_answers(request: Request, space: str) -> Response:
    """A job that stores the answers of a file, each by itself: one that cannot be stored stops no
    other."""
    received = await read_body(request, AnswersBody, JSON)

    def work(progress: Progress) -> ReviewImport:
        queue = serving_of(request).service.review(space)
        report = partial(progress.tell, "storing answers")
        return import_text(queue, received.body.content, "content", report)

    return await begun(request, "import", space, work, received.digest)


@router.get(ITEM, **route("read", ReviewQuestion))
async def show_review_item(request: Request, space: str, item: Id) -> Response:
    """An item with likely labels and their nearest support images, as the space is now."""
    return await read(request, lambda serving: serving.service.review(space).question(item))


@router.get(f"{ITEM}/picture", **JPEG)
async def review_picture(request: Request, space: str, item: Id) -> Response:
    """The image of an item as a small JPEG."""
    work = serving_of(request)
    picture = await work.reading.run(lambda: work.service.review(space).picture(item))
    if picture is None:
        raise NotFound(f"no picture of review item {item} in space {space!r}")
    headers = {"cache-control": "private, max-age=3600"}
    return Response(picture, media_type="image/jpeg", headers=headers)


@router.post(f"{ITEM}/answer", **route("write", ReviewItem, AnswerBody, JSON))
async def answer_review_item(request: Request, space: str, item: Id) -> Response:
    """Say the right label of an item; it is stored as feedback. The same answer again changes
    nothing."""
    received = await read_body(request, AnswerBody, JSON)
    body = received.body

    def work(serving: Serving) -> ReviewItem:
        review = serving.service.review(space)
        return review.answer(item, body.truth, use_as_support=body.use_as_support)

    return await written(request, work, digest=received.digest, repeatable=True)


@router.post(f"{ITEM}/skip", **route("write", ReviewItem))
async def skip_review_item(request: Request, space: str, item: Id) -> Response:
    """Put an item aside; it can be answered later."""
    return await written(request, lambda serving: serving.service.review(space).skip(item))


@router.post(f"{ITEM}/undo", **route("write", ReviewItem))
async def undo_review_item(request: Request, space: str, item: Id) -> Response:
    """Take an answer back, with its feedback and support image, or bring back a skipped item."""
    return await written(request, lambda serving: serving.service.review(space).undo(item))
