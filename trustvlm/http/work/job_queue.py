"""Jobs: long work that a request begins, in a thread of its own; any process sees and cancels it
through the catalog.

A job that is cancelled, takes too long, or runs when the service ends, stops between two of its
steps (:mod:`trustvlm.system.stages`); one that does not stop is abandoned in its thread, so that
the next job can run.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import fields
from datetime import UTC, datetime
from functools import partial
from itertools import count
from queue import SimpleQueue
from threading import Event, Thread
from typing import Any

from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.errors import Busy, Overloaded, TrustVLMError, Unavailable
from trustvlm.http.wire.problems import UNEXPECTED, kind_of, public
from trustvlm.service.server.server_home import ServerHome
from trustvlm.service.server.workers import Worker
from trustvlm.system.background import Failures
from trustvlm.system.stages import stoppable
from trustvlm.types.answers import Job
from trustvlm.types.json_form import Answer

log = logging.getLogger("trustvlm.http")

MAX_WAITING = 16
_EVERY_S = 0.25
_TRIES = 3
_LONGEST_PAUSE_S = 5.0

Changes = dict[str, Any]
"""Columns of a job's row."""

Work = Callable[["Progress"], Answer]


def _ended(state: str, kind: str, message: str) -> Changes:
    return {"state": state, "error": {"kind": kind, "message": message}}


class Stopped(Exception):
    """The job does not go on."""


class Progress:
    """A job in this process: its work, its progress in the catalog, and its end."""

    def __init__(self, home: ServerHome, job_id: str, work: Work) -> None:
        self._home, self.id, self._work = home, job_id, work
        self._next, self._phase = 0.0, ""
        self.thread_ended = Event()
        self._context = copy_context()  # it names the author of changes
        self.outcome: Changes | None = None
        """The end that the work reached."""
        self.stop: Changes | None = None
        """The end of a job that must stop."""

    def check(self) -> None:
        """Raise Stopped if the job must stop."""
        if self.stop is not None:
            raise Stopped

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """Store the phase and how much of it is done, a few times a second. Raises Stopped: the
        job must stop."""
        self.check()
        if phase == self._phase and time.monotonic() < self._next and done != total:
            return
        self._phase, self._next = phase, time.monotonic() + _EVERY_S
        state = {"state": "running", "phase": phase, "done": done, "total": total}
        with suppress(Busy, Unavailable):  # the next call stores it
            if not self._home.change_job(self.id, **state):
                self.stop = {"state": "cancelled"}
        self.check()

    def begin(self) -> None:
        """Start the thread; the end of the process does not wait for it."""
        run, name = partial(self._context.run, self._run), f"trustvlm-job-{self.id[:8]}"
        Thread(target=run, name=name, daemon=True).start()

    def _run(self) -> None:
        try:
            with stoppable(self.check):
                self.tell("begun", 0, None)
                content = self._work(self).to_dict()
            self.outcome = {"state": "done", "phase": "done", "content": content}
        except Stopped:
            pass
        except TrustVLMError as error:
            self.outcome = _ended(
                "failed", kind_of(error), public(error, {"job": self.id}, self._home)
            )
        except Exception:
            log.exception("a job failed", extra={"job": self.id})
            self.outcome = _ended("failed", "Unexpected", UNEXPECTED)
        finally:
            self.thread_ended.set()


