"""What the server keeps in an open home of its own work: calls that may be repeated, jobs, and the
processes that are at them."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any

from trustvlm.catalog.server import idempotency, jobs
from trustvlm.catalog.server.idempotency import CallRecord
from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.errors import InvalidInput, NotFound, Overloaded, TrustVLMError
from trustvlm.service.home.home import Home
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.home.verdict_log.writer import trim_all
from trustvlm.service.server.workers import Worker, worker_of

KEPT = timedelta(days=2)
"""For this time a repeated call gets its first answer, and ended jobs are listed."""

_ORPHANED = "the process that was at it has died; ask for it again"


class OwnWork(OpenHome):
    """The side of an open service that the HTTP server uses for calls, jobs and workers."""

    def __init__(self, home: Home) -> None:
        super().__init__(home)
        self._given_up: list[tuple[str, str]] = []
        self._dropping = Lock()

    @property
    def is_shared(self) -> bool:
        """Whether the catalog is on a server: machines share it, and asking it may take long."""
        return isinstance(self._home.catalog.location, ServerLocation)

    # Calls with an idempotency key

    def begin_call(self, owner: str, key: str, request: bytes, worker: Worker) -> CallRecord | None:
        """Claim the call with this idempotency key; the stored answer, if it was answered before.

        Raises:
            InvalidInput: the key came with another request. Overloaded: the call is under way.
        """
        with self._writable().catalog.write("call") as connection:
            call = idempotency.find(connection, owner, key)
            if call is None:
                idempotency.claim(
                    connection, owner, key, request, worker.id, clock.stamp(connection)
                )
                return None
            if call.request != request:
                raise InvalidInput(
                    f"Idempotency-Key: {key!r} came with another request before; give each request "
                    f"its own"
                )
            if call.status is not None:
                return call
            if worker.alive(call.worker):
                raise Overloaded(
                    f"the request with the Idempotency-Key {key!r} is being done; ask again"
                )
            # Its process died before it stored an answer: no change was made, or it is repeatable.
            idempotency.take_over(connection, owner, key, worker.id)
        return None

    def do_call(self, owner: str, key: str, status: int, work: Callable[[], bytes]) -> bytes:
        """The answer to a claimed call, stored in the transaction of the change that it makes: both
        are stored, or neither.

        Args:
            work: makes one short change, and returns the body of the answer.
        """
        home = self._writable()  # now: its purge of expired rows is no part of the call
        try:
            with home.catalog.together():
                body = work()
                self.end_call(owner, key, status, body)
        except BaseException:
            home.counts.forget()  # the counts may include what was undone
            raise
        return body

    def end_call(self, owner: str, key: str, status: int, body: bytes) -> None:
        """Store the answer to a claimed call."""
        with self._ready().catalog.write("call") as connection:
            idempotency.answer(connection, owner, key, status, body)

    def drop_call(self, owner: str, key: str) -> None:
        """Give up a claim, so that the call can be made again: at once, or where the catalog cannot
        be written, as soon as it can (:meth:`drop_calls`)."""
        self._given_up.append((owner, key))
        with suppress(TrustVLMError):
            self.drop_calls()

    def drop_calls(self) -> None:
        """Drop the claims that were given up while the catalog could not be written."""
        with self._dropping:
            while self._given_up:
                with self._ready().catalog.write("call") as connection:
                    idempotency.forget(connection, *self._given_up[0])
                del self._given_up[0]

    # Jobs, workers and files

    def create_job(self, record: JobRecord) -> None:
        """Store a new job."""
        with self._writable().catalog.write("job") as connection:
            jobs.create(connection, record)

    def get_job(self, job_id: str) -> JobRecord:
        """A job. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            record = jobs.find(connection, job_id)
        if record is None:
            raise NotFound(f"no job {job_id!r}; ended ones are kept for {KEPT.days} days")
        return record

    def list_jobs(self, space: str | None, limit: int) -> list[JobRecord]:
        """The newest jobs, of one space or all."""
        with self._ready().catalog.read() as connection:
            return jobs.list_rows(connection, space, limit)

    def change_job(self, job_id: str, **changes: Any) -> bool:
        """Store the progress of a job; whether it goes on."""
        with self._ready().catalog.write("job") as connection:
            return jobs.progress(connection, job_id, changes)

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to stop."""
        with self._writable().catalog.write("job") as connection:
            jobs.ask_cancel(connection, job_id)

    def worker(self) -> Worker:
        """Register this process as one that serves the home."""
        return worker_of(self._writable())

    def sweep(self) -> None:
        """Delete old answers and old jobs, and what verdict logs keep no longer."""
        with self._writable().catalog.write("call") as connection:
            now = clock.stamp(connection)
            idempotency.forget_older(connection, now - KEPT)
            jobs.forget_older(connection, min(now, datetime.now(UTC)) - KEPT)
        trim_all(self._ready().catalog)

    def end_orphans(self, worker: Worker, gone: dict[str, float]) -> list[str]:
        """End the jobs of processes that have died, as failed; their ids. `gone`: since when each
        process was not seen; kept by the caller from one call to the next."""
        home = self._ready()
        with home.catalog.read() as connection:
            running = jobs.running(connection)
        now = time.monotonic()
        dead = {job.worker for job in running if not worker.alive(job.worker)}
        since = {one: gone.get(one, now) for one in dead}
        gone.clear()
        gone.update(since)
        orphans = [
            job.id for job in running if now - since.get(job.worker, now + 1) >= worker.sure_s
        ]
        if not orphans:
            return []
        with home.catalog.write("job") as connection:
            return [job for job in orphans if jobs.fail(connection, job, _ORPHANED)]
