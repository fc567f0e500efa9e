"""What happened to a space, and what changed since a revision, so that others can follow it."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from trustvlm.http.routes.answers import read
from trustvlm.http.routes.openapi import route
from trustvlm.http.work.process import Serving
from trustvlm.types.options import Within
from trustvlm.types.rows import ChangePage, HistoryPage

__all__ = ["router"]

SPACE = "/v1/spaces/{space}"
router = APIRouter(tags=["history"])
CURSOR = r"^[0-9]{1,18}-(label|support)-[0-9]{1,18}$"
Since = Annotated[int, Query(), Within("since")]
Limit = Annotated[int, Query(), Within("changes")]


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
