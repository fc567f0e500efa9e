"""Jobs in the catalog: what every process of a service can see and cancel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from trustvlm.catalog.store.side_models import JobRow

ENDED = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class JobRecord:
    """A job's row."""

    id: str
    kind: str
    space: str
    owner: str
    worker: str
    state: str
    phase: str
    done: int
    total: int | None
    cancel_asked: bool
    content: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    changed_at: datetime


_COLUMNS = [getattr(JobRow, name) for name in JobRecord.__dataclass_fields__]


def create(connection: Connection, record: JobRecord) -> None:
    """Store a new job."""
    connection.execute(insert(JobRow).values(**vars(record)))


def find(connection: Connection, job_id: str) -> JobRecord | None:
    """The job of this id."""
    row = connection.execute(select(*_COLUMNS).where(JobRow.id == job_id)).first()
    return None if row is None else JobRecord(*row)


def list_rows(connection: Connection, space: str | None, limit: int) -> list[JobRecord]:
    """The newest jobs, of one space or all."""
    query = select(*_COLUMNS).order_by(JobRow.created_at.desc(), JobRow.id).limit(limit)
    if space is not None:
        query = query.where(JobRow.space == space)
    return [JobRecord(*row) for row in connection.execute(query)]


def running(connection: Connection) -> list[JobRecord]:
    """Jobs that a worker does, or did when it died."""
    return [
        JobRecord(*row)
        for row in connection.execute(
            select(*_COLUMNS).where(JobRow.state.in_(("queued", "running")))
        )
    ]


def progress(connection: Connection, job_id: str, changes: Mapping[str, Any]) -> bool:
    """Store changes of a job that has not ended; whether it shall go on."""
    one = update(JobRow).where(JobRow.id == job_id, JobRow.state.not_in(ENDED))
    going = connection.execute(one.values(**changes, changed_at=datetime.now(UTC))).rowcount
    return bool(going) and not connection.scalar(
        select(JobRow.cancel_asked).where(JobRow.id == job_id)
    )


def fail(connection: Connection, job_id: str, message: str) -> bool:
    """Store that a job that has not ended failed, and why; whether this ended it."""
    error = {"kind": "Unavailable", "message": message}
    one = update(JobRow).where(JobRow.id == job_id, JobRow.state.in_(("queued", "running")))
    values = {"state": "failed", "error": error, "changed_at": datetime.now(UTC)}
    return bool(connection.execute(one.values(**values)).rowcount)


def ask_cancel(connection: Connection, job_id: str) -> None:
    """Ask a job to stop. A job that has not begun never begins; a job that has ended stays
    unchanged."""
    now = datetime.now(UTC)
    waiting = update(JobRow).where(JobRow.id == job_id, JobRow.state == "queued")
    connection.execute(waiting.values(state="cancelled", cancel_asked=True, changed_at=now))
    going = update(JobRow).where(JobRow.id == job_id, JobRow.state.not_in(ENDED))
    connection.execute(going.values(cancel_asked=True, changed_at=now))


def forget_older(connection: Connection, than: datetime) -> int:
    """Delete ended jobs that last changed before `than`; how many."""
    old = delete(JobRow).where(JobRow.state.in_((*ENDED, "interrupted")), JobRow.changed_at < than)
    return connection.execute(old).rowcount
