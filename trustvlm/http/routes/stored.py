"""Images with known labels that the space has stored: how many, and evaluating and calibrating on
them."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.measuring import begun
from trustvlm.http.routes.openapi import READ, WRITE, takes
from trustvlm.http.wire.bodies import JSON, read_body
from trustvlm.http.wire.schemas import StoredCalibrateBody, StoredEvaluateBody
from trustvlm.http.work.jobs import Progress
from trustvlm.http.work.process import serving_of
from trustvlm.types.answers import Job
from trustvlm.types.calibration import Calibration, ObservationCounts
from trustvlm.types.evaluation import Evaluation

__all__ = ["router"]

router = APIRouter(tags=["measuring"])


@router.get("/v1/spaces/{space}/observations", dependencies=READ, response_model=ObservationCounts)
async def count_observations(request: Request, space: str) -> Response:
    """How many images with known labels are stored, and how many of them can be evaluated and
    calibrated on."""
    serving = serving_of(request)
    return answer(await serving.reading.run(lambda: serving.service.count_observations(space)))


@router.post(
    "/v1/spaces/{space}/observations/evaluate",
    status_code=202,
    dependencies=READ,
    openapi_extra=takes(StoredEvaluateBody, JSON),
    response_model=Job,
)
async def evaluate_stored(request: Request, space: str) -> Response:
    """A job that evaluates on the stored images: of the last calibration, and randomly drawn
    feedback."""
    service, received = (
        serving_of(request).service,
        await read_body(request, StoredEvaluateBody, JSON),
    )
    options = vars(received.body)

    def work(progress: Progress) -> Evaluation:
        progress.tell("evaluating", 0, None)
        return service.evaluate_stored(space, **options)

    return await begun(request, "evaluate", space, work, received.digest)


@router.post(
    "/v1/spaces/{space}/observations/calibrate",
    status_code=202,
    dependencies=WRITE,
    openapi_extra=takes(StoredCalibrateBody, JSON),
    response_model=Job,
)
async def calibrate_stored(request: Request, space: str) -> Response:
    """A job that calibrates on the stored images, and puts what it finds into force, unless it
    `failed` to prove anything."""
    service, received = (
        serving_of(request).service,
        await read_body(request, StoredCalibrateBody, JSON),
    )
    options = vars(received.body)

    def work(progress: Progress) -> Calibration:
        progress.tell("calibrating", 0, None)
        return service.recalibrate(space, **options)

    return await begun(request, "calibrate", space, work, received.digest)
