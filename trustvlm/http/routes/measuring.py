"""Evaluating, calibrating, feedback; calibrations; jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Annotated, Any, TypeVar

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response

from trustvlm.errors import Forbidden, InvalidInput
from trustvlm.http.guard.keyring import Caller
from trustvlm.http.routes.answers import answer, written
from trustvlm.http.routes.openapi import READ, WRITE, takes
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.matching import expected_revision
from trustvlm.http.wire.schemas import CalibrateBody, EvaluateBody, FeedbackBody, LabelledBody
from trustvlm.http.work.jobs import Progress, job_row
from trustvlm.http.work.process import Serving, refuse_unknown, serving_of, shaped
from trustvlm.scoring.rules import RULES
from trustvlm.types import Queries
from trustvlm.types.answers import (
    CalibrationList,
    Job,
    JobList,
    RemovedCalibration,
    StoredCalibration,
)
from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport
from trustvlm.types.codec import Answer
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.options import Within
from trustvlm.types.remarks import merged_notes

__all__ = ["router"]

router = APIRouter(tags=["measuring"])
_STEP = 32
Labelled = TypeVar("Labelled", bound=LabelledBody)


@router.post(
    "/v1/spaces/{space}/evaluate",
    status_code=202,
    dependencies=READ,
    openapi_extra=takes(EvaluateBody, JSON, NPZ, FORM),
    response_model=Job,
)
async def evaluate(request: Request, space: str) -> Response:
    """A job that says how well each rule tells right from wrong on labelled queries."""
    serving, received = serving_of(request), await labelled_body(request, space, EvaluateBody)
    options = _options(received.body)

    def work(progress: Progress) -> Evaluation:
        given, notes = labelled(serving, space, received, progress)
        progress.tell("evaluating", 0, None)
        return replace(serving.service.evaluate(space, **given, **options), notes=notes)

    return await begun(request, "evaluate", space, work, received.digest)


@router.post(
    "/v1/spaces/{space}/calibrate",
    status_code=202,
    dependencies=WRITE,
    openapi_extra=takes(CalibrateBody, JSON, NPZ, FORM),
    response_model=Job,
)
async def calibrate(request: Request, space: str) -> Response:
    """A job that chooses rule, parameters and threshold, with a promise, and puts them into force.

    Where nothing can be proved its result is `failed`: it is listed, and what was in force stays
    so.
    """
    serving, received = serving_of(request), await labelled_body(request, space, CalibrateBody)
    rule = received.body.rule
    if rule != "auto" and RULES[rule].relabels and not received.body.may_correct:
        raise InvalidInput(
            f"rule: {rule!r} may correct the classifier's labels: send may_correct true, or name a "
            f"rule that keeps them"
        )
    options = _options(received.body)

    def work(progress: Progress) -> Calibration:
        given, notes = labelled(serving, space, received, progress)
        progress.tell("calibrating", 0, None)
        return replace(serving.service.calibrate(space, **given, **options), notes=notes)

    return await begun(request, "calibrate", space, work, received.digest)


def _options(body: LabelledBody) -> dict[str, Any]:
    """The fields that say what is done with the queries."""
    queries = {field.name for field in fields(LabelledBody)}
    return {name: value for name, value in vars(body).items() if name not in queries}


async def labelled_body(request: Request, space: str, model: type[Labelled]) -> Received[Labelled]:
    """Labelled queries; what can be seen to be wrong is refused now, not when the job's turn comes.

    Raises:
        NotFound: a name that is no label. InvalidInput: no queries, another number of names than of
            queries, or images in a space whose encoders take none.
    """
    serving, received = serving_of(request), await read_body(request, model, JSON, NPZ, FORM)
    await refuse_unknown(serving, space, "truth", received.body.truth)
    if received.images is not None:
        await serving.encode(lambda: serving.service.embed(space, []))
        rows = len(received.images)
    else:
        _, given, rows = shaped(received.queries())
        if given == (None, None):
            raise InvalidInput("classifier, verifier: expected embeddings, got none")
    if rows != len(received.body.truth):
        raise InvalidInput(
            f"truth: expected {rows} names, one for each query, got {len(received.body.truth)}"
        )
    if received.body.sources is not None and rows != len(received.body.sources):
        raise InvalidInput(
            f"sources: expected {rows} names, one for each query, got {len(received.body.sources)}"
        )
    return received


async def begun(
    request: Request, kind: str, space: str, work: Callable[[Progress], Answer], digest: bytes
) -> Response:
    """The answer to a request that begins a job."""
    serving, caller = serving_of(request), request.state.caller
    revision = expected_revision(request)

    def as_expected(progress: Progress) -> Answer:
        if revision is None:
            return work(progress)
        with serving.service.at_revision(space, revision):
            return work(progress)

    return await written(
        request,
        lambda: job_row(serving.jobs.start(kind, space, caller.key, as_expected)),
        digest=digest,
        status=202,
        repeatable=True,  # where the process dies, the job does, too
    )


def labelled(
    serving: Serving, space: str, received: Received[Any], progress: Progress
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Queries, truth and sources of a job, and notes on its images, which are embedded some at a
    time."""
    body: LabelledBody = received.body
    if received.images is None:
        return {"queries": received.queries(), "truth": body.truth, "sources": body.sources}, ()
    how = received.reading
    parts, truth, sources, notes = [], [], list[str | None](), list[str]()
    for start in range(0, len(received.images), _STEP):
        progress.tell("embedding", start, len(received.images))
        some = received.images[start : start + _STEP]
        found = serving.encode_now(lambda some=some: serving.service.embed(space, some, **how))  # type: ignore[misc]
        parts.append(found.queries)
        notes += found.notes
        truth += [body.truth[start + place] for place in found.places]
        sources += (
            found.sources
            if body.sources is None
            else [body.sources[start + place] for place in found.places]
        )
    sides = [[getattr(part, name) for part in parts] for name in ("classifier", "verifier")]
    classifier, verifier = (None if rows[0] is None else np.concatenate(rows) for rows in sides)
    return {
        "queries": Queries(classifier, verifier),
        "truth": truth,
        "sources": sources,
    }, merged_notes(notes)


