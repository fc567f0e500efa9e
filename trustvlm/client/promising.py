"""The verbs that measure trust and promise something about it, and the jobs that do it; part of the facade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trustvlm.client import measuring
from trustvlm.client.bodies import rule_options, whole
from trustvlm.client.connected import Connected
from trustvlm.client.decode import read
from trustvlm.client.jobs import Job, Progress, find_job, finished, wait_for
from trustvlm.client.wire import path_of
from trustvlm.errors import InvalidInput
from trustvlm.outcomes import Evaluation
from trustvlm.promise import Calibration, FeedbackResult, MonitorReport
from trustvlm.types import Queries

__all__ = ["Promising"]


class Promising(Connected):
    """Evaluation, calibration, feedback, monitoring and jobs of a service elsewhere."""

    def evaluate(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None],
        *,
        rules: Sequence[str] | None = None,
        sources: Sequence[str | None] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 5,
        progress: Progress | None = None,
    ) -> Evaluation:
        """How well each rule tells right from wrong on labelled images; see :meth:`TrustService.evaluate`.

        The service does it as a job; `progress` is called with the :class:`trustvlm.client.Job` whenever that has gone on.
        All embeddings go in one request: they may have as many bytes as the service reads (by default 32 MB).
        """
        if isinstance(rules, str) or (rules is not None and not len(rules)):
            raise InvalidInput(f"rules: expected a list of rule names, got {rules!r}")
        options = [("rules", None if rules is None else list(rules)), ("risk", risk), ("coverage", coverage), ("draws", draws)]
        found = measuring.measured(self._wire, "evaluate", space, queries, truth, sources, options, progress)
        return read(Evaluation, found)

    def calibrate(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None],
        *,
        rule: str = "auto",
        max_risk: float = 0.05,
        confidence: float = 0.9,
        params: Mapping[str, float | None] | None = None,
        on_stale: str = "auto",
        on_unverified: str = "judge",
        unknown_rate: float = 0.01,
        sources: Sequence[str | None] | None = None,
        progress: Progress | None = None,
    ) -> Calibration:
        """Choose rule, parameters and threshold on labelled images, with a promise; see :meth:`TrustService.calibrate`.

        A job, as :meth:`evaluate`.
        """
        options = [*rule_options(rule, params), ("max_risk", max_risk), ("confidence", confidence)]
        options += [("on_stale", on_stale), ("on_unverified", on_unverified), ("unknown_rate", unknown_rate)]
        found = measuring.measured(self._wire, "calibrate", space, queries, truth, sources, options, progress)
        return read(Calibration, found)

    def recalibrate(self, space: str, *, progress: Progress | None = None) -> Calibration:
        """Calibrate anew for the space as it is, on the stored images and randomly drawn feedback. Raises as there."""
        return read(Calibration, finished(self._wire, path_of("spaces", space, "recalibrate"), [], None, progress))

    def list_calibrations(self, space: str) -> list[Calibration]:
        """The calibrations of a space, newest first: the first one is in force. Raises NotFound."""
        told = self._wire.ask("GET", path_of("spaces", space, "calibrations"))
        return [read(Calibration, row) for row in told["calibrations"]]

    def remove_calibration(self, space: str, calibration_id: int) -> None:
        """Take a calibration back; the one before it is in force again. Raises NotFound."""
        number = whole(calibration_id, "calibration_id")
        self._write("DELETE", path_of("spaces", space, "calibrations", str(number)))

    def feedback(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None] | str | None,
        *,
        sampling: str = "chosen",
        promote: bool = False,
        sources: Sequence[str | None] | None = None,
    ) -> FeedbackResult:
        """Tell the true labels of images; see :meth:`TrustService.feedback`. Image files are sent 128 (16 MB) at a time."""
        names = [truth] if truth is None or isinstance(truth, str) else truth
        return measuring.feedback(self._wire, space, queries, names, sampling, promote, sources)

    def monitor(self, space: str, *, alpha: float = 0.05) -> MonitorReport:
        """Compare randomly drawn feedback with the promise of the calibration in force. Raises NotFound, InvalidInput."""
        return read(MonitorReport, self._wire.ask("GET", path_of("spaces", space, "monitor"), query=[("alpha", alpha)]))

    def list_jobs(self, *, limit: int = 50) -> list[Job]:
        """The newest jobs that the key may see, without what they found."""
        return [read(Job, row) for row in self._wire.ask("GET", path_of("jobs"), query=[("limit", limit)])["jobs"]]

    def get_job(self, job_id: str) -> Job:
        """A job: how far it is and, at its end, what it found. Raises NotFound."""
        return find_job(self._wire, job_id)

    def cancel_job(self, job_id: str) -> Job:
        """Ask a job to stop; what it committed stays. Raises NotFound."""
        return read(Job, self._wire.ask("POST", path_of("jobs", job_id, "cancel")))

    def wait_job(self, job_id: str, *, timeout: float | None = None, progress: Progress | None = None) -> Job:
        """A job at its end, however it ended; `progress` is called with it whenever it has gone on.

        Raises:
            NotFound. Unavailable: it has not ended after `timeout` seconds.
        """
        return wait_for(self._wire, job_id, timeout, progress)
