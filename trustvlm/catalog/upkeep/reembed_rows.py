"""What a space that is re-embedded takes over from the old one: labels, support images,
observations, calibrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, Table, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows import originals
from trustvlm.catalog.store.models import (
    CalibrationRow,
    Label,
    Observation,
    ReembedRow,
    Support,
    Thumbnail,
)
from trustvlm.catalog.store.vectors import checksum, verify_checksums
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord

__all__ = [
    "OldLabel",
    "OldObservation",
    "OldSupport",
    "copy_calibrations",
    "delete_labels",
    "delete_supports",
    "observations_left",
    "old_labels",
    "put_observations",
    "renew_truth",
    "staged_labels",
    "thumbnails",
]

_IN_CHUNK = 500
_OBSERVATIONS = cast(Table, Observation.__table__)


@dataclass(frozen=True, eq=False)
class OldSupport:
    """A live support image of the space as it is."""

    id: int
    content_hash: bytes
    source: str | None
    embedding: bytes
    classifier_embedding: bytes | None


@dataclass(frozen=True, eq=False)
class OldLabel:
    """A live label with its live support images."""

    id: int
    name: str
    prompt: str | None
    text_source: str
    text_prototype: bytes
    alias_of: int | None
    supports: list[OldSupport] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class OldObservation:
    """An image whose true label is known, without a counterpart yet."""

    id: int
    content_hash: bytes
    truth_id: int | None
    classifier_embedding: bytes
    verifier_embedding: bytes | None


_LABEL = (
    Label.id,
    Label.name,
    Label.prompt,
    Label.text_source,
    Label.text_prototype,
    Label.alias_of,
)
_SUPPORT = (
    Support.id,
    Support.content_hash,
    Support.source,
    Support.embedding,
    Support.classifier_embedding,
)


def old_labels(connection: Connection, ids: Sequence[int]) -> list[OldLabel]:
    """The live ones of these labels with their live support images: labels before their aliases,
    else in order of id.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    found: dict[int, OldLabel] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        chunk = ids[start : start + _IN_CHUNK]
        alive = (Label.id.in_(chunk), Label.removed_revision.is_(None))
        rows = connection.execute(
            select(*_LABEL, Label.checksum, Label.prototype).where(*alive)
        ).all()
        verify_checksums(
            "label", [(row.id, row.checksum, (row.text_prototype, row.prototype)) for row in rows]
        )
        found.update({row.id: _label(row) for row in rows})
        own = (Support.label_id.in_(chunk), Support.removed_revision.is_(None))
        images = connection.execute(
            select(*_SUPPORT, Support.checksum, Support.label_id).where(*own)
        ).all()
        parts = [
            (row.id, row.checksum, (row.embedding, row.classifier_embedding)) for row in images
        ]
        verify_checksums("support image", parts)
        for row in images:
            if row.label_id in found:
                found[row.label_id].supports.append(_support(row))
    return sorted(found.values(), key=lambda label: (label.alias_of is not None, label.id))


def _label(row: Any) -> OldLabel:
    return OldLabel(row.id, row.name, row.prompt, row.text_source, row.text_prototype, row.alias_of)


def _support(row: Any) -> OldSupport:
    return OldSupport(row.id, row.content_hash, row.source, row.embedding, row.classifier_embedding)


def staged_labels(connection: Connection, ids: Sequence[int]) -> dict[int, OldLabel]:
    """Id → label of the space that is being made, without support images."""
    found: dict[int, OldLabel] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        rows = connection.execute(
            select(*_LABEL).where(Label.id.in_(ids[start : start + _IN_CHUNK]))
        )
        found.update({row.id: _label(row) for row in rows})
    return found


def thumbnails(connection: Connection, support_ids: Sequence[int]) -> dict[int, bytes]:
    """Id → JPEG of those that have one."""
    found: dict[int, bytes] = {}
    for start in range(0, len(support_ids), _IN_CHUNK):
        chunk = support_ids[start : start + _IN_CHUNK]
        query = select(Thumbnail.support_id, Thumbnail.jpeg).where(Thumbnail.support_id.in_(chunk))
        found.update({row.support_id: row.jpeg for row in connection.execute(query)})
    return found


def delete_supports(connection: Connection, ids: Sequence[int]) -> None:
    """Delete support images of a space that nobody has seen yet."""
    for start in range(0, len(ids), _IN_CHUNK):
        chunk = ids[start : start + _IN_CHUNK]
        connection.execute(delete(Thumbnail).where(Thumbnail.support_id.in_(chunk)))
        originals.release(connection, chunk)
        connection.execute(delete(Support).where(Support.id.in_(chunk)))


