"""Evaluating, calibrating and feedback, on queries of the request or stored ones; and jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Path, Query, Request, Response

from trustvlm.errors import Forbidden, InvalidInput, NotFound
from trustvlm.http.routes.answers import answer, jpeg, read, written
from trustvlm.http.routes.openapi import JPEG, route
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.matching import at_expected
from trustvlm.http.wire.schemas import (
    CalibrateBody,
    ClaimedQueries,
    EvaluateBody,
    FeedbackBody,
    LabelledBody,
    PicturedQueries,
    StoredCalibrateBody,
    StoredEvaluateBody,
)
from trustvlm.http.work.batches import joined, shaped
from trustvlm.http.work.job_queue import Progress, job_row
from trustvlm.http.work.process import Serving, refuse_unknown, serving_of, with_vectors
from trustvlm.reading.outputs.probabilities import beside_images
from trustvlm.scoring.rules import RULES
from trustvlm.types import Queries
from trustvlm.types.answers import (
    CalibrationList,
    Job,
    JobList,
    RemovedCalibration,
    StoredCalibration,
)
from trustvlm.types.calibration import (
    Calibration,
    FeedbackResult,
    MonitorReport,
    ObservationCounts,
    decides,
)
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.json_form import Answer
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.options import Within

SPACE = "/v1/spaces/{space}"
router = APIRouter(tags=["measuring"])
_STEP = 32
Labelled = TypeVar("Labelled", bound=LabelledBody)


@router.post(f"{SPACE}/evaluate", **route("read", Job, EvaluateBody, JSON, NPZ, FORM, status=202))
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
    f"{SPACE}/calibrate", **route("write", Job, CalibrateBody, JSON, NPZ, FORM, status=202)
)
async def calibrate(request: Request, space: str) -> Response:
    """A job that chooses rule, parameters and threshold, with a promise, and puts them into force.

    Where nothing can be proved its result is `failed`: it is listed, and what was in force stays
    so.
    """
    serving, received = serving_of(request), await labelled_body(request, space, CalibrateBody)
    rule = received.body.rule
    if rule in RULES and RULES[rule].relabels and not received.body.may_correct:
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


_QUERIES = (LabelledBody, PicturedQueries, ClaimedQueries)


def _options(body: LabelledBody) -> dict[str, Any]:
    """The fields that say what is done with the queries."""
    queries = {field.name for kind in _QUERIES for field in fields(kind)}
    return {name: value for name, value in vars(body).items() if name not in queries}


async def labelled_body(request: Request, space: str, model: type[Labelled]) -> Received[Labelled]:
    """Labelled queries, checked now as far as possible, not when the job's turn comes.

    Raises:
        NotFound: a name that is no label. InvalidInput: no queries, another number of names than of
            queries, or images in a space whose encoders take none.
    """
    serving, received = serving_of(request), await read_body(request, model, JSON, NPZ, FORM)
    truth = received.body.truth
    await refuse_unknown(serving, space, "truth", truth)
    if received.images is not None:
        await serving.encode(lambda: serving.service.embed(space, []))
        rows = len(received.images)
        beside_images(received.queries(), Queries(), rows, ())  # their number is right
    else:
        _, dimensions, rows = shaped(await with_vectors(serving, space, received.queries()))
        if dimensions == (None, None):
            raise InvalidInput("classifier, verifier: expected embeddings, got none")
    claimed = getattr(received.body, "claimed", None)  # in an audit, in place of truth
    for name in (
        ("sources", "claimed") if claimed and not truth else ("truth", "sources", "claimed")
    ):
        names = getattr(received.body, name, None)
        if names is not None and rows != len(names):
            raise InvalidInput(
                f"{name}: expected {rows} names, one for each query, got {len(names)}"
            )
    return received


async def begun(
    request: Request, kind: str, space: str, work: Callable[[Progress], Answer], digest: bytes
) -> Response:
    """The answer to a request that begins a job."""
    owner, service = request.state.caller.key, serving_of(request).service
    checked = at_expected(request, service, work)
    return await written(
        request,
        lambda serving: job_row(serving.jobs.start(kind, space, owner, checked)),
        digest=digest,
        status=202,
        repeatable=True,  # where the process dies, the job does, too
    )


def labelled(
    serving: Serving, space: str, received: Received[Any], progress: Progress
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Queries, truth and sources of a job, and notes on its images, which are embedded in parts."""
    body: LabelledBody = received.body
    if received.images is None:
        queries, truth = received.queries(), body.truth or None
        return {"queries": queries, "truth": truth, "sources": body.sources}, ()
    parts, truth, sources, notes = [], [], list[str | None](), list[str]()
    given = received.queries()
    claimed, read_places = given.claimed, list[int]()
    for start in range(0, len(received.images), _STEP):
        progress.tell("embedding", start, len(received.images))
        embed = partial(
            serving.service.embed, space, received.images[start : start + _STEP], **received.reading
        )
        embedded = serving.encode_now(embed)
        notes += embedded.notes
        places = [start + place for place in embedded.places]
        read_places += places
        of_part = None if claimed is None else [claimed[place] for place in places]
        parts.append(replace(embedded.queries, claimed=of_part))
        truth += [body.truth[place] for place in places if body.truth]
        names = body.sources
        sources += embedded.sources if names is None else [names[place] for place in places]
    queries = beside_images(given, joined(parts), len(received.images), read_places)
    return {"queries": queries, "truth": truth or None, "sources": sources}, merged_notes(notes)


