"""The verbs that measure trust and promise something about it, and the jobs that do it; part of the
facade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import EllipsisType
from typing import TYPE_CHECKING

from trustvlm.client import measure
from trustvlm.client.codec import rule_options
from trustvlm.client.connection import Connected
from trustvlm.client.measure import Progress
from trustvlm.client.queues import RemoteReviewQueue
from trustvlm.client.transport import path_of, read
from trustvlm.errors import InvalidInput
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.types import Queries
from trustvlm.types.answers import Job, JobList, RemovedCalibration
from trustvlm.types.bounds import callbacks, flags, identifier
from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport, ObservationCounts
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.options import CalibrateOptions

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images


class MeasuringVerbs(Connected):
    """Evaluation, calibration, feedback, monitoring and jobs of a service elsewhere."""

    def evaluate(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | EllipsisType = ...,
        *,
        rules: Sequence[str] | None = None,
        sources: Sequence[str | None] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 5,
        params: Mapping[str, Mapping[str, float | None]] | None = None,
        items: bool = False,
        confidence: float = 0.9,
        peers: bool = False,
        hold_out: float | None = None,
        seed: int = 0,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Evaluation:
        """How well each rule tells right from wrong on labelled images; see
        :meth:`TrustService.evaluate`.

        The service does it as a job; `progress` is called with the :class:`trustvlm.client.Job`
        whenever that has gone on. All embeddings go in one request: they may have as many bytes as
        the service reads (by default 32 MB).
        """
        callbacks(progress=progress)
        options = measure.evaluate_options(
            rules, params, risk=risk, coverage=coverage, draws=draws, items=items,
            confidence=confidence, peers=peers,
        )  # fmt: skip
        part = measure.held_out(queries, truth, sources, hold_out, seed)
        result = measure.measured(
            self._wire, "evaluate", space, part, on_error, list(options.items()), progress
        )
        return part.placed(read(Evaluation, result))

    def evaluate_stored(
        self,
        space: str,
        *,
        rules: Sequence[str] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 0,
        params: Mapping[str, Mapping[str, float | None]] | None = None,
        items: bool = False,
        confidence: float = 0.9,
        peers: bool = False,
        progress: Progress | None = None,
    ) -> Evaluation:
        """:meth:`evaluate` on the images that :meth:`recalibrate` uses. Raises as that."""
        callbacks(progress=progress)
        options = measure.evaluate_options(
            rules, params, risk=risk, coverage=coverage, draws=draws, items=items,
            confidence=confidence, peers=peers,
        )  # fmt: skip
        return read(Evaluation, measure.stored(self._wire, "evaluate", space, options, progress))

    def count_observations(self, space: str) -> ObservationCounts:
        """How many images with known labels a space has stored. Raises NotFound."""
        return self._wire.get(ObservationCounts, "spaces", space, "observations")

    def calibrate(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | EllipsisType = ...,
        *,
        rule: str | None = None,
        max_risk: float = 0.05,
        confidence: float = 0.9,
        params: Mapping[str, float | None] | None = None,
        on_stale: str = "auto",
        on_unverified: str = "judge",
        unknown_rate: float = 0.01,
        may_correct: bool = False,
        threshold: float | None = None,
        procedure: str | None = None,
        back_off: bool = False,
        sources: Sequence[str | None] | None = None,
        hold_out: float | None = None,
        seed: int = 0,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Calibration:
        """Find a threshold on labelled images, with a promise; see
        :meth:`TrustService.calibrate`.

        A job, as :meth:`evaluate`.
        """
        callbacks(progress=progress)
        options = [
            *rule_options(rule, params),
            ("max_risk", max_risk),
            ("confidence", confidence),
            ("on_stale", on_stale),
            ("on_unverified", on_unverified),
            ("unknown_rate", unknown_rate),
            ("may_correct", may_correct),
            ("threshold", threshold),
            ("procedure", procedure),
            ("back_off", back_off),
        ]
        measure.require_each(CalibrateOptions, dict(options))
        part = measure.held_out(queries, truth, sources, hold_out, seed)
        result = measure.measured(self._wire, "calibrate", space, part, on_error, options, progress)
        return read(Calibration, result)

    def recalibrate(
        self,
        space: str,
        *,
        rule: str | None = None,
        max_risk: float | None = None,
        confidence: float | None = None,
        params: Mapping[str, float | None] | None = None,
        may_correct: bool | None = None,
        threshold: float | None = None,
        procedure: str | None = None,
        claims: bool = False,
        progress: Progress | None = None,
    ) -> Calibration:
        """Calibrate the space as it is now on the stored images; see
        :meth:`TrustService.recalibrate`."""
        if params is not None and rule is None:
            raise InvalidInput("params: name the rule they belong to")
        flags(claims=claims)
        callbacks(progress=progress)
        options = {
            "rule": rule,
            "max_risk": max_risk,
            "confidence": confidence,
            "params": params,
            "may_correct": may_correct,
            "threshold": threshold,
            "procedure": procedure,
            "claims": bool(claims) or None,
        }
        return read(Calibration, measure.stored(self._wire, "calibrate", space, options, progress))

    def list_calibrations(self, space: str) -> list[Calibration]:
        """The calibrations of a space, newest first: the first one that did not fail is in force.
        Raises NotFound."""
        answer = self._wire.ask("GET", path_of("spaces", space, "calibrations"))
        return [read(Calibration, row) for row in answer["calibrations"]]

    def remove_calibration(self, space: str, calibration_id: int) -> None:
        """Take a calibration back; the one before it that did not fail is in force again. Raises
        NotFound."""
        number = str(identifier("calibration_id", calibration_id))
        self._wire.write(RemovedCalibration, "DELETE", "spaces", space, "calibrations", number)

    def feedback(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | str | EllipsisType | None = ...,
        *,
        sampling: str = "chosen",
        promote: bool = False,
        sources: Sequence[str | None] | None = None,
    ) -> FeedbackResult:
        """Tell the true labels of images; see :meth:`TrustService.feedback`.

        Image files are sent 128 (8 MB) at a time: where one cannot be read, what was sent before
        is stored.
        """
        names = [truth] if truth is None or isinstance(truth, str) else truth
        return measure.feedback(self._wire, space, queries, names, sampling, promote, sources)

    def observation_thumbnail(self, space: str, observation_id: int) -> bytes | None:
        """The JPEG thumbnail of a stored image; None where it has none, or is not there. Raises
        NotFound: no such space."""
        number = str(identifier("observation", observation_id))
        picture = self._wire.picture("spaces", space, "observations", number, "thumbnail")
        if picture is None:
            self.count_observations(space)  # it says so where the space is not there
        return picture

    def review(self, space: str) -> ReviewQueue:
        """The review queue of a space: images that wait for a person's answer."""
        return RemoteReviewQueue(self._wire, space, self.place)

    def monitor(self, space: str, *, alpha: float = 0.05, claims: bool = False) -> MonitorReport:
        """Compare randomly drawn feedback with the promise of the calibration in force; see
        :meth:`TrustService.monitor`. Raises NotFound, InvalidInput."""
        flags(claims=claims)
        about = {"alpha": alpha} | ({"claims": True} if claims else {})
        return self._wire.get(MonitorReport, "spaces", space, "monitor", **about)

    def list_jobs(self, *, limit: int = 50) -> list[Job]:
        """The newest jobs that the key may see, without their results."""
        return list(self._wire.get(JobList, "jobs", limit=limit).jobs)

    def get_job(self, job_id: str) -> Job:
        """A job: how far it is and, at its end, its result. Raises NotFound."""
        return self._wire.get(Job, "jobs", job_id)

    def cancel_job(self, job_id: str) -> Job:
        """Ask a job to stop; what it committed stays. Raises NotFound."""
        return self._wire.find(Job, "jobs", job_id, "cancel")

    def wait_job(
        self, job_id: str, *, timeout: float | None = None, progress: Progress | None = None
    ) -> Job:
        """A job at its end, however it ended; `progress` is called with it whenever it has gone on.

        Raises:
            NotFound: no such job. Unavailable: it has not ended after `timeout` seconds.
        """
        callbacks(progress=progress)
        return measure.wait_for(self._wire, job_id, timeout, progress)