def delete_labels(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Delete labels of a space that nobody has seen yet, with their support images; the ids of
    these."""
    gone: list[int] = []
    for start in range(0, len(ids), _IN_CHUNK):
        chunk = ids[start : start + _IN_CHUNK]
        supports = list(connection.scalars(select(Support.id).where(Support.label_id.in_(chunk))))
        delete_supports(connection, supports)
        connection.execute(update(Label).where(Label.alias_of.in_(chunk)).values(alias_of=None))
        connection.execute(delete(Label).where(Label.id.in_(chunk)))
        gone += supports
    return gone


def observations_left(connection: Connection, job: ReembedRecord) -> list[OldObservation]:
    """The observations of the space that have no counterpart, in order of time.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    there = aliased(Observation)
    same = (there.content_hash == Observation.content_hash, there.sampling == Observation.sampling)
    known = select(there.id).where(there.space_id == job.other_id, *same).exists()
    query = (
        select(Observation)
        .where(Observation.space_id == job.space_id, ~known)
        .order_by(Observation.id)
    )
    rows = connection.execute(query.with_only_columns(*Observation.__table__.columns)).all()
    parts = [
        (row.id, row.checksum, (row.classifier_embedding, row.verifier_embedding)) for row in rows
    ]
    verify_checksums("observation", parts)
    return [
        OldObservation(
            r.id, r.content_hash, r.truth_id, r.classifier_embedding, r.verifier_embedding
        )
        for r in rows
    ]


def put_observations(
    connection: Connection, job: ReembedRecord, embeddings: Mapping[int, tuple[bytes, bytes | None]]
) -> None:
    """Carry observations over: id → (classifier, verifier) embedding. Verdicts of the old encoders
    stay behind."""
    columns = (Observation.id, *(getattr(Observation, name) for name in (*_CARRIED, "created_at")))
    ids = list(embeddings)
    for start in range(0, len(ids), _IN_CHUNK):
        rows = connection.execute(
            select(*columns).where(Observation.id.in_(ids[start : start + _IN_CHUNK]))
        ).all()
        fresh = []
        for row in rows:
            classifier, verifier = embeddings[row.id]
            values = {name: value for name, value in row._asdict().items() if name != "id"}
            values |= {"space_id": job.other_id, "checksum": checksum(classifier, verifier)}
            fresh.append(
                values | {"classifier_embedding": classifier, "verifier_embedding": verifier}
            )
        if fresh:
            connection.execute(insert(Observation), fresh)


_CARRIED = ("content_hash", "origin", "sampling", "truth", "source")


def renew_truth(connection: Connection, job: ReembedRecord) -> tuple[int, int]:
    """Give the carried observations the truth that the old ones have now, in the new labels.

    Returns:
        (how many are carried, how many are left behind): left behind is what has no embedding of
        the new encoders, and what is of a label that has no counterpart.
    """
    new, label, support = aliased(Observation), aliased(ReembedRow), aliased(ReembedRow)
    image = and_(new.content_hash == Observation.content_hash, new.sampling == Observation.sampling)
    same = and_(new.space_id == job.other_id, image)
    of_label = and_(
        label.reembed_id == job.id, label.kind == "label", label.source_id == Observation.truth_id
    )
    of_support = and_(
        support.reembed_id == job.id,
        support.kind == "support",
        support.source_id == Observation.support_id,
    )
    pairs = ((new.truth_id, label.staged_id), (new.support_id, support.staged_id))
    pairs += tuple((getattr(new, name), getattr(Observation, name)) for name in ("origin", "truth"))
    lost = and_(Observation.truth_id.is_not(None), label.staged_id.is_(None))
    # Compared by SQLite: in the cut-over there is hardly anything left to do, and others wait.
    query = select(
        new.id, Observation.origin, Observation.truth, label.staged_id.label("truth_id"),
        support.staged_id.label("support_id"), lost.label("lost"),
    ).join(new, same).outerjoin(label, of_label).outerjoin(support, of_support)  # fmt: skip
    changed = or_(lost, *(mine.is_distinct_from(now) for mine, now in pairs))
    rows = connection.execute(query.where(Observation.space_id == job.space_id, changed)).all()
    if gone := [row.id for row in rows if row.lost]:
        connection.execute(
            delete(_OBSERVATIONS).where(_OBSERVATIONS.c.id == bindparam("gone")),
            [{"gone": i} for i in gone],
        )
    names = ("origin", "truth", "truth_id", "support_id")
    renewed = [
        {"which": row.id} | {name: getattr(row, name) for name in names}
        for row in rows
        if not row.lost
    ]
    if renewed:
        values: dict[str, Any] = {name: bindparam(name) for name in names}
        connection.execute(
            update(_OBSERVATIONS).where(_OBSERVATIONS.c.id == bindparam("which")).values(values),
            renewed,
        )
    old, carried = (
        connection.execute(
            select(func.count()).where(Observation.space_id == space_id)
        ).scalar_one()
        for space_id in (job.space_id, job.other_id)
    )
    return carried, old - carried


def copy_calibrations(
    connection: Connection, job: ReembedRecord, revise: Callable[[dict[str, Any]], dict[str, Any]]
) -> int:
    """Copy the calibrations, oldest first, with the identities of the encoders they were made with;
    how many.

    Args:
        revise: gives the content as the new space is to have it.
    """
    there = (CalibrationRow.space_id == job.space_id, CalibrationRow.removed_at.is_(None))
    rows = connection.execute(
        select(*CalibrationRow.__table__.columns).where(*there).order_by(CalibrationRow.id)
    ).all()
    for row in rows:
        values = row._asdict() | {"space_id": job.other_id, "content": revise(row.content)}
        del values["id"]
        connection.execute(insert(CalibrationRow).values(**values))
    return len(rows)