@router.post(
    "/v1/spaces/{space}/feedback",
    dependencies=WRITE,
    openapi_extra=takes(FeedbackBody, JSON, NPZ, FORM),
    response_model=FeedbackResult,
)
async def feedback(request: Request, space: str) -> Response:
    """Tell the true labels of queries; stored with the verdicts they get now."""
    service, received = (
        serving_of(request).service,
        await read_body(request, FeedbackBody, JSON, NPZ, FORM),
    )
    body, queries = received.body, received.queries()
    sources = body.sources or (
        [image.filename or None for image in received.images] if received.images else None
    )
    return await written(
        request,
        lambda: service.feedback(
            space,
            queries,
            body.truth,
            sampling=body.sampling,
            promote=body.promote,
            sources=sources,
        ),
        digest=received.digest,
        encoders=received.images is not None,
        repeatable=True,
    )


@router.get("/v1/spaces/{space}/calibrations", dependencies=READ, response_model=CalibrationList)
async def list_calibrations(request: Request, space: str) -> Response:
    """The calibrations of a space, newest first: the first one that did not fail is in force."""
    serving = serving_of(request)
    found, row = await serving.reading.run(
        lambda: (serving.service.list_calibrations(space), serving.home.get_label_space(space))
    )
    current = next((calibration.id for calibration in found if not calibration.failed), None)
    rows = (
        StoredCalibration(
            **vars(calibration),
            stale=calibration.revision < row.revision,
            in_force=calibration.id == current,
        )
        for calibration in found
    )
    return answer(CalibrationList(row.revision, tuple(rows)))


@router.delete(
    "/v1/spaces/{space}/calibrations/{calibration}",
    dependencies=WRITE,
    response_model=RemovedCalibration,
)
async def remove_calibration(
    request: Request, space: str, calibration: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> Response:
    """Take a calibration back; the one before it that did not fail is in force again."""
    service = serving_of(request).service

    def work() -> RemovedCalibration:
        service.remove_calibration(space, calibration)
        return RemovedCalibration(calibration)

    return await written(request, work)


@router.get("/v1/spaces/{space}/monitor", dependencies=READ, response_model=MonitorReport)
async def monitor(
    request: Request, space: str, alpha: Annotated[float, Query(), Within("alpha")] = 0.05
) -> Response:
    """Randomly drawn feedback against the promise of the calibration in force; `alpha`: the rate of
    false alarms."""
    serving = serving_of(request)
    return answer(await serving.reading.run(lambda: serving.service.monitor(space, alpha=alpha)))


@router.get("/v1/jobs", tags=["jobs"], dependencies=READ, response_model=JobList)
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> Response:
    """The newest jobs that the key may see."""
    serving, only = serving_of(request), request.state.caller.space
    found = await serving.reading.run(lambda: serving.home.list_jobs(only, limit))
    return answer(JobList(tuple(replace(job_row(job), result=None) for job in found)))


@router.get("/v1/jobs/{job}", tags=["jobs"], dependencies=READ, response_model=Job)
async def show_job(request: Request, job: str) -> Response:
    """A job: how far it is and, at its end, what it found."""
    serving = serving_of(request)
    found = await serving.reading.run(lambda: serving.home.get_job(job))
    check_job(request.state.caller, found.space, job)
    return answer(job_row(found))


@router.post("/v1/jobs/{job}/cancel", tags=["jobs"], dependencies=WRITE, response_model=Job)
async def cancel_job(request: Request, job: str) -> Response:
    """Ask a job to stop; what it committed stays."""
    serving = serving_of(request)
    found = await serving.reading.run(lambda: serving.home.get_job(job))
    check_job(request.state.caller, found.space, job)
    await serving.writing.run(lambda: serving.home.cancel_job(job))
    return answer(job_row(await serving.reading.run(lambda: serving.home.get_job(job))))


def check_job(caller: Caller, space: str, job: str) -> None:
    """A key for one space opens the jobs of that space.

    Raises:
        Forbidden: it is another's.
    """
    if caller.space is not None and caller.space != space:
        raise Forbidden(
            f"this key opens the space {caller.space!r} only; job {job!r} is of another"
        )
