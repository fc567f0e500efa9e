"""Answers of a service whose sentences advise commands: they get the options of the place where the
caller runs them, as errors do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from trustvlm.types.answers import Job, JobError, JobList
from trustvlm.types.calibration import MonitorReport
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.messages.commands import placed_command, placed_in


def placed_answer(answer: Any) -> Any:
    """The answer with the options that commands have here, in those that its sentences advise and
    in commands of their own; see :func:`trustvlm.types.messages.commands.at`."""
    place = _PLACED.get(type(answer))
    return answer if place is None else place(answer)


def _monitor(report: MonitorReport) -> MonitorReport:
    traffic = report.traffic
    if traffic is not None:
        traffic = replace(traffic, message=placed_in(traffic.message))
    return replace(report, message=placed_in(report.message), traffic=traffic)


def _evaluation(made: Evaluation) -> Evaluation:
    advice = (replace(one, command=placed_command(one.command)) for one in made.label_advice)
    return replace(made, label_advice=tuple(advice))


def _job(job: Job) -> Job:
    if job.error is None:
        return job
    message = placed_in(job.error["message"])
    return replace(job, error=JobError(kind=job.error["kind"], message=message))


def _jobs(listed: JobList) -> JobList:
    return replace(listed, jobs=tuple(map(_job, listed.jobs)))


_PLACED: dict[type, Callable[[Any], Any]] = {
    MonitorReport: _monitor,
    Evaluation: _evaluation,
    Job: _job,
    JobList: _jobs,
}
