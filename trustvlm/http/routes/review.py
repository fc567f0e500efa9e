"""The review queue: images that wait for a person's answer."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal

from fastapi import Query, Request, Response

from trustvlm.errors import NotFound
from trustvlm.http.routes.answers import reads, writes
from trustvlm.http.routes.measuring import begun
from trustvlm.http.routes.openapi import After, Id, route, router_of
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.schemas import AnswersBody
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.reading.review.queue import import_text, items_text
from trustvlm.types.answers import Job
from trustvlm.types.review import (
    AddedLogged,
    AddLoggedOptions,
    AnswerOptions,
    CollectOptions,
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
router = router_of("review")
Tray = Literal["review", "sample", "proposal"]
State = Literal["open", "answered", "skipped", "any"]


@reads(router.get, REVIEW)
def review_status(serving: Serving, space: str) -> ReviewStatus:
    """Whether the space collects images for review, and how many wait."""
    return serving.service.review(space).status()


@writes(router.post, REVIEW, repeatable=True)
def collect(serving: Serving, space: str, body: CollectOptions) -> ReviewStatus:
    """Switch collecting on or off: images that are scored without a rule, parameters or a choice of
    labels are then stored if they are not accepted, or drawn at random."""
    return serving.service.review(space).collect(body.collecting, discard=body.discard)


@writes(router.post, f"{REVIEW}/logged", repeatable=True)
def add_logged_verdicts(serving: Serving, space: str, body: AddLoggedOptions) -> AddedLogged:
    """Put answers of the space's log into the queue, by the names of their images: a random sample,
    or the newest that were not accepted."""
    return serving.service.review(space).add_logged(**vars(body))


@reads(router.get, f"{REVIEW}/items")
def list_review_items(
    serving: Serving,
    space: str,
    tray: Tray | None = None,
    state: State = "open",
    limit: Annotated[int, Query(ge=1, le=1_000)] = 100,
    cursor: After = None,
) -> ReviewPage:
    """A page of items, oldest first; `cursor`: the next_cursor of the page before."""
    queue, wanted = serving.service.review(space), None if state == "any" else state
    return queue.items(tray=tray, state=wanted, limit=limit, cursor=cursor)


@reads(router.get, f"{REVIEW}/next")
def next_review_item(
    serving: Serving, space: str, tray: Tray | None = None, after: After = None
) -> ReviewNext:
    """The oldest item that waits behind the item `after`, or else of all, with likely labels and
    their nearest support images."""
    return ReviewNext(serving.service.review(space).next(tray=tray, after=after))


@reads(router.get, f"{REVIEW}/export")
def export_review_items(
    serving: Serving,
    space: str,
    format: Literal["csv", "label-studio"] = "csv",
    tray: Tray | None = None,
    state: State = "open",
) -> ReviewExport:
    """Items as the text of a file, to answer them elsewhere: CSV with a column `truth` to fill in,
    or tasks for Label Studio with predictions and pictures."""
    wanted = None if state == "any" else state
    return items_text(serving.service.review(space), format, tray, wanted)


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


@reads(router.get, ITEM)
def show_review_item(serving: Serving, space: str, item: Id) -> ReviewQuestion:
    """An item with likely labels and their nearest support images, as the space is now."""
    return serving.service.review(space).question(item)


@reads(router.get, f"{ITEM}/picture")
def review_picture(serving: Serving, space: str, item: Id) -> bytes:
    """The image of an item as a small JPEG."""
    picture = serving.service.review(space).picture(item)
    if picture is None:
        raise NotFound(f"no picture of review item {item} in space {space!r}")
    return picture


@writes(router.post, f"{ITEM}/answer", repeatable=True)
def answer_review_item(serving: Serving, space: str, item: Id, body: AnswerOptions) -> ReviewItem:
    """Say the right label of an item; it is stored as feedback. The same answer again changes
    nothing."""
    return serving.service.review(space).answer(item, **vars(body))


@writes(router.post, f"{ITEM}/skip")
def skip_review_item(serving: Serving, space: str, item: Id) -> ReviewItem:
    """Put an item aside; it can be answered later."""
    return serving.service.review(space).skip(item)


@writes(router.post, f"{ITEM}/undo")
def undo_review_item(serving: Serving, space: str, item: Id) -> ReviewItem:
    """Take an answer back, with its feedback and support image, or bring back a skipped item."""
    return serving.service.review(space).undo(item)
