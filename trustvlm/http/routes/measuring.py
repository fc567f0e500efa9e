"""Evaluating, calibrating and feedback, on queries of the request or stored ones; and jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Annotated, Any, TypeVar

from fastapi import Query, Request, Response

from trustvlm.errors import Forbidden, InvalidInput, NotFound
from trustvlm.http.routes.answers import answer, has_images, reads, writes, written
from trustvlm.http.routes.openapi import SPACE, Id, route, router_of
from trustvlm.http.wire.bodies import FORM, JSON, NPZ, Received, read_body
from trustvlm.http.wire.parameters import at_expected
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
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.options import Within

router = router_of("measuring")
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
    await refuse_unknown(serving, space, "truth", received.body.truth)
    by_claims = getattr(received.body, "claimed", None) and not received.body.truth  # an audit
    names = ("sources", "claimed") if by_claims else ("truth", "sources", "claimed")
    await check_queries(serving, space, received, *names)
    return received


async def check_queries(serving: Serving, space: str, received: Received[Any], *names: str) -> None:
    """Check the queries of a job, and the fields `names` that hold a name for each query.

    Raises:
        InvalidInput: no queries, another number of names than of queries, or images in a space
            whose encoders take none.
    """
    if received.images is not None:
        await serving.encode(lambda: serving.service.embed(space, []))
        rows = len(received.images)
        beside_images(received.queries(), Queries(), rows, ())  # their number is right
    else:
        _, dimensions, rows = shaped(await with_vectors(serving, space, received.queries()))
        if dimensions == (None, None):
            raise InvalidInput("classifier, verifier: expected embeddings, got none")
    for name in names:
        listed = getattr(received.body, name, None)
        if listed is not None and rows != len(listed):
            raise InvalidInput(
                f"{name}: expected {count(rows, 'name')}, one for each query, got {len(listed)}"
            )


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
    """Queries, truth and sources of a job, and notes on its images."""
    queries, sources, places, notes = embedded(serving, space, received, progress)
    truth = received.body.truth
    if truth and places is not None:
        truth = [truth[place] for place in places]
    return {"queries": queries, "truth": truth or None, "sources": sources}, notes


def embedded(
    serving: Serving, space: str, received: Received[Any], progress: Progress
) -> tuple[Queries, list[str | None] | None, list[int] | None, tuple[str, ...]]:
    """The queries of a job as embeddings, their names, which of the images they are of (None: the
    request has none), and notes on these, which are embedded in parts."""
    names: list[str | None] | None = received.body.sources
    if received.images is None:
        return received.queries(), names, None, ()
    given = received.queries()
    claimed = given.claimed
    parts, sources, places, notes = list[Queries](), list[str](), list[int](), list[str]()
    for start in range(0, len(received.images), _STEP):
        progress.tell("embedding", start, len(received.images))
        images: Any = received.images[start : start + _STEP]
        part = serving.encode_now(partial(serving.service.embed, space, images, **received.reading))
        here = [start + place for place in part.places]
        of_part = None if claimed is None else [claimed[place] for place in here]
        parts.append(replace(part.queries, claimed=of_part))
        sources, places, notes = [*sources, *part.sources], [*places, *here], [*notes, *part.notes]
    named: list[str | None] = [*sources]
    if names is not None:
        named = [names[place] for place in places]
    queries = beside_images(given, joined(parts), len(received.images), places)
    return queries, named, places, merged_notes(notes)


@writes(router.post, f"{SPACE}/feedback", JSON, NPZ, FORM, encoders=has_images, repeatable=True)
def feedback(serving: Serving, space: str, received: Received[FeedbackBody]) -> FeedbackResult:
    """Tell the true labels of queries; stored with the verdicts they get now."""
    body = received.body
    filenames = [image.filename or None for image in received.images or ()]
    return serving.service.feedback(
        space, received.queries(), body.truth, sampling=body.sampling, promote=body.promote,
        sources=filenames or None if body.sources is None else body.sources,
    )  # fmt: skip


@reads(router.get, f"{SPACE}/calibrations")
def list_calibrations(serving: Serving, space: str) -> CalibrationList:
    """The calibrations of a space, newest first: the first one that did not fail is in force."""
    calibrations = serving.service.list_calibrations(space)
    revision = serving.home.get_label_space(space).revision
    current = {one.id for claims in (False, True) if (one := decides(calibrations, claims))}
    rows = (StoredCalibration(**vars(one), in_force=one.id in current) for one in calibrations)
    return CalibrationList(revision, tuple(rows))


@writes(router.delete, SPACE + "/calibrations/{calibration}")
def remove_calibration(serving: Serving, space: str, calibration: Id) -> RemovedCalibration:
    """Take a calibration back; the one before it that did not fail is in force again."""
    serving.service.remove_calibration(space, calibration)
    return RemovedCalibration(calibration)


@reads(router.get, f"{SPACE}/monitor")
def monitor(
    serving: Serving,
    space: str,
    alpha: Annotated[float, Query(), Within("alpha")] = 0.05,
    claims: bool = False,
) -> MonitorReport:
    """Randomly drawn feedback against the promise of the calibration in force, with `claims` of
    that of claims; `alpha`: the rate of false alarms."""
    return serving.service.monitor(space, alpha=alpha, claims=claims)


@reads(router.get, f"{SPACE}/observations")
def count_observations(serving: Serving, space: str) -> ObservationCounts:
    """How many images with known labels are stored, and how many of them can be evaluated and
    calibrated on."""
    return serving.service.count_observations(space)


@reads(router.get, SPACE + "/observations/{observation}/thumbnail")
def observation_thumbnail(serving: Serving, space: str, observation: Id) -> bytes:
    """A stored image as a small JPEG."""
    picture = serving.service.observation_thumbnail(space, observation)
    if picture is None:
        raise NotFound(f"no thumbnail of observation {observation} in space {space!r}")
    return picture


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


@reads(router.get, "/v1/jobs", tags=["jobs"])
def list_jobs(
    serving: Serving, request: Request, limit: Annotated[int, Query(ge=1, le=1_000)] = 50
) -> JobList:
    """The newest jobs that the key may see."""
    records = serving.home.list_jobs(request.state.caller.space, limit)
    return JobList(tuple(replace(job_row(record), result=None) for record in records))


@reads(router.get, "/v1/jobs/{job}", tags=["jobs"])
def show_job(serving: Serving, request: Request, job: str) -> Job:
    """A job: how far it is and, at its end, its result."""
    return _job(serving, request, job)


@router.post("/v1/jobs/{job}/cancel", tags=["jobs"], **route("write", Job))
async def cancel_job(request: Request, job: str) -> Response:
    """Ask a job to stop; what it committed stays."""
    serving = serving_of(request)
    look_up = partial(_job, serving, request, job)
    await serving.reading.run(look_up)
    await serving.writing.run(lambda: serving.home.cancel_job(job))
    return answer(await serving.reading.run(look_up))


def _job(serving: Serving, request: Request, job: str) -> Job:
    """A job. Raises Forbidden: the key is for another space."""
    key_space, record = request.state.caller.space, serving.home.get_job(job)
    if key_space not in (None, record.space):
        raise Forbidden(f"this key opens the space {key_space!r} only; job {job!r} is of another")
    return job_row(record)
