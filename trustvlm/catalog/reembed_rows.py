"""What a space that is embedded anew takes over from the old one: labels, support images, observations, calibrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.orm import aliased

from trustvlm.catalog.models import CalibrationRow, Label, Observation, Original, Support, Thumbnail
from trustvlm.catalog.reembeds import ReembedRecord
from trustvlm.catalog.vectors import checksum, verify_checksums

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


_LABEL = (Label.id, Label.name, Label.prompt, Label.text_source, Label.text_prototype, Label.alias_of)
_SUPPORT = (Support.id, Support.content_hash, Support.source, Support.embedding, Support.classifier_embedding)


def old_labels(connection: Connection, ids: Sequence[int]) -> list[OldLabel]:
    """The live ones of these labels with their live support images: labels before their aliases, else in order of id.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    found: dict[int, OldLabel] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        chunk = ids[start : start + _IN_CHUNK]
        alive = (Label.id.in_(chunk), Label.removed_revision.is_(None))
        rows = connection.execute(select(*_LABEL, Label.checksum, Label.prototype).where(*alive)).all()
        verify_checksums("label", [(row.id, row.checksum, (row.text_prototype, row.prototype)) for row in rows])
        found.update({row.id: _label(row) for row in rows})
        own = (Support.label_id.in_(chunk), Support.removed_revision.is_(None))
        images = connection.execute(select(*_SUPPORT, Support.checksum, Support.label_id).where(*own)).all()
        parts = [(row.id, row.checksum, (row.embedding, row.classifier_embedding)) for row in images]
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
        rows = connection.execute(select(*_LABEL).where(Label.id.in_(ids[start : start + _IN_CHUNK])))
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
        connection.execute(update(Original).where(Original.support_id.in_(chunk)).values(support_id=None))
        connection.execute(delete(Support).where(Support.id.in_(chunk)))


def delete_labels(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Delete labels of a space that nobody has seen yet, with their support images; the ids of these."""
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
    known = select(there.id).where(there.space_id == job.other_id, there.content_hash == Observation.content_hash).exists()
    query = select(Observation).where(Observation.space_id == job.space_id, ~known).order_by(Observation.id)
    rows = connection.execute(query.with_only_columns(*Observation.__table__.columns)).all()
    parts = [(row.id, row.checksum, (row.classifier_embedding, row.verifier_embedding)) for row in rows]
    verify_checksums("observation", parts)
    return [OldObservation(r.id, r.content_hash, r.truth_id, r.classifier_embedding, r.verifier_embedding) for r in rows]


def put_observations(connection: Connection, job: ReembedRecord, embeddings: Mapping[int, tuple[bytes, bytes | None]]) -> None:
    """Carry observations over: id → (classifier, verifier) embedding. Verdicts of the old encoders stay behind."""
    columns = ("content_hash", "origin", "sampling", "truth", "source", "created_at")
    chosen = [getattr(Observation, name) for name in columns]
    for observation_id, (classifier, verifier) in embeddings.items():
        row = connection.execute(select(*chosen).where(Observation.id == observation_id)).first()
        if row is None:
            continue
        values = row._asdict() | {
            "space_id": job.other_id, "classifier_embedding": classifier, "verifier_embedding": verifier,
            "checksum": checksum(classifier, verifier),
        }  # fmt: skip
        connection.execute(insert(Observation).values(**values))


def renew_truth(
    connection: Connection, job: ReembedRecord, labels: Mapping[int, int], supports: Mapping[int, int]
) -> tuple[int, int]:
    """Give the carried observations the truth that the old ones have now, in the new labels.

    Returns:
        (how many are carried, how many are left behind): left behind is what has no embedding of the new encoders, and what
        is of a label that has no counterpart.
    """
    columns = ("content_hash", "origin", "sampling", "truth_id", "truth", "support_id")
    chosen = [getattr(Observation, name) for name in columns]
    old = connection.execute(select(*chosen).where(Observation.space_id == job.space_id)).all()
    there = connection.execute(select(Observation.id, *chosen).where(Observation.space_id == job.other_id)).all()
    new = {row.content_hash: row for row in there}
    carried = 0
    for row in old:
        if (mine := new.get(row.content_hash)) is None:
            continue
        if row.truth_id is not None and row.truth_id not in labels:
            connection.execute(delete(Observation).where(Observation.id == mine.id))
            continue
        carried += 1
        values: dict[str, Any] = {"origin": row.origin, "sampling": row.sampling, "truth": row.truth}
        values["truth_id"] = None if row.truth_id is None else labels[row.truth_id]
        values["support_id"] = None if row.support_id is None else supports.get(row.support_id)
        if any(getattr(mine, name) != value for name, value in values.items()):
            connection.execute(update(Observation).where(Observation.id == mine.id).values(**values))
    return carried, len(old) - carried


def copy_calibrations(connection: Connection, job: ReembedRecord, revise: Callable[[dict[str, Any]], dict[str, Any]]) -> int:
    """Copy the calibrations, oldest first, with the identities of the encoders they were made with; how many.

    Args:
        revise: gives the content as the new space is to have it.
    """
    there = (CalibrationRow.space_id == job.space_id, CalibrationRow.removed_at.is_(None))
    rows = connection.execute(select(*CalibrationRow.__table__.columns).where(*there).order_by(CalibrationRow.id)).all()
    for row in rows:
        values = row._asdict() | {"space_id": job.other_id, "content": revise(row.content)}
        del values["id"]
        connection.execute(insert(CalibrationRow).values(**values))
    return len(rows)
