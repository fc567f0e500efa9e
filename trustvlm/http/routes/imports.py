"""Imports of very many labels: committed as they come, and going on where they were cut."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from trustvlm.catalog.server.jobs import ENDED, JobRecord
from trustvlm.errors import Conflict, InvalidInput, NotFound, Overloaded
from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.import_job import Import
from trustvlm.http.routes.import_streams import NDJSON, PARQUET, SOURCES
from trustvlm.http.routes.measuring import check_job
from trustvlm.http.routes.openapi import WRITE
from trustvlm.http.wire.parameters import accepted_type
from trustvlm.http.work.jobs import job_row
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types.answers import Job

__all__ = ["router"]

router = APIRouter(tags=["labels"])
_COLUMNS = (
    "a Parquet file with the columns name and, as far as there is one, prompt (texts), "
    "text_vector (lists, or lists of lists, "
    "of numbers), image_vectors and classifier_image_vectors (lists of lists)"
)
_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            NDJSON: {
                "schema": {"type": "string"},
                "example": '{"name": "airport", "text_vector": [1.0, 0.0]}\n',
            },
            PARQUET: {"schema": {"type": "string", "format": "binary", "description": _COLUMNS}},
        },
    }
}


@router.post(
    "/v1/spaces/{space}/imports", dependencies=WRITE, openapi_extra=_DOC, response_model=Job
)
async def import_labels(
    request: Request,
    space: str,
    job: Annotated[str | None, Query(min_length=1)] = None,
    begin: bool = False,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """Register labels in committed chunks: one JSON object a line (the fields of LabelBody), or a
    row of a Parquet file.

    Lines are committed while they are being sent, rows once the file is there. The answer is the
    import's job. If it breaks, send all of it again with `?job=ID`: what was committed is skipped.
    `GET /v1/jobs` tells the id of a broken import, whose state is "interrupted".

    `begin`: the id is of the client's own making, a UUID, and begins an import where there is none
    of it; so the client knows it from the first byte on. `after`: the stream begins behind so many
    lines of the import, all of which are committed.
    """
    kind = accepted_type(request, *SOURCES)
    serving = serving_of(request)
    record = await (
        _new(request, space, None) if job is None else _again(request, space, job, begin)
    )
    run = Import(serving, space, record)
    try:
        if after > record.done:
            raise InvalidInput(f"after: {record.done} lines are committed, got {after}")
        async with aclosing(SOURCES[kind](request, after, record.done - after)) as chunks:
            await run.follow(chunks)
    except BaseException as error:
        await run.interrupted(error)
        raise
    return answer(job_row(await serving.reading.run(lambda: serving.home.get_job(record.id))))


async def _new(request: Request, space: str, job: str | None) -> JobRecord:
    serving = serving_of(request)
    await serving.reading.run(lambda: serving.home.get_label_space(space))
    record = serving.jobs.record("import", space, request.state.caller.key, "running", job)
    await _store(serving, record, lambda: serving.home.create_job(record))
    return record


async def _again(request: Request, space: str, job: str, begin: bool) -> JobRecord:
    serving = serving_of(request)
    try:
        record = await serving.reading.run(lambda: serving.home.get_job(job))
    except NotFound:
        if not begin:
            raise
        return await _new(request, space, _of_client(job))
    check_job(request.state.caller, record.space, job)
    if record.kind != "import" or record.space != space:
        raise InvalidInput(f"job: {job!r} is no import into space {space!r}")
    alive = await serving.reading.run(lambda: serving.worker.alive(record.worker))
    if (
        begin and record.state == "running" and alive
    ):  # nobody has noticed yet that its stream broke
        raise Overloaded(f"job: the import {job!r} is being done; ask again")
    if record.state in ENDED or (record.state == "running" and alive):
        raise Conflict(
            f"job: the import {job!r} is {record.state}; only an interrupted one goes on"
        )
    changes = {
        "state": "running",
        "worker": serving.worker.id,
        "error": None,
        "cancel_asked": False,
    }
    await _store(serving, record, lambda: serving.home.change_job(job, **changes))
    return record


async def _store(serving: Serving, record: JobRecord, begin: Callable[[], object]) -> None:
    """Store that an import is under way; if its client leaves meanwhile, that nobody does it."""
    left = threading.Event()

    def interrupt() -> None:
        serving.home.change_job(record.id, state="interrupted")

    def work() -> None:
        begin()
        if left.is_set():
            interrupt()

    try:
        await serving.writing.run(work)
    except asyncio.CancelledError:
        # what is being stored sees it at its end; what is stored already, or never will be, is seen
        # to here
        left.set()
        serving.writing.post(interrupt)
        raise


def _of_client(job: str) -> str:
    try:
        return str(UUID(job))
    except ValueError as error:
        raise InvalidInput(
            f"job: expected a UUID to begin an import with, got {job[:80]!r}"
        ) from error
