"""Long work: begun by a request, done by a thread of its own, seen and cancelled through the catalog by any process."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from trustvlm.catalog.jobs import JobRecord
from trustvlm.errors import Overloaded, TrustVLMError
from trustvlm.http.problems import UNEXPECTED, kind_of, plain
from trustvlm.service import TrustService
from trustvlm.service.workers import Worker

__all__ = ["Jobs", "Progress", "job_row"]

log = logging.getLogger("trustvlm.http")

MOST_WAITING = 16
_EVERY_S = 0.25


class Cancelled(Exception):
    """Somebody asked the job to stop."""


class Progress:
    """How far a job is; tells the catalog now and then, and stops the job where somebody asked for that."""

    def __init__(self, service: TrustService, job_id: str) -> None:
        self._service, self._id = service, job_id
        self._next = 0.0
        self.done = 0

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """The job is in this phase, and has done so much of it.

        Raises:
            Cancelled: it shall stop.
        """
        self.done = done
        if time.monotonic() < self._next and done != total:
            return
        self._next = time.monotonic() + _EVERY_S
        if not self._service.change_job(self._id, state="running", phase=phase, done=done, total=total):
            raise Cancelled


class Jobs:
    """The jobs of one process, one at a time."""

    def __init__(self, service: TrustService, worker: Worker) -> None:
        self._service, self._worker = service, worker
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="trustvlm-jobs")
        self._there = 0

    def start(self, kind: str, space: str, owner: str, work: Callable[[Progress], dict[str, Any]]) -> JobRecord:
        """A new job that does `work`, and ends with what it returns.

        Raises:
            Overloaded: too many wait.
        """
        if self._there >= MOST_WAITING:
            raise Overloaded(f"{MOST_WAITING} jobs wait already; try again", 10)
        record = self.record(kind, space, owner, "queued")
        self._service.create_job(record)
        self._there += 1
        self._executor.submit(self._do, record.id, work).add_done_callback(self._left)
        return record

    def record(self, kind: str, space: str, owner: str, state: str, job_id: str | None = None) -> JobRecord:
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

    def _left(self, _: object) -> None:
        self._there -= 1

    def _do(self, job_id: str, work: Callable[[Progress], dict[str, Any]]) -> None:
        progress = Progress(self._service, job_id)
        try:
            progress.tell("begun", 0, None)
            result = work(progress)
            self._service.change_job(job_id, state="done", phase="done", content=plain(result))
        except Cancelled:
            self._service.change_job(job_id, state="cancelled")
        except TrustVLMError as error:
            self._service.change_job(job_id, state="failed", error={"kind": kind_of(error), "message": str(error)})
        except Exception:
            log.exception("a job failed", extra={"job": job_id})
            self._service.change_job(job_id, state="failed", error={"kind": "Unexpected", "message": UNEXPECTED})

    def close(self) -> None:
        """Finish what was accepted."""
        self._executor.shutdown(wait=True)


def job_row(job: JobRecord) -> dict[str, Any]:
    """A job as clients see it."""
    shown = ("id", "kind", "space", "state", "phase", "done", "total", "error")
    times = {name: getattr(job, name).isoformat() for name in ("created_at", "changed_at")}
    return {name: getattr(job, name) for name in shown} | {"result": job.content, "cancelling": job.cancel_asked} | times