class Jobs:
    """The jobs of one process, one at a time.

    Args:
        longest_s: seconds that a job may take. stopping_s: seconds that it has to reach its next
            step when it must stop.
    """

    def __init__(
        self, home: ServerHome, worker: Worker, longest_s: float, stopping_s: float = 3.0
    ) -> None:
        self._home, self._worker, self._longest_s = home, worker, longest_s
        self._stopping_s = stopping_s
        self._queue: SimpleQueue[Progress | None] = SimpleQueue()
        self._waiting = 0
        self._leaving = Event()
        self._failures = Failures(log, "storing the end of a job")
        self._thread = Thread(target=self._run, name="trustvlm-jobs", daemon=True)
        self._thread.start()

    def start(self, kind: str, space: str, owner: str, work: Work) -> JobRecord:
        """Store and queue a new job, which ends with the result of `work`.

        Raises:
            Overloaded: too many wait, or the service is shutting down.
        """
        if self._leaving.is_set():
            raise Overloaded("the service is shutting down; try again")
        if self._waiting >= MAX_WAITING:
            raise Overloaded(f"{MAX_WAITING} jobs wait already; try again", 10)
        record = self.record(kind, space, owner, "queued")
        self._home.create_job(record)
        self._waiting += 1
        self._queue.put(Progress(self._home, record.id, work))
        return record

    def record(self, kind: str, space: str, owner: str, state: str) -> JobRecord:
        """A job of this process that is not stored yet."""
        now = datetime.now(UTC)
        return JobRecord(
            id=str(uuid.uuid4()),
            kind=kind,
            space=space,
            owner=owner,
            worker=self._worker.id,
            state=state,
            phase="waiting",
            done=0,
            total=None,
            cancel_asked=False,
            content=None,
            error=None,
            created_at=now,
            changed_at=now,
        )

    def _run(self) -> None:
        while (job := self._queue.get()) is not None:
            with self._failures.logged():
                self._store(job.id, self._completed(job))
            self._waiting -= 1

    def _completed(self, job: Progress) -> Changes:
        """Run a job; its end, also where running it fails in an unexpected way."""
        try:
            return self._complete(job)
        except Exception:
            log.exception("a job failed", extra={"job": job.id})
            job.stop = _ended("failed", "Unexpected", UNEXPECTED)
            return job.stop

    def _complete(self, job: Progress) -> Changes:
        """Run a job; its end."""
        deadline = time.monotonic() + self._longest_s
        if stop := self._must_stop(job, deadline):
            return stop
        job.begin()
        while not job.thread_ended.wait(_EVERY_S):
            if stop := self._must_stop(job, deadline):
                job.stop = stop
                if not job.thread_ended.wait(self._stopping_s):
                    log.warning("a job does not stop; it is abandoned", extra={"job": job.id})
                    return stop
        return job.outcome or job.stop or {"state": "cancelled"}

    def _must_stop(self, job: Progress, deadline: float) -> Changes | None:
        """The end of a job that must stop; None: it goes on."""
        if self._leaving.is_set():
            message = "the service ended while the job was running; start the job again"
            return _ended("interrupted", "Unavailable", message)
        if time.monotonic() > deadline:
            limit = f"{self._longest_s:g} s (setting serve_job_s)"
            message = f"the job took more than {limit}; start a smaller one or raise it"
            return _ended("failed", "Overloaded", message)
        with suppress(TrustVLMError):  # read again soon
            if self._home.get_job(job.id).cancel_asked:
                return {"state": "cancelled"}
        return None

    def _store(self, job_id: str, changes: Changes) -> None:
        """Store the end of a job: where the catalog cannot be written now, as soon as it can, or
        until the service ends."""
        for tries in count(1):
            try:
                self._home.change_job(job_id, **changes)
                return
            except (Busy, Unavailable) as error:
                if tries == 1:
                    log.warning(
                        "the end of a job is not stored yet: %s", error, extra={"job": job_id}
                    )
                if self._leaving.is_set() and tries >= _TRIES:
                    raise
            self._leaving.wait(min(_EVERY_S * tries, _LONGEST_PAUSE_S))

    def leave(self) -> None:
        """Take no more jobs, and interrupt the waiting and the running ones; returns at once."""
        self._leaving.set()

    def close(self) -> None:
        """As :meth:`leave`, and wait until all jobs have ended or are abandoned."""
        self.leave()
        self._queue.put(None)
        self._thread.join()


def job_row(record: JobRecord) -> Job:
    """A job as clients see it."""
    names = {field.name for field in fields(Job)} - {"result", "cancelling"}
    same: dict[str, Any] = {name: getattr(record, name) for name in names}
    return Job(**same, result=record.content, cancelling=record.cancel_asked)
