"""Calls that may be repeated, and jobs: what is kept of them, and what becomes of those whose
process died."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from trustvlm.catalog.server import idempotency, jobs
from trustvlm.catalog.server.idempotency import CallRecord
from trustvlm.catalog.store import clock
from trustvlm.errors import InvalidInput, Overloaded
from trustvlm.service.home.home import Home
from trustvlm.service.server.workers import Worker

__all__ = ["KEPT", "begin_call", "sweep"]

KEPT = timedelta(days=2)
"""So long a repeated call gets the first answer, and ended jobs can be looked at."""


def begin_call(
    home: Home, owner: str, key: str, request: bytes, worker: Worker
) -> CallRecord | None:
    """See :meth:`ServerHome.begin_call`."""
    with home.catalog.write("call") as connection:
        found = idempotency.find(connection, owner, key)
        if found is None:
            idempotency.claim(connection, owner, key, request, worker.id, clock.stamp(connection))
            return None
        if found.request != request:
            raise InvalidInput(
                f"Idempotency-Key: {key!r} came with another request before; give each request "
                f"its own"
            )
        if found.status is not None:
            return found
        if worker.alive(found.worker):
            raise Overloaded(
                f"the request with the Idempotency-Key {key!r} is being done; ask again"
            )
        # Its process died, and no answer came with its change: either nothing was changed, or what
        # can be done twice.
        idempotency.take_over(connection, owner, key, worker.id)
    return None


def sweep(home: Home, worker: Worker) -> None:
    """See :meth:`ServerHome.sweep`."""
    with home.catalog.write("call") as connection:
        time = clock.stamp(connection)
        idempotency.forget_older(connection, time - KEPT)
        jobs.forget_older(connection, min(time, datetime.now(UTC)) - KEPT)
        for job in jobs.running(connection):
            if worker.alive(job.worker):
                continue
            error = {
                "kind": "Unavailable",
                "message": "the process that was at it has died; ask for it again",
            }
            jobs.progress(connection, job.id, {"state": "failed", "error": error})
