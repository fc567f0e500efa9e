"""Jobs of the service: waiting for them, and what they end with."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from trustvlm.client.transport import Body, Wire, error_of
from trustvlm.errors import Conflict, Unavailable
from trustvlm.types.answers import Job

_FIRST_S, _LONGEST_S = 0.02, 1.0
_DEATHS = 3

Progress = Callable[[Job], None]


def find_job(wire: Wire, job_id: str) -> Job:
    """See :meth:`Client.get_job`."""
    return wire.get(Job, "jobs", job_id)


def wait_for(wire: Wire, job_id: str, timeout: float | None, progress: Progress | None) -> Job:
    """See :meth:`Client.wait_job`."""
    end = None if timeout is None else time.monotonic() + timeout
    pause, before = _FIRST_S, None
    while True:
        job = find_job(wire, job_id)
        now = (job.state, job.phase, job.done, job.total)
        if progress is not None and now != before:
            progress(job)
        before = now
        if job.ended:
            return job
        if end is not None and time.monotonic() + pause > end:
            raise Unavailable(
                f"job {job_id} is still {job.state} after {timeout:g} s ({job.phase}, "
                f"{job.done} done)"
            )
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_S)


def finished(
    wire: Wire,
    path: str,
    query: list[tuple[str, Any]],
    body: Body | None,
    progress: Progress | None,
) -> Mapping[str, Any]:
    """The result of a job that this request begins; where its process dies, it is begun again.
    Raises TrustVLMError: what it failed with. Conflict: it was cancelled."""
    for deaths in range(_DEATHS + 1):
        job_id = wire.ask("POST", path, query=query, body=body, write=True)["id"]
        try:
            job = wait_for(wire, job_id, None, progress)
        except KeyboardInterrupt:  # nobody waits for it any more
            wire.find(Job, "jobs", job_id, "cancel")
            raise
        if job.state == "done":
            return job.result or {}
        if job.state == "cancelled":
            raise Conflict(f"job {job_id} was cancelled")
        error = job.error or {"kind": "Unavailable", "message": f"job {job_id} is {job.state}"}
        if error["kind"] != "Unavailable" or deaths == _DEATHS:
            raise error_of(error["kind"], error["message"])
    raise AssertionError("unreachable")
