"""Jobs: list, look at, cancel."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from trustvlm.errors import Forbidden
from trustvlm.http.guard.keyring import Caller
from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.openapi import route
from trustvlm.http.work.jobs import job_row
from trustvlm.http.work.process import serving_of
from trustvlm.types.answers import Job, JobList

__all__ = ["check_job", "router"]

router = APIRouter(tags=["jobs"])


@router.get("/v1/jobs", **route("read", JobList))
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> Response:
    """The newest jobs that the key may see."""
    serving, key_space = serving_of(request), request.state.caller.space
    records = await serving.reading.run(lambda: serving.home.list_jobs(key_space, limit))
    return answer(JobList(tuple(replace(job_row(record), result=None) for record in records)))


@router.get("/v1/jobs/{job}", **route("read", Job))
async def show_job(request: Request, job: str) -> Response:
    """A job: how far it is and, at its end, its result."""
    return answer(await _job(request, job))


@router.post("/v1/jobs/{job}/cancel", **route("write", Job))
async def cancel_job(request: Request, job: str) -> Response:
    """Ask a job to stop; what it committed stays."""
    serving = serving_of(request)
    await _job(request, job)
    await serving.writing.run(lambda: serving.home.cancel_job(job))
    return answer(await _job(request, job))


async def _job(request: Request, job: str) -> Job:
    serving = serving_of(request)
    record = await serving.reading.run(lambda: serving.home.get_job(job))
    check_job(request.state.caller, record.space, job)
    return job_row(record)


def check_job(caller: Caller, space: str, job: str) -> None:
    """A key for one space opens the jobs of that space. Raises Forbidden: it is another's."""
    if caller.space is not None and caller.space != space:
        raise Forbidden(
            f"this key opens the space {caller.space!r} only; job {job!r} is of another"
        )
