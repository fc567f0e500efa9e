"""Long work: begun by a request, done by a thread of its own, seen and cancelled through the
catalog by any process.

No job keeps the next one waiting for ever: one that was cancelled, takes longer than it may, or is
under way when the service ends, is asked to stop between two of its steps
(:mod:`trustvlm.system.stopping`); one that does not stop is left behind in its thread.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.errors import Busy, Overloaded, TrustVLMError
from trustvlm.http.wire.problems import UNEXPECTED, kind_of
from trustvlm.service.server.server_home import ServerHome
from trustvlm.service.server.workers import Worker
from trustvlm.system.stopping import stoppable
from trustvlm.types.answers import Job
from trustvlm.types.codec import Answer

__all__ = ["Jobs", "Progress", "job_row"]

log = logging.getLogger("trustvlm.http")

MOST_WAITING = 16
STOPPING_S = 3.0
"""Seconds that a job has to reach its next step when it must stop."""

_EVERY_S = 0.25
_TRIES = 3

Changes = dict[str, Any]
Work = Callable[["Progress"], Answer]


class Stopped(Exception):
    """The job does not go on."""


class Progress:
    """How far a job is: tells the catalog now and then, and stops the job that shall stop."""

    def __init__(self, home: ServerHome, job_id: str) -> None:
        self._home, self._id = home, job_id
        self._next, self._phase = 0.0, ""
        self.end: Changes | None = None
        """The state and error with which the job ends, once it must stop."""

    def check(self) -> None:
        """Go on.

        Raises:
            Stopped: it shall not.
        """
        if self.end is not None:
            raise Stopped

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """The job is in this phase, and has done so much of it.

        Raises:
            Stopped: it shall stop.
        """
        self.check()
        if phase == self._phase and time.monotonic() < self._next and done != total:
            return
        self._phase = phase
        self._next = time.monotonic() + _EVERY_S
        with suppress(Busy):  # said a quarter of a second later
            if not self._home.change_job(
                self._id, state="running", phase=phase, done=done, total=total
            ):
                self.end = {"state": "cancelled"}
        self.check()


class _Job:
    """Work in a thread of its own, and how it ended."""

    def __init__(self, job_id: str, work: Work, progress: Progress) -> None:
        self.id, self.progress = job_id, progress
        self.ended = Event()
        self.outcome: Changes | None = None
        self._work = work

    def begin(self) -> None:
        """Start the thread; the end of the process does not wait for it."""
        Thread(target=self._do, name=f"trustvlm-job-{self.id[:8]}", daemon=True).start()

    def _do(self) -> None:
        try:
            with stoppable(self.progress.check):
                self.progress.tell("begun", 0, None)
                self.outcome = {
                    "state": "done",
                    "phase": "done",
                    "content": self._work(self.progress).to_dict(),
                }
        except Stopped:
            pass
        except TrustVLMError as error:
            self.outcome = {
                "state": "failed",
                "error": {"kind": kind_of(error), "message": str(error)},
            }
        except Exception:
            log.exception("a job failed", extra={"job": self.id})
            self.outcome = {
                "state": "failed",
                "error": {"kind": "Unexpected", "message": UNEXPECTED},
            }
        finally:
            self.ended.set()


class Jobs:
    """The jobs of one process, one at a time; each for `longest_s` seconds at most."""

    def __init__(self, home: ServerHome, worker: Worker, longest_s: float) -> None:
        self._home, self._worker, self._longest_s = home, worker, longest_s
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting = 0
        self._leaving = False
        self._thread = Thread(target=self._run, name="trustvlm-jobs", daemon=True)
        self._thread.start()

    def start(self, kind: str, space: str, owner: str, work: Work) -> JobRecord:
        """A new job that does `work`, and ends with what it returns.

        Raises:
            Overloaded: too many wait, or the service is shutting down.
        """
        if self._leaving:
            raise Overloaded("the service is shutting down; try again")
        if self._waiting >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} jobs wait already; try again", 10)
        record = self.record(kind, space, owner, "queued")
        self._home.create_job(record)
        self._waiting += 1
        self._queue.put(_Job(record.id, work, Progress(self._home, record.id)))
        return record

    def record(
        self, kind: str, space: str, owner: str, state: str, job_id: str | None = None
    ) -> JobRecord:
        """A job of this process that is not stored yet."""
        now = datetime.now(UTC)
        return JobRecord(
            job_id or str(uuid.uuid4()),
            kind,
            space,
            owner,
            self._worker.id,
            state,
            "waiting",
            0,
            None,
            False,
            None,
            None,
            now,
            now,
        )

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            try:
                self._end(job.id, self._seen_through(job))
            except Exception:  # the next job is not to suffer
                log.exception("the end of a job could not be stored", extra={"job": job.id})
            finally:
                self._waiting -= 1

    def _seen_through(self, job: _Job) -> Changes:
        """How a job ends."""
        deadline = time.monotonic() + self._longest_s
        end = self._why_stop(job, deadline)
        if end is not None:
            return end
        job.begin()
        while not job.ended.wait(_EVERY_S):
            end = self._why_stop(job, deadline)
            if end is not None:
                job.progress.end = end
                if not job.ended.wait(STOPPING_S):
                    log.warning("a job does not stop; it is abandoned", extra={"job": job.id})
                    return end
        return job.outcome or job.progress.end or {"state": "cancelled"}

    def _why_stop(self, job: _Job, deadline: float) -> Changes | None:
        """How the job ends if it stops now; None: it goes on."""
        if self._leaving:
            message = "the service ended while the job was running; start the job again"
            return {"state": "interrupted", "error": {"kind": "Unavailable", "message": message}}
        if time.monotonic() > deadline:
            message = (
                f"the job took more than {self._longest_s:g} s (setting serve_job_s); "
                f"start a smaller one or raise it"
            )
            return {"state": "failed", "error": {"kind": "Overloaded", "message": message}}
        with suppress(TrustVLMError):  # looked at again soon
            if self._home.get_job(job.id).cancel_asked:
                return {"state": "cancelled"}
        return None

    def _end(self, job_id: str, changes: Changes) -> None:
        for left in reversed(range(_TRIES)):
            try:
                self._home.change_job(job_id, **changes)
                return
            except Busy:
                if not left:
                    raise

    def leave(self) -> None:
        """Take on nothing more, and interrupt what waits or is under way; returns at once."""
        self._leaving = True

    def close(self) -> None:
        """The same, and wait until all of it has ended or was left behind."""
        self.leave()
        self._queue.put(None)
        self._thread.join()


def job_row(record: JobRecord) -> Job:
    """A job as clients see it."""
    names = {field.name for field in fields(Job)} - {"result", "cancelling"}
    same: dict[str, Any] = {name: getattr(record, name) for name in names}
    return Job(**same, result=record.content, cancelling=record.cancel_asked)