@router.post(f"{SPACE}/feedback", **route("write", FeedbackResult, FeedbackBody, JSON, NPZ, FORM))
async def feedback(request: Request, space: str) -> Response:
    """Tell the true labels of queries; stored with the verdicts they get now."""
    received = await read_body(request, FeedbackBody, JSON, NPZ, FORM)
    body, queries = received.body, received.queries()
    filenames = [image.filename or None for image in received.images or ()]
    sources = body.sources or filenames or None

    def work(serving: Serving) -> FeedbackResult:
        return serving.service.feedback(
            space,
            queries,
            body.truth,
            sampling=body.sampling,
            promote=body.promote,
            sources=sources,
        )

    encoders = received.images is not None
    return await written(request, work, digest=received.digest, encoders=encoders, repeatable=True)


@router.get(f"{SPACE}/calibrations", **route("read", CalibrationList))
async def list_calibrations(request: Request, space: str) -> Response:
    """The calibrations of a space, newest first: the first one that did not fail is in force."""

    def work(serving: Serving) -> CalibrationList:
        calibrations = serving.service.list_calibrations(space)
        revision = serving.home.get_label_space(space).revision
        current = {one.id for claims in (False, True) if (one := decides(calibrations, claims))}
        rows = (StoredCalibration(**vars(one), in_force=one.id in current) for one in calibrations)
        return CalibrationList(revision, tuple(rows))

    return await read(request, work)


@router.delete(SPACE + "/calibrations/{calibration}", **route("write", RemovedCalibration))
async def remove_calibration(
    request: Request, space: str, calibration: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> Response:
    """Take a calibration back; the one before it that did not fail is in force again."""

    def work(serving: Serving) -> RemovedCalibration:
        serving.service.remove_calibration(space, calibration)
        return RemovedCalibration(calibration)

    return await written(request, work)


@router.get(f"{SPACE}/monitor", **route("read", MonitorReport))
async def monitor(
    request: Request, space: str, alpha: Annotated[float, Query(), Within("alpha")] = 0.05
) -> Response:
    """Randomly drawn feedback against the promise of the calibration in force; `alpha`: the rate of
    false alarms."""
    return await read(request, lambda serving: serving.service.monitor(space, alpha=alpha))


@router.get(f"{SPACE}/observations", **route("read", ObservationCounts))
async def count_observations(request: Request, space: str) -> Response:
    """How many images with known labels are stored, and how many of them can be evaluated and
    calibrated on."""
    return await read(request, lambda serving: serving.service.count_observations(space))


@router.get(SPACE + "/observations/{observation}/thumbnail", **JPEG)
async def observation_thumbnail(
    request: Request, space: str, observation: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> Response:
    """A stored image as a small JPEG."""
    serving = serving_of(request)
    picture = await serving.reading.run(
        lambda: serving.service.observation_thumbnail(space, observation)
    )
    if picture is None:
        raise NotFound(f"no thumbnail of observation {observation} in space {space!r}")
    return jpeg(picture)


@router.post(
    f"{SPACE}/observations/evaluate", **route("read", Job, StoredEvaluateBody, JSON, status=202)
)
async def evaluate_stored(request: Request, space: str) -> Response:
    """A job that evaluates on the stored images: of the last calibration, and randomly drawn
    feedback."""
    received = await read_body(request, StoredEvaluateBody, JSON)
    service = serving_of(request).service

    def work(progress: Progress) -> Evaluation:
        progress.tell("evaluating", 0, None)
        return service.evaluate_stored(space, **vars(received.body))

    return await begun(request, "evaluate", space, work, received.digest)


@router.post(
    f"{SPACE}/observations/calibrate", **route("write", Job, StoredCalibrateBody, JSON, status=202)
)
async def calibrate_stored(request: Request, space: str) -> Response:
    """A job that calibrates on the stored images, and puts what it finds into force, unless it
    `failed` to prove anything."""
    received = await read_body(request, StoredCalibrateBody, JSON)
    service = serving_of(request).service

    def work(progress: Progress) -> Calibration:
        progress.tell("calibrating", 0, None)
        return service.recalibrate(space, **vars(received.body))

    return await begun(request, "calibrate", space, work, received.digest)


@router.get("/v1/jobs", tags=["jobs"], **route("read", JobList))
async def list_jobs(
    request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> Response:
    """The newest jobs that the key may see."""
    serving, key_space = serving_of(request), request.state.caller.space
    records = await serving.reading.run(lambda: serving.home.list_jobs(key_space, limit))
    return answer(JobList(tuple(replace(job_row(record), result=None) for record in records)))


@router.get("/v1/jobs/{job}", tags=["jobs"], **route("read", Job))
async def show_job(request: Request, job: str) -> Response:
    """A job: how far it is and, at its end, its result."""
    return answer(await _job(request, job))


@router.post("/v1/jobs/{job}/cancel", tags=["jobs"], **route("write", Job))
async def cancel_job(request: Request, job: str) -> Response:
    """Ask a job to stop; what it committed stays."""
    serving = serving_of(request)
    await _job(request, job)
    await serving.writing.run(lambda: serving.home.cancel_job(job))
    return answer(await _job(request, job))


async def _job(request: Request, job: str) -> Job:
    """A job. Raises Forbidden: the key is for another space."""
    serving, caller = serving_of(request), request.state.caller
    record = await serving.reading.run(lambda: serving.home.get_job(job))
    if caller.space not in (None, record.space):
        raise Forbidden(
            f"this key opens the space {caller.space!r} only; job {job!r} is of another"
        )
    return job_row(record)
