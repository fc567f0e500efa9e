"""Imports of very many labels: committed as they come, and going on where they were cut."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request, Response

from trustvlm.catalog.jobs import ENDED, JobRecord
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.http.answers import answer
from trustvlm.http.docs import WRITE
from trustvlm.http.import_sources import NDJSON, PARQUET, SOURCES
from trustvlm.http.importing import Import
from trustvlm.http.jobs import job_row
from trustvlm.http.routes_measuring import check_job
from trustvlm.http.serving import serving_of

__all__ = ["router"]

router = APIRouter(tags=["labels"])
_COLUMNS = (
    "a Parquet file with the columns name and, as far as there is one, prompt (texts), text_vector (lists, or lists of lists, "
    "of numbers), image_vectors and classifier_image_vectors (lists of lists)"
)
_DOC: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            NDJSON: {"schema": {"type": "string"}, "example": '{"name": "airport", "text_vector": [1.0, 0.0]}\n'},
            PARQUET: {"schema": {"type": "string", "format": "binary", "description": _COLUMNS}},
        },
    }
}


@router.post("/v1/spaces/{space}/imports", dependencies=WRITE, openapi_extra=_DOC)
async def import_labels(request: Request, space: str, job: str | None = None) -> Response:
    """Register labels in committed chunks: one JSON object a line (the fields of LabelBody), or a row of a Parquet file.

    Lines are committed while they are being sent, rows once the file is there. The answer is the import's job. If it breaks,
    send all of it again with `?job=ID`: what was committed is skipped. `GET /v1/jobs` tells the id of a broken import,
    whose state is "interrupted".
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in SOURCES:
        raise InvalidInput(f"content-type: expected {' or '.join(SOURCES)}, got {kind or 'none'!r}")
    serving = serving_of(request)
    record = await (_new(request, space) if job is None else _again(request, space, job))
    run = Import(serving, space, record)
    try:
        async with aclosing(SOURCES[kind](request, record.done)) as chunks:
            await run.follow(chunks)
    except BaseException as error:
        await run.interrupted(error)
        raise
    return answer(job_row(await serving.reading.run(lambda: serving.service.get_job(record.id))))


async def _new(request: Request, space: str) -> JobRecord:
    serving = serving_of(request)
    await serving.reading.run(lambda: serving.service.get_label_space(space))
    record = serving.jobs.record("import", space, request.state.caller.key, "running")
    await serving.writing.run(lambda: serving.service.create_job(record))
    return record


async def _again(request: Request, space: str, job: str) -> JobRecord:
    serving = serving_of(request)
    record = await serving.reading.run(lambda: serving.service.get_job(job))
    check_job(request.state.caller, record.space, job)
    if record.kind != "import" or record.space != space:
        raise InvalidInput(f"job: {job!r} is no import into space {space!r}")
    alive = await serving.reading.run(lambda: serving.worker.alive(record.worker))
    if record.state in ENDED or (record.state == "running" and alive):
        raise Conflict(f"job: the import {job!r} is {record.state}; only an interrupted one goes on")
    changes = {"state": "running", "worker": serving.worker.id, "error": None, "cancel_asked": False}
    await serving.writing.run(lambda: serving.service.change_job(job, **changes))
    return record
