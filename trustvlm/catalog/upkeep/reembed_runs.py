"""Re-embedding runs: the space beside a space, and the change of names that replaces one by the
other.

The space that is being made is a space of its own, named `NAME/reembed`, which no user can call a
space. When it is complete the two change names in one transaction; the old one is kept as
`NAME/before` until it is discarded or put back.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.history import revisions as history
from trustvlm.catalog.rows.spaces import BEFORE, STAGED, SpaceRecord
from trustvlm.catalog.rows.verdict_log import rows as verdict_log
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.side_models import Reembed, ReembedRow

_LONG_AGO = timedelta(days=36_500)


@dataclass(frozen=True)
class ReembedRecord:
    """A space being re-embedded ("staged"), or with its old embeddings kept ("kept").

    Attributes:
        space_id: the space that has the name. other_id: the space beside it.
        synced: the revision of the space up to which its changes are in the other one.
    """

    id: int
    space_id: int
    other_id: int
    state: str
    synced: int


_RECORD = [getattr(Reembed, name) for name in ReembedRecord.__dataclass_fields__]


def find(connection: Connection, space_id: int) -> ReembedRecord | None:
    """The run of the space that has the name; None where it has none."""
    row = connection.execute(select(*_RECORD).where(Reembed.space_id == space_id)).first()
    return None if row is None else ReembedRecord(*row)


def begin(connection: Connection, source: SpaceRecord, values: dict[str, Any]) -> ReembedRecord:
    """Make an empty space beside `source`."""
    row = {
        "space_id": source.id,
        "other_id": spaces.create(connection, values | {"name": source.name + STAGED}),
        "state": "staged",
        "synced": 0,
        "created_at": datetime.now(UTC),
    }
    return ReembedRecord(
        *connection.execute(insert(Reembed).values(**row).returning(*_RECORD)).one()
    )


def set_synced(connection: Connection, job: ReembedRecord, revision: int) -> None:
    """Record that the changes of the space up to this revision are in the other one."""
    connection.execute(update(Reembed).where(Reembed.id == job.id).values(synced=revision))


def swap(connection: Connection, job: ReembedRecord, name: str, revision: int) -> None:
    """Give the new space the name, at a revision above the old one's, and the history; keep the old
    one beside it."""
    _follow(connection, job.space_id, job.other_id, revision)
    spaces.set_columns(connection, job.space_id, name=name + BEFORE)
    spaces.set_columns(connection, job.other_id, name=name)
    values = {"space_id": job.other_id, "other_id": job.space_id, "state": "kept"}
    connection.execute(update(Reembed).where(Reembed.id == job.id).values(**values))


def put_back(connection: Connection, job: ReembedRecord, name: str, revision: int) -> None:
    """Undo :func:`swap`: give the old space the name, at a revision above the new one's, and remove
    the new one."""
    _follow(connection, job.space_id, job.other_id, revision)
    spaces.set_columns(connection, job.space_id, name=name + STAGED)
    spaces.set_columns(connection, job.other_id, name=name)
    forget(connection, job, clock.stamp(connection), job.space_id)
    spaces.set_columns(connection, job.space_id, name=name)


def forget(
    connection: Connection,
    job: ReembedRecord,
    removed_at: datetime | None = None,
    removed_id: int | None = None,
) -> None:
    """End the run: remove the space beside the space (or `removed_id` of the two), for the next
    purge unless `removed_at` gives it time.

    The rows that say which row stands for which stay until that purge.
    """
    removed_id = job.other_id if removed_id is None else removed_id
    if removed_at is None:
        removed_at = clock.now(connection) - _LONG_AGO
    spaces.set_columns(connection, removed_id, removed_at=removed_at)
    # No space has a negative id.
    values = {"space_id": -job.id, "other_id": removed_id, "state": "gone"}
    connection.execute(update(Reembed).where(Reembed.id == job.id).values(**values))


def forget_some(connection: Connection, space_id: int, limit: int) -> int:
    """Delete up to `limit` of the rows that say which row stands for which in a space that is being
    purged; how many."""
    jobs = connection.scalars(
        select(Reembed.id).where(or_(Reembed.space_id == space_id, Reembed.other_id == space_id))
    ).all()
    for job_id in jobs:
        ids = select(ReembedRow.source_id).where(ReembedRow.reembed_id == job_id).limit(limit)
        some = (ReembedRow.reembed_id == job_id, ReembedRow.source_id.in_(ids))
        if count := connection.execute(delete(ReembedRow).where(*some)).rowcount:
            return count
        connection.execute(delete(Reembed).where(Reembed.id == job_id))
    return len(jobs)


def counts(connection: Connection, job: ReembedRecord) -> tuple[int, int]:
    """How many labels and how many support images have a counterpart."""
    query = select(ReembedRow.kind, func.count()).where(ReembedRow.reembed_id == job.id)
    by_kind = {row[0]: row[1] for row in connection.execute(query.group_by(ReembedRow.kind))}
    return by_kind.get("label", 0), by_kind.get("support", 0)


def _follow(connection: Connection, old_id: int, new_id: int, revision: int) -> None:
    """Hand the history of a space to the one that replaces it at `revision`, in place of that of
    its staging, and the verdict log, whose rows go on naming the labels of their time."""
    history.move(connection, old_id, new_id)
    spaces.set_columns(connection, new_id, verdict_log=spaces.verdict_log(connection, old_id))
    verdict_log.move(connection, old_id, new_id)
    spaces.advance_to(connection, new_id, revision)
