"""Rows of a space and their counterparts in the space that is being made beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows import originals
from trustvlm.catalog.rows.calibrations import OBSERVED
from trustvlm.catalog.rows.observations import newest_id
from trustvlm.catalog.store.bulk import delete_among, rows_among, slices, update_among
from trustvlm.catalog.store.models import CalibrationRow, Label, Observation, Support, Thumbnail
from trustvlm.catalog.store.side_models import ReembedRow
from trustvlm.catalog.store.vectors import checksum, verified
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord


def changed_groups(
    connection: Connection, job: ReembedRecord, *, incomplete: bool
) -> list[tuple[int, list[int]]]:
    """(number of support images, label ids) of each live label with its aliases where one of them
    changed since the last pass; with `incomplete`, also where something has no counterpart."""
    label = aliased(Label)
    live = (label.space_id == job.space_id, label.removed_revision.is_(None))
    changed = label.revision > job.synced
    if incomplete:
        unmade = select(Support.label_id).where(
            *_live(Support, job), ~_has_counterpart(job, "support", Support.id)
        )
        changed = or_(changed, ~_has_counterpart(job, "label", label.id), label.id.in_(unmade))
    canonical = select(func.coalesce(label.alias_of, label.id)).where(*live, changed)
    query = select(Label.id, Label.alias_of, Label.support_count).where(
        *_live(Label, job), or_(Label.id.in_(canonical), Label.alias_of.in_(canonical))
    )
    groups: dict[int, tuple[int, list[int]]] = {}
    for row in connection.execute(query.order_by(Label.alias_of.is_not(None), Label.id)):
        count, ids = groups.get(row.alias_of or row.id, (row.support_count, []))
        groups[row.alias_of or row.id] = count, [*ids, row.id]
    return list(groups.values())


def removed_labels(connection: Connection, job: ReembedRecord) -> list[int]:
    """Ids of the labels that have a counterpart and are no live labels of the space any more."""
    live = select(Label.id).where(
        Label.id == ReembedRow.source_id, Label.removed_revision.is_(None)
    )
    query = select(ReembedRow.source_id).where(*_of(job, "label"), ~live.exists())
    return list(connection.scalars(query))


def missing_supports(
    connection: Connection, job: ReembedRecord
) -> list[tuple[int, str, str | None]]:
    """(id, label, source) of the live support images without counterpart, in order of id."""
    query = select(Support.id, Label.name, Support.source).join(Label, Label.id == Support.label_id)
    rows = query.where(*_live(Support, job), ~_has_counterpart(job, "support", Support.id))
    return [(row.id, row.name, row.source) for row in connection.execute(rows.order_by(Support.id))]


def missing_labels(connection: Connection, job: ReembedRecord) -> list[str]:
    """Names of the live labels without counterpart, in order of id."""
    query = select(Label.name).where(*_live(Label, job), ~_has_counterpart(job, "label", Label.id))
    return list(connection.scalars(query.order_by(Label.id)))


def counterparts(
    connection: Connection, job: ReembedRecord, kind: str, ids: Sequence[int]
) -> dict[int, int]:
    """Row id → id of its counterpart, of those rows that have one; see :func:`record`."""
    query = select(ReembedRow.source_id, ReembedRow.staged_id).where(*_of(job, kind))
    rows = rows_among(connection, query, ReembedRow.source_id, ids)
    return {row.source_id: row.staged_id for row in rows}


def record(
    connection: Connection, job: ReembedRecord, kind: str, pairs: Iterable[tuple[int, int]]
) -> None:
    """Store (row id, id of its counterpart) pairs, or, of the kind "text", (label id, checksum of
    its text vector) pairs."""
    rows = [
        {"reembed_id": job.id, "kind": kind, "source_id": source, "staged_id": staged}
        for source, staged in pairs
    ]
    if rows:
        connection.execute(insert(ReembedRow), rows)


def drop(connection: Connection, job: ReembedRecord, label_ids: Sequence[int]) -> None:
    """Delete the counterparts of labels, with their support images."""
    delete_among(connection, ReembedRow.source_id, label_ids, *_of(job, "text"))
    staged = list(counterparts(connection, job, "label", label_ids).values())
    for ids in slices(staged):
        owned = connection.scalars(select(Support.id).where(Support.label_id.in_(ids))).all()
        for some in slices(owned):
            delete_among(connection, Thumbnail.support_id, some)
            originals.release(connection, some)
            delete_among(connection, Support.id, some)
            delete_among(connection, ReembedRow.staged_id, some, *_of(job, "support"))
        update_among(connection, Label.alias_of, ids, {"alias_of": None})
        delete_among(connection, Label.id, ids)
        delete_among(connection, ReembedRow.staged_id, ids, *_of(job, "label"))


def observations_left(
    connection: Connection, job: ReembedRecord, after: int, limit: int
) -> Sequence[Row[Any]]:
    """Up to `limit` observations with ids above `after` that have no counterpart although their
    true label has one, in order of id.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    staged = aliased(Observation)
    copied = select(staged.id).where(staged.space_id == job.other_id, _same_image(staged))
    query = select(*Observation.__table__.columns).where(
        Observation.space_id == job.space_id,
        Observation.id > after,
        _has_true_label(job, Observation.truth_id),
        ~copied.exists(),
    )
    rows = connection.execute(query.order_by(Observation.id).limit(limit)).all()
    return verified("observation", rows)


