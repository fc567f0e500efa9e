"""What happened to a space, what changed since a revision, so that others can follow it, and the
log of its answers."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Literal

from fastapi import Query

from trustvlm.http.routes.answers import reads, writes
from trustvlm.http.routes.openapi import SPACE, router_of
from trustvlm.http.work.process import Serving
from trustvlm.types.json_form import ZonedTime
from trustvlm.types.options import Within
from trustvlm.types.rows import ChangePage, HistoryPage
from trustvlm.types.verdict_log import LoggedPage, LogOptions, VerdictLogStatus

router = router_of("history")
CURSOR = r"^[0-9]{1,18}-(label|support)-[0-9]{1,18}$"
Since = Annotated[int, Query(), Within("since")]
Limit = Annotated[int, Query(), Within("changes")]
Time = Annotated[ZonedTime | None, Query()]
Text = Annotated[str | None, Query(max_length=2_000)]
LOG_CURSOR = r"^[0-9]{1,16}-[0-9]{1,18}$"


@reads(router.get, f"{SPACE}/history")
def history(serving: Serving, space: str, since: Since = 0, limit: Limit = 1_000) -> HistoryPage:
    """The revisions of a space after `since`, oldest first: when, by whom (the id of a key) and by
    which kind of change each was made."""
    rows = tuple(islice(serving.service.history(space, since), limit + 1))
    return HistoryPage(rows[:limit], rows[limit - 1].revision if len(rows) > limit else None)


@reads(router.get, f"{SPACE}/changes")
def changes(
    serving: Serving,
    space: str,
    since: Since = 0,
    limit: Limit = 1_000,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": CURSOR})] = None,
) -> ChangePage:
    """The labels and support images that changed after revision `since`, each once, as it is now.

    To follow a space, read page after page until `next_cursor` is null, apply them, and begin the
    next time with `since` set to the `revision` of the first page.
    """
    return serving.service.changes(space, since, limit=limit, cursor=cursor)


@reads(router.get, f"{SPACE}/verdict-log")
def verdict_log_status(serving: Serving, space: str) -> VerdictLogStatus:
    """Whether the space logs its answers, how many it keeps, and what is there."""
    return serving.service.verdict_log(space).status()


@writes(router.post, f"{SPACE}/verdict-log", repeatable=True)
def switch_verdict_log(serving: Serving, space: str, body: LogOptions) -> VerdictLogStatus:
    """Switch the log of answers on or off, and say how many it keeps."""
    return serving.service.verdict_log(space).switch(**vars(body))


@reads(router.get, f"{SPACE}/verdicts")
def logged_verdicts(
    serving: Serving,
    space: str,
    since: Time = None,
    until: Time = None,
    decision: Literal["accept", "review", "unknown"] | None = None,
    label: Text = None,
    request_id: Text = None,
    limit: Annotated[int | None, Query(), Within("log_page")] = None,
    cursor: Annotated[str | None, Query(json_schema_extra={"pattern": LOG_CURSOR})] = None,
    sample: Annotated[int | None, Query(), Within("log_page")] = None,
    seed: Annotated[int, Query(), Within("seed")] = 0,
) -> LoggedPage:
    """Logged answers, newest first, 100 unless `limit` says another number; `cursor`: the
    next_cursor of the page before. With `sample`, that many drawn at random (`seed`: of the draw),
    in place of a page."""
    return serving.service.verdict_log(space).page(
        since=since, until=until, decision=decision, label=label, request_id=request_id,
        limit=limit, cursor=cursor, sample=sample, seed=seed,
    )  # fmt: skip
