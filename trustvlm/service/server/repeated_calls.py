"""Repeated calls and jobs: what is stored of them, and the end of those whose process died."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from trustvlm.catalog.server import idempotency, jobs
from trustvlm.catalog.server.idempotency import CallRecord
from trustvlm.catalog.store import clock
from trustvlm.errors import InvalidInput, Overloaded
from trustvlm.service.home.home import Home
from trustvlm.service.server.workers import Worker

KEPT = timedelta(days=2)
"""For this time a repeated call gets its first answer, and ended jobs are listed."""
ORPHANED = "the process that was at it has died; ask for it again"


def begin_call(
    home: Home, owner: str, key: str, request: bytes, worker: Worker
) -> CallRecord | None:
    """See :meth:`ServerHome.begin_call`."""
    with home.catalog.write("call") as connection:
        call = idempotency.find(connection, owner, key)
        if call is None:
            idempotency.claim(connection, owner, key, request, worker.id, clock.stamp(connection))
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
        # Its process died before it stored an answer: the change was not made, or is repeatable.
        idempotency.take_over(connection, owner, key, worker.id)
    return None


def sweep(home: Home) -> None:
    """See :meth:`ServerHome.sweep`."""
    with home.catalog.write("call") as connection:
        now = clock.stamp(connection)
        idempotency.forget_older(connection, now - KEPT)
        jobs.forget_older(connection, min(now, datetime.now(UTC)) - KEPT)


def end_orphans(home: Home, worker: Worker, gone: dict[str, float]) -> list[str]:
    """See :meth:`ServerHome.end_orphans`."""
    with home.catalog.read() as connection:
        running = jobs.running(connection)
    now = time.monotonic()
    dead = {job.worker for job in running if not worker.alive(job.worker)}
    since = {one: gone.get(one, now) for one in dead}
    gone.clear()
    gone.update(since)
    orphans = [job.id for job in running if now - since.get(job.worker, now + 1) >= worker.sure_s]
    if not orphans:
        return []
    with home.catalog.write("job") as connection:
        return [job for job in orphans if jobs.fail(connection, job, ORPHANED)]
