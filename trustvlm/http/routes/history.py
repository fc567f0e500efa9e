"""What happened to a space, what changed since a revision, so that others can follow it, and the
log of its answers."""

from __future__ import annotations

from datetime import datetime
from itertools import islice
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from trustvlm.http.routes.answers import read, written
from trustvlm.http.routes.openapi import route
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.review_bodies import LogBody
from trustvlm.http.work.process import Serving
from trustvlm.types.options import Within
from trustvlm.types.rows import ChangePage, HistoryPage
from trustvlm.types.verdict_log import LoggedPage, VerdictLogStatus

SPACE = "/v1/spaces/{space}"
router = APIRouter(tags=["history"])
CURSOR = r"^[0-9]{1,18}-(label|support)-[0-9]{1,18}$"
Since = Annotated[int, Query(), Within("since")]
Limit = Annotated[int, Query(), Within("changes")]
Time = Annotated[datetime | None, Query()]
Text = Annotated[str | None, Query(max_length=2_000)]
LOG_CURSOR = r"^[0-9]{1,16}-[0-9]{1,18}$"


@router.get(f"{SPACE}/history", **route("read", HistoryPage))
async def history(request: Request, space: str, since: Since = 0, limit: Limit = 1_000) -> Response:
    """The revisions of a space after `since`, oldest first: when, by whom (the id of a key) and by
    which kind of change each was made."""

    def work(serving: Serving) -> HistoryPage:
        rows = tuple(islice(serving.service.history(space, since), limit + 1))
        following = rows[limit - 1].revision if len(rows) > limit else None
        return HistoryPage(rows[:limit], following)

    return await read(request, work)


@router.get(f"{SPACE}/changes", **route("read", ChangePage))
async def changes(
    request: Request,
    space: str,
    since: Since = 0,
    limit: Limit = 1_000,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": CURSOR})] = None,
) -> Response:
    """The labels and support images that changed after revision `since`, each once, as it is now.

    To follow a space, read page after page until `next_cursor` is null, apply them, and begin the
    next time with `since` set to the `revision` of the first page.
    """

    def work(serving: Serving) -> ChangePage:
        return serving.service.changes(space, since, limit=limit, cursor=cursor)

    return await read(request, work)


@router.get(f"{SPACE}/verdict-log", **route("read", VerdictLogStatus))
async def verdict_log_status(request: Request, space: str) -> Response:
    """Whether the space logs its answers, how many it keeps, and what is there."""
    return await read(request, lambda serving: serving.service.verdict_log(space).status())


@router.post(f"{SPACE}/verdict-log", **route("write", VerdictLogStatus, LogBody, JSON))
async def switch_verdict_log(request: Request, space: str) -> Response:
    """Switch the log of answers on or off, and say how many it keeps."""
    received = await read_body(request, LogBody, JSON)
    body = received.body

    def work(serving: Serving) -> VerdictLogStatus:
        options: dict[str, Any] = {"days": body.days, "rows": body.rows, "discard": body.discard}
        return serving.service.verdict_log(space).switch(body.logging, **options)

    return await written(request, work, digest=received.digest, repeatable=True)


@router.get(f"{SPACE}/verdicts", **route("read", LoggedPage))
async def logged_verdicts(
    request: Request,
    space: str,
    since: Time = None,
    until: Time = None,
    decision: Literal["accept", "review", "unknown"] | None = None,
    label: Text = None,
    request_id: Text = None,
    limit: Annotated[int, Query(), Within("log_page")] = 100,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": LOG_CURSOR})] = None,
    sample: Annotated[int | None, Query(), Within("log_page")] = None,
    seed: Annotated[int, Query(), Within("seed")] = 0,
) -> Response:
    """Logged answers, newest first; `cursor`: the next_cursor of the page before. With `sample`,
    that many drawn at random, in place of a page."""
    wanted: dict[str, Any] = {
        "since": since, "until": until, "decision": decision, "label": label,
        "request_id": request_id, "limit": limit, "cursor": cursor, "sample": sample, "seed": seed,
    }  # fmt: skip
    return await read(request, lambda serving: serving.service.verdict_log(space).page(**wanted))
