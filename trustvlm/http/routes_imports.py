"""Imports of very many labels: a stream of lines, committed as it comes, that goes on where it was cut."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from trustvlm.catalog.jobs import ENDED, JobRecord
from trustvlm.errors import Conflict, InvalidInput, NotFound, Overloaded
from trustvlm.http.answers import answer
from trustvlm.http.docs import WRITE
from trustvlm.http.jobs import job_row
from trustvlm.http.problems import kind_of, unfit
from trustvlm.http.routes_labels import as_inputs
from trustvlm.http.routes_measuring import check_job
from trustvlm.http.schemas import LabelBody
from trustvlm.http.serving import Serving, serving_of

__all__ = ["router"]

router = APIRouter(tags=["labels"])
NDJSON = "application/x-ndjson"
CHUNK_LINES, CHUNK_BYTES, LINE_BYTES = 500, 8 * 2**20, 8 * 2**20
DRIFT = 10  # sentences that are kept
_DOC = {
    "requestBody": {
        "required": True,
        "content": {NDJSON: {"schema": {"type": "string"}, "example": '{"name": "airport", "text_vector": [1.0, 0.0]}\n'}},
    }
}


@router.post("/v1/spaces/{space}/imports", dependencies=WRITE, openapi_extra=_DOC)
async def import_labels(
    request: Request,
    space: str,
    job: str | None = None,
    begin: bool = False,
    after: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """Register labels, one JSON object a line (the fields of LabelBody), committed in chunks while the stream is sent.

    The answer is the import's job. If the stream breaks, send it again, from its beginning, with `?job=ID`: lines that were
    committed are skipped. `GET /v1/jobs` tells the id of a broken import, whose state is "interrupted".

    `begin`: the id is of the client's own making, a UUID, and begins an import where there is none of it; so the client knows
    it from the first byte on. `after`: the stream begins behind so many lines of the import, all of which are committed.
    """
    if (kind := request.headers.get("content-type", "").partition(";")[0].strip().lower()) != NDJSON:
        raise InvalidInput(f"content-type: expected {NDJSON}, got {kind or 'none'!r}")
    serving = serving_of(request)
    record = await (_new(request, space, None) if job is None else _again(request, space, job, begin))
    run = _Import(serving, space, record, after)
    try:
        await run.follow(request)
    except BaseException as error:
        await run.interrupted(error)
        raise
    return answer(job_row(await serving.reading.run(lambda: serving.service.get_job(record.id))))


async def _new(request: Request, space: str, job: str | None) -> JobRecord:
    serving = serving_of(request)
    await serving.reading.run(lambda: serving.service.get_label_space(space))
    record = serving.jobs.record("import", space, request.state.caller.key, "running", job)
    await serving.writing.run(lambda: serving.service.create_job(record))
    return record


async def _again(request: Request, space: str, job: str, begin: bool) -> JobRecord:
    serving = serving_of(request)
    try:
        record = await serving.reading.run(lambda: serving.service.get_job(job))
    except NotFound:
        if not begin:
            raise
        return await _new(request, space, _of_client(job))
    check_job(request.state.caller, record.space, job)
    if record.kind != "import" or record.space != space:
        raise InvalidInput(f"job: {job!r} is no import into space {space!r}")
    alive = await serving.reading.run(lambda: serving.worker.alive(record.worker))
    if begin and record.state == "running" and alive:  # nobody has noticed yet that its stream broke
        raise Overloaded(f"job: the import {job!r} is being done; ask again")
    if record.state in ENDED or (record.state == "running" and alive):
        raise Conflict(f"job: the import {job!r} is {record.state}; only an interrupted one goes on")
    changes = {"state": "running", "worker": serving.worker.id, "error": None, "cancel_asked": False}
    await serving.writing.run(lambda: serving.service.change_job(job, **changes))
    return record


def _of_client(job: str) -> str:
    try:
        return str(UUID(job))
    except ValueError as error:
        raise InvalidInput(f"job: expected a UUID to begin an import with, got {job[:80]!r}") from error


class _Import:
    """One stream on its way into the space."""

    def __init__(self, serving: Serving, space: str, record: JobRecord, after: int) -> None:
        self.serving, self.space, self.id = serving, space, record.id
        self.skip, self.done, self.after = record.done, record.done, after
        counts: dict[str, Any] = {"added_labels": 0, "added_supports": 0, "skipped_duplicates": 0}
        self.tally = counts | {"revision": 0, "drift": []} | (record.content or {})

    async def follow(self, request: Request) -> None:
        """Read the stream to its end, committing chunks; the client is read no faster than that goes."""
        if self.after > self.skip:
            raise InvalidInput(f"after: {self.skip} lines are committed, got {self.after}")
        lines: list[bytes] = []
        number, size = self.after, 0
        async for line in _lines(request):
            number += 1
            if number <= self.skip:
                continue
            lines.append(line)
            size += len(line)
            if len(lines) == CHUNK_LINES or size >= CHUNK_BYTES:
                await self.commit(lines)
                lines, size = [], 0
        await self.commit(lines)
        if number < self.skip:
            raise InvalidInput(f"the stream has {number} lines, but {self.skip} were committed before: it is another one")
        ended = {"state": "done", "phase": "done", "total": self.done, "content": self.tally}
        await self.serving.writing.run(lambda: self.serving.service.change_job(self.id, **ended))

    async def commit(self, lines: list[bytes]) -> None:
        """Register the labels of these lines."""
        if not lines:
            return
        first = self.done + 1
        inputs = as_inputs([_label(line, first + place) for place, line in enumerate(lines)])
        service = self.serving.service

        def work() -> bool:
            result = service.register(self.space, inputs)
            for name in ("added_labels", "added_supports", "skipped_duplicates"):
                self.tally[name] += getattr(result, name)
            self.tally["revision"] = result.revision
            self.tally["drift"] = [*dict.fromkeys([*self.tally["drift"], *result.drift])][:DRIFT]
            self.done += len(lines)
            return service.change_job(self.id, phase="importing", done=self.done, content=self.tally)

        encoders = any(one.text_vector is None for one in inputs)
        going = await (self.serving.encode(work) if encoders else self.serving.writing.run(work))
        if not going:
            await self.serving.writing.run(lambda: service.change_job(self.id, state="cancelled"))
            raise Conflict(f"the import {self.id} was cancelled after {self.done} lines")

    async def interrupted(self, error: BaseException) -> None:
        """Say in the job how it ended; a broken stream is no failure, and can go on."""
        state: dict[str, Any] = {"state": "interrupted"}
        if isinstance(error, ClientDisconnect) or not isinstance(error, Exception):  # nobody waits for an answer
            self.serving.writing.post(lambda: self.serving.service.change_job(self.id, **state))
            return
        state["error"] = {"kind": kind_of(error), "message": str(error)}
        await self.serving.writing.run(lambda: self.serving.service.change_job(self.id, **state))


async def _lines(request: Request) -> AsyncIterator[bytes]:
    """The lines of a body as they come, without empty ones.

    Raises:
        InvalidInput: a line without end.
    """
    rest = b""
    async for piece in request.stream():
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield line
        if len(rest) > LINE_BYTES:
            raise InvalidInput(f"a line has more than {LINE_BYTES} bytes, the limit")
    if rest.strip():
        yield rest


def _label(line: bytes, number: int) -> LabelBody:
    try:
        return LabelBody.model_validate_json(line)
    except ValidationError as error:
        raise InvalidInput(f"line {number}: {unfit(error)}") from error