def copy_observations(
    connection: Connection,
    job: ReembedRecord,
    rows: Iterable[Row[Any]],
    embeddings: Mapping[int, tuple[bytes, bytes | None]],
) -> None:
    """Copy observations to the new space with their new (classifier, verifier) embeddings, by id.
    Verdicts of the old encoders are not copied; :func:`renew_observations` sets the labels."""
    fresh = []
    for row in rows:
        if row.id not in embeddings:
            continue
        classifier, verifier = embeddings[row.id]
        fresh.append(
            {name: getattr(row, name) for name in _COPIED}
            | {"space_id": job.other_id, "checksum": checksum(classifier, verifier)}
            | {"classifier_embedding": classifier, "verifier_embedding": verifier}
        )
    if fresh:
        connection.execute(insert(Observation), fresh)


_COPIED = ("content_hash", "origin", "sampling", "truth", "source", "created_at", "thumbnail")


def renew_observations(connection: Connection, job: ReembedRecord) -> None:
    """Give the copied observations the truth that their sources have now, by the new labels; delete
    those whose source or true label is gone."""
    source = aliased(Observation)
    of_source = and_(source.space_id == job.space_id, _same_image(source))
    valid = select(source.id).where(of_source, _has_true_label(job, source.truth_id))
    copied = Observation.space_id == job.other_id
    connection.execute(delete(Observation).where(copied, ~valid.exists()))
    values: dict[str, Any] = {"origin": source.origin, "truth": source.truth}
    columns = (("label", "truth_id"), ("label", "claimed_id"), ("support", "support_id"))
    for kind, name in columns:
        staged_id = select(ReembedRow.staged_id).where(
            *_of(job, kind), ReembedRow.source_id == getattr(source, name)
        )
        values[name] = staged_id.correlate(source).scalar_subquery()
    changed = [getattr(Observation, name).is_distinct_from(now) for name, now in values.items()]
    renewed = update(Observation).where(copied, of_source, or_(*changed)).values(values)
    connection.execute(renewed)


def observation_count(connection: Connection, space_id: int) -> int:
    """How many observations a space has."""
    query = select(func.count()).where(Observation.space_id == space_id)
    return connection.execute(query).scalar_one()


def copy_marks(connection: Connection, job: ReembedRecord) -> None:
    """Mark the counterparts of support images that are marked as kept or proposed."""
    source = aliased(Support)
    for name in ("kept", "proposed"):
        marked = (
            select(ReembedRow.staged_id)
            .join(source, source.id == ReembedRow.source_id)
            .where(*_of(job, "support"), getattr(source, name).is_not(None))
        )
        of_marked = update(Support).where(Support.space_id == job.other_id, Support.id.in_(marked))
        connection.execute(of_marked.values({name: True}))


def copy_calibrations(connection: Connection, job: ReembedRecord) -> int:
    """Copy the calibrations, oldest first, with the identities of the encoders they were made with,
    so that they are stale; how many."""
    of_space = (CalibrationRow.space_id == job.space_id, CalibrationRow.removed_at.is_(None))
    columns = [column for column in CalibrationRow.__table__.columns if column.name != "id"]
    rows = connection.execute(select(*columns).where(*of_space).order_by(CalibrationRow.id)).all()
    for row in rows:
        predicted = row.content["predicted"]
        staged = counterparts(connection, job, "label", sorted(set(predicted)))
        kept = [staged[label_id] for label_id in predicted if label_id in staged]
        renewed: dict[str, Any] = {"predicted": kept}
        if OBSERVED in row.content:  # the images that it had are those that were copied
            renewed[OBSERVED] = newest_id(connection, job.other_id)
        values = {"space_id": job.other_id, "content": row.content | renewed}
        connection.execute(insert(CalibrationRow).values(**(row._asdict() | values)))
    return len(rows)


def _live(model: type[Label] | type[Support], job: ReembedRecord) -> tuple[Any, ...]:
    return model.space_id == job.space_id, model.removed_revision.is_(None)


def _of(job: ReembedRecord, kind: str) -> tuple[ColumnElement[bool], ...]:
    return ReembedRow.reembed_id == job.id, ReembedRow.kind == kind


def _has_counterpart(job: ReembedRecord, kind: str, source_id: Any) -> ColumnElement[bool]:
    row = select(ReembedRow.staged_id).where(*_of(job, kind), ReembedRow.source_id == source_id)
    return row.exists()


def _has_true_label(job: ReembedRecord, truth_id: Any) -> ColumnElement[bool]:
    return or_(truth_id.is_(None), _has_counterpart(job, "label", truth_id))


def _same_image(other: Any) -> ColumnElement[bool]:
    return and_(
        other.content_hash == Observation.content_hash, other.sampling == Observation.sampling
    )
