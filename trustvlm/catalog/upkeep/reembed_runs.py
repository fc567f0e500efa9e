"""Spaces that are re-embedded: the space beside the space, and which of its rows stands for which.

The space that is being made is a space of its own, named `NAME/reembed`, which no user can call a
space. When it is whole the two change names in one transaction; the old one is kept as
`NAME/before` until it is discarded or put back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, or_, select, update

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import BEFORE, STAGED, SpaceRecord
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import Change, Label, Reembed, ReembedRow, Space, Support

__all__ = [
    "ReembedRecord",
    "counts",
    "find",
    "forget",
    "forget_some",
    "gone_labels",
    "incomplete",
    "map_rows",
    "mapped",
    "missing_labels",
    "missing_supports",
    "put_back",
    "set_synced",
    "stage",
    "supports_of",
    "swap",
    "touched",
    "unmap",
    "unmap_staged",
]

_IN_CHUNK = 500
_LONG_AGO = timedelta(days=36_500)


@dataclass(frozen=True)
class ReembedRecord:
    """A space being re-embedded ("staged"), or with its old embeddings kept ("kept")."""

    id: int
    space_id: int
    other_id: int
    state: str
    synced: int
    created_at: datetime


_RECORD = [getattr(Reembed, name) for name in ReembedRecord.__dataclass_fields__]


def find(connection: Connection, space_id: int) -> ReembedRecord | None:
    """What is under way or kept beside the space that has the name, if anything."""
    row = connection.execute(select(*_RECORD).where(Reembed.space_id == space_id)).first()
    return None if row is None else ReembedRecord(*row)


def stage(connection: Connection, source: SpaceRecord, values: dict[str, Any]) -> ReembedRecord:
    """Begin: an empty space beside `source`."""
    other_id = spaces.create(connection, values | {"name": source.name + STAGED})
    row = {
        "space_id": source.id,
        "other_id": other_id,
        "state": "staged",
        "synced": 0,
        "created_at": datetime.now(UTC),
    }
    return ReembedRecord(
        *connection.execute(insert(Reembed).values(**row).returning(*_RECORD)).one()
    )


def touched(connection: Connection, space_id: int, since: int) -> list[int]:
    """Ids of the labels whose row, or one of whose support images, changed after revision `since`,
    dead ones too."""
    found = set(
        connection.scalars(
            select(Label.id).where(Label.space_id == space_id, Label.revision > since)
        )
    )
    changed = (Support.space_id == space_id, Support.revision > since)
    found.update(connection.scalars(select(Support.label_id).where(*changed).distinct()))
    purged = (Change.space_id == space_id, Change.revision > since)
    found.update(connection.scalars(select(Change.label_id).where(*purged).distinct()))
    return sorted(found)


def incomplete(connection: Connection, job: ReembedRecord) -> list[int]:
    """Ids of the live labels of the space that have no counterpart, or a support image without
    one."""
    found = set(
        connection.scalars(
            select(Label.id).where(*_live_labels(job), ~_mapped(job, "label", Label.id))
        )
    )
    unmapped = (
        select(Support.label_id)
        .where(*_live_supports(job), ~_mapped(job, "support", Support.id))
        .distinct()
    )
    found.update(connection.scalars(unmapped))
    return sorted(found)


def gone_labels(connection: Connection, job: ReembedRecord) -> list[tuple[int, int]]:
    """(id, id of its counterpart) of labels that have one and are not in the space any more."""
    live = (
        select(Label.id)
        .where(Label.id == ReembedRow.source_id, Label.removed_revision.is_(None))
        .exists()
    )
    query = select(ReembedRow.source_id, ReembedRow.staged_id)
    rows = connection.execute(
        query.where(ReembedRow.reembed_id == job.id, ReembedRow.kind == "label", ~live)
    )
    return [(row.source_id, row.staged_id) for row in rows]


def missing_supports(
    connection: Connection, job: ReembedRecord
) -> list[tuple[int, str, str | None]]:
    """(id, label, source) of the live support images of the space that have no counterpart, in
    order of id."""
    query = select(Support.id, Label.name, Support.source).join(Label, Label.id == Support.label_id)
    rows = connection.execute(
        query.where(*_live_supports(job), ~_mapped(job, "support", Support.id)).order_by(Support.id)
    )
    return [(row.id, row.name, row.source) for row in rows]


def missing_labels(connection: Connection, job: ReembedRecord) -> list[str]:
    """Names of the live labels of the space that have no counterpart."""
    query = (
        select(Label.name)
        .where(*_live_labels(job), ~_mapped(job, "label", Label.id))
        .order_by(Label.id)
    )
    return list(connection.scalars(query))


def mapped(
    connection: Connection, job_id: int, kind: str, ids: Sequence[int] | None = None
) -> dict[int, int]:
    """Id of a row of the space → id of its counterpart, of these rows or all."""
    query = select(ReembedRow.source_id, ReembedRow.staged_id)
    query = query.where(ReembedRow.reembed_id == job_id, ReembedRow.kind == kind)
    if ids is None:
        return {row.source_id: row.staged_id for row in connection.execute(query)}
    found: dict[int, int] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        rows = connection.execute(
            query.where(ReembedRow.source_id.in_(ids[start : start + _IN_CHUNK]))
        )
        found.update({row.source_id: row.staged_id for row in rows})
    return found


def map_rows(
    connection: Connection, job_id: int, kind: str, pairs: Sequence[tuple[int, int]]
) -> None:
    """Note which row stands for which."""
    rows = [
        {"reembed_id": job_id, "kind": kind, "source_id": source, "staged_id": staged}
        for source, staged in pairs
    ]
    if rows:
        connection.execute(insert(ReembedRow), rows)


def unmap(connection: Connection, job_id: int, kind: str, source_ids: Sequence[int]) -> None:
    """Forget which rows stand for these."""
    of_kind = (ReembedRow.reembed_id == job_id, ReembedRow.kind == kind)
    for start in range(0, len(source_ids), _IN_CHUNK):
        chunk = source_ids[start : start + _IN_CHUNK]
        connection.execute(delete(ReembedRow).where(*of_kind, ReembedRow.source_id.in_(chunk)))


def unmap_staged(connection: Connection, job_id: int, kind: str, staged_ids: Sequence[int]) -> None:
    """Forget what these rows of the new space stand for."""
    of_kind = (ReembedRow.reembed_id == job_id, ReembedRow.kind == kind)
    for start in range(0, len(staged_ids), _IN_CHUNK):
        chunk = staged_ids[start : start + _IN_CHUNK]
        connection.execute(delete(ReembedRow).where(*of_kind, ReembedRow.staged_id.in_(chunk)))


def supports_of(
    connection: Connection, job: ReembedRecord, staged_label_id: int
) -> list[tuple[int, int]]:
    """(id, id of the counterpart) of the support images whose counterparts this label of the new
    space has."""
    query = select(ReembedRow.source_id, ReembedRow.staged_id).join(
        Support, Support.id == ReembedRow.staged_id
    )
    of_label = (
        Support.label_id == staged_label_id,
        ReembedRow.reembed_id == job.id,
        ReembedRow.kind == "support",
    )
    return [(row.source_id, row.staged_id) for row in connection.execute(query.where(*of_label))]


def set_synced(connection: Connection, job_id: int, revision: int) -> None:
    """Everything that could be made up to this revision of the space has been made."""
    connection.execute(update(Reembed).where(Reembed.id == job_id).values(synced=revision))


def swap(connection: Connection, job: ReembedRecord, name: str, revision: int) -> None:
    """The cut-over: the new space takes the name, at a revision above the old one's; the old one is
    kept beside it."""
    _rename(connection, job.space_id, name + BEFORE)
    _rename(connection, job.other_id, name)
    connection.execute(update(Space).where(Space.id == job.other_id).values(revision=revision))
    values = {"space_id": job.other_id, "other_id": job.space_id, "state": "kept"}
    connection.execute(update(Reembed).where(Reembed.id == job.id).values(**values))


def put_back(connection: Connection, job: ReembedRecord, name: str, revision: int) -> None:
    """Undo a cut-over: the old space has the name again, at a revision above the new one's, which
    is removed."""
    _rename(connection, job.space_id, name + STAGED)
    _rename(connection, job.other_id, name)
    connection.execute(update(Space).where(Space.id == job.other_id).values(revision=revision))
    forget(connection, job, clock.stamp(connection), job.space_id)
    _rename(connection, job.space_id, name)


def forget(
    connection: Connection,
    job: ReembedRecord,
    removed_at: datetime | None = None,
    dropped: int | None = None,
) -> None:
    """Remove the space beside the space (or `dropped` of the two), for the next purge unless
    `removed_at` gives it time.

    Which rows stand for which is forgotten with the purge; until then nothing asks.
    """
    gone = clock.now(connection) - _LONG_AGO if removed_at is None else removed_at
    dropped = job.other_id if dropped is None else dropped
    connection.execute(update(Space).where(Space.id == dropped).values(removed_at=gone))
    values = {
        "space_id": -job.id,
        "other_id": dropped,
        "state": "gone",
    }  # what no space has as its id
    connection.execute(update(Reembed).where(Reembed.id == job.id).values(**values))


def forget_some(connection: Connection, space_id: int, limit: int) -> int:
    """Delete up to `limit` of the rows that say what stands for what in a space that is being
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
    """How many labels and support images have a counterpart."""
    query = (
        select(ReembedRow.kind, func.count())
        .where(ReembedRow.reembed_id == job.id)
        .group_by(ReembedRow.kind)
    )
    found: dict[str, int] = {row[0]: row[1] for row in connection.execute(query)}
    return found.get("label", 0), found.get("support", 0)


def _rename(connection: Connection, space_id: int, name: str) -> None:
    connection.execute(update(Space).where(Space.id == space_id).values(name=name))


def _live_labels(job: ReembedRecord) -> tuple[ColumnElement[bool], ...]:
    return Label.space_id == job.space_id, Label.removed_revision.is_(None)


def _live_supports(job: ReembedRecord) -> tuple[ColumnElement[bool], ...]:
    return Support.space_id == job.space_id, Support.removed_revision.is_(None)


def _mapped(job: ReembedRecord, kind: str, source_id: Any) -> ColumnElement[bool]:
    row = select(ReembedRow.staged_id).where(
        ReembedRow.reembed_id == job.id, ReembedRow.kind == kind, ReembedRow.source_id == source_id
    )
    return row.exists()
