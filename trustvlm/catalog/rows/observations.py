"""Observations: images whose true label somebody told us, with their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select, update

from trustvlm.catalog.rows import calibrations
from trustvlm.catalog.store.models import Observation, Support
from trustvlm.catalog.store.vectors import checksum, pack, unpack, verify_checksums
from trustvlm.types.arrays import Float32s
from trustvlm.types.calibration import ObservationCounts

__all__ = [
    "GivenVerdict",
    "NewObservation",
    "Pool",
    "Stored",
    "accepted_random",
    "counts",
    "embeddings",
    "forget_calibration",
    "forget_images",
    "known_hashes",
    "mark_promoted",
    "newest_id",
    "pool",
    "store",
]

_IN_CHUNK = 500

_DRAWN = and_(
    Observation.origin == "feedback",
    Observation.sampling == "random",
    Observation.support_id.is_(None),
)
_USABLE = (
    func.length(Observation.classifier_embedding)
    > 0,  # not purged with the support image that was made of it
    or_(Observation.origin == "calibration", _DRAWN),
)


@dataclass(frozen=True)
class GivenVerdict:
    """The verdict an image got when its feedback came."""

    predicted_id: int
    predicted: str
    trust: float
    accepted: bool | None
    calibration_id: int | None
    revision: int


@dataclass(frozen=True, eq=False)
class NewObservation:
    """An observation about to be stored; `verifier_embedding` is None where the space's verifier is
    "same"."""

    content_hash: bytes
    origin: str
    sampling: str
    truth_id: int | None
    truth: str | None
    source: str | None
    classifier_embedding: Float32s
    verifier_embedding: Float32s | None
    verdict: GivenVerdict | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """What may calibrate.

    Attributes:
        hashes: content hashes. truth: names, None for no label. truth_ids: label ids, −1 for no
            label. sources: names or None.
        classifier: (n, d_t). verifier: (n, d_v), or None where the observations have none of their
            own.
    """

    hashes: list[bytes]
    truth: list[str | None]
    truth_ids: list[int]
    sources: list[str | None]
    classifier: Float32s
    verifier: Float32s | None

    def __len__(self) -> int:
        return len(self.hashes)


class Stored(NamedTuple):
    """What came of storing observations.

    Attributes:
        ids: in the same order. known: how many images were known, however they were drawn. apart:
            how many chosen ones were drawn at random, too; what was said of them then stays, beside
            what is said of them now.
    """

    ids: list[int]
    known: int
    apart: int


class _Known(NamedTuple):
    id: int
    origin: str


def store(connection: Connection, space_id: int, observations: Sequence[NewObservation]) -> Stored:
    """Store observations: the same image again, drawn in the same way, gets the new truth, and the
    verdict if there is one.

    An image that was drawn at random and is chosen later is two observations: what a person says of
    images that were picked, because they looked wrong, say, must not change the labels of those
    that calibrate. Feedback stays feedback.
    """
    known = _known(connection, space_id, [item.content_hash for item in observations])
    before = {content for content, _ in known}
    drawn = {content for content, sampling in known if sampling == "random"}
    apart = {
        item.content_hash
        for item in observations
        if item.sampling == "chosen" and item.content_hash in drawn
    }
    ids = []
    for item in observations:
        key = item.content_hash, item.sampling
        values = _values(item) | {"space_id": space_id}
        if (there := known.get(key)) is not None:
            if item.verdict is None:
                values = {
                    name: value
                    for name, value in values.items()
                    if name not in GivenVerdict.__dataclass_fields__
                }
            values["origin"] = (
                "feedback" if "feedback" in (there.origin, item.origin) else item.origin
            )
            connection.execute(
                update(Observation).where(Observation.id == there.id).values(**values)
            )
        else:
            statement = insert(Observation).values(
                **values, created_at=datetime.now(UTC), support_id=None
            )
            new = connection.execute(statement.returning(Observation.id)).scalar_one()
            known[key] = _Known(new, item.origin)
        ids.append(known[key].id)
    return Stored(ids, len(before), len(apart))


def _known(
    connection: Connection, space_id: int, hashes: Sequence[bytes]
) -> dict[tuple[bytes, str], _Known]:
    """The stored ones of these content hashes, by hash and sampling."""
    columns = (Observation.content_hash, Observation.id, Observation.origin, Observation.sampling)
    found: dict[tuple[bytes, str], _Known] = {}
    for start in range(0, len(hashes), _IN_CHUNK):
        query = select(*columns).where(
            Observation.space_id == space_id,
            Observation.content_hash.in_(hashes[start : start + _IN_CHUNK]),
        )
        rows = connection.execute(query)
        found.update({(row.content_hash, row.sampling): _Known(row.id, row.origin) for row in rows})
    return found


def known_hashes(connection: Connection, space_id: int, hashes: Sequence[bytes]) -> set[bytes]:
    """Which of these content hashes a space has stored."""
    return {content for content, _ in _known(connection, space_id, hashes)}


def embeddings(
    connection: Connection, space_id: int, dim: int, *, verifier: bool
) -> tuple[list[bytes], Float32s]:
    """(content hashes, (n, dim) embeddings of one side) of all stored images that have them, in
    order of time."""
    column = Observation.verifier_embedding if verifier else Observation.classifier_embedding
    query = select(Observation.content_hash, column).where(
        Observation.space_id == space_id, func.length(column) > 0
    )
    rows = connection.execute(query.order_by(Observation.id)).all()
    return [content for content, _ in rows], unpack(
        [embedding or b"" for _, embedding in rows], dim
    )


def forget_calibration(connection: Connection, space_id: int) -> None:
    """Delete the images of earlier calibrate calls; feedback stays."""
    connection.execute(
        delete(Observation).where(
            Observation.space_id == space_id, Observation.origin == "calibration"
        )
    )


def forget_images(
    connection: Connection, support_ids: Sequence[int], contents: Sequence[tuple[int, bytes]]
) -> None:
    """Delete the embeddings of images that are being purged as support images, given by id and by
    (space id, content hash).

    What was said of them stays as evidence about the promise of a calibration; images that are
    still, or again, support images stay too.
    """
    again = select(Support.id).where(
        Support.space_id == Observation.space_id,
        Support.content_hash == Observation.content_hash,
        Support.removed_revision.is_(None),
    )
    for start in range(0, len(support_ids), _IN_CHUNK):
        made = Observation.support_id.in_(support_ids[start : start + _IN_CHUNK])
        _forget(connection, and_(made, ~again.exists()))
        connection.execute(update(Observation).where(made).values(support_id=None))
    for space_id in {space_id for space_id, _ in contents}:
        hashes = [content for of, content in contents if of == space_id]
        for start in range(0, len(hashes), _IN_CHUNK):
            same = Observation.content_hash.in_(hashes[start : start + _IN_CHUNK])
            _forget(connection, and_(Observation.space_id == space_id, same, ~again.exists()))


def _forget(connection: Connection, which: ColumnElement[bool]) -> None:
    """Calibration images are nothing but their embeddings; of feedback the verdict and the truth
    stay."""
    nothing = {"classifier_embedding": b"", "verifier_embedding": None, "checksum": checksum(b"")}
    connection.execute(delete(Observation).where(which, Observation.origin == "calibration"))
    connection.execute(
        update(Observation).where(which).values(support_id=None, source=None, **nothing)
    )


def pool(connection: Connection, space_id: int, classifier_dim: int, verifier_dim: int) -> Pool:
    """Everything that may calibrate, in order of time: images of the last calibrate call, and
    feedback that was drawn at random and did not become a support image.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    query = select(Observation).where(Observation.space_id == space_id, *_USABLE)
    rows = connection.execute(query.order_by(Observation.id)).all()
    verify_checksums(
        "observation",
        [(r.id, r.checksum, (r.classifier_embedding, r.verifier_embedding)) for r in rows],
    )
    own = [row.verifier_embedding for row in rows if row.verifier_embedding is not None]
    return Pool(
        hashes=[row.content_hash for row in rows],
        truth=[row.truth for row in rows],
        truth_ids=[-1 if row.truth_id is None else row.truth_id for row in rows],
        sources=[row.source for row in rows],
        classifier=unpack([row.classifier_embedding for row in rows], classifier_dim),
        verifier=unpack(own, verifier_dim) if own and len(own) == len(rows) else None,
    )


def counts(connection: Connection, space_id: int) -> ObservationCounts:
    """How many observations of each kind a space has, and how many may calibrate."""
    columns = (Observation.origin, Observation.sampling)
    query = (
        select(*columns, func.count()).where(Observation.space_id == space_id).group_by(*columns)
    )
    found = {(origin, sampling): count for origin, sampling, count in connection.execute(query)}
    usable = (
        select(func.count())
        .select_from(Observation)
        .where(Observation.space_id == space_id, *_USABLE)
    )
    return ObservationCounts(
        calibration=sum(count for (origin, _), count in found.items() if origin == "calibration"),
        random=found.get(("feedback", "random"), 0),
        chosen=found.get(("feedback", "chosen"), 0),
        usable=connection.scalar(usable) or 0,
    )


def newest_id(connection: Connection, space_id: int) -> int:
    """The largest id of a space's observations, 0 without any: what comes later has a larger
    one."""
    return (
        connection.scalar(select(func.max(Observation.id)).where(Observation.space_id == space_id))
        or 0
    )


def accepted_random(connection: Connection, space_id: int) -> list[tuple[int, int]]:
    """(predicted label id, true label id or −1) of the randomly drawn feedback that the calibration
    in force accepted, in order of time. Images that were known before it cannot testify about it:
    they may have made it."""
    calibration = calibrations.current(connection, space_id)
    if calibration is None:
        return []
    columns = (Observation.predicted_id, Observation.truth_id)
    asked = (Observation.space_id == space_id, Observation.calibration_id == calibration.id)
    of_kind = (
        Observation.origin == "feedback",
        Observation.sampling == "random",
        Observation.accepted.is_(True),
    )
    before = (
        calibration.observed
    )  # not by the dates, where there is another way: a clock may have been wrong
    later = (
        Observation.created_at > calibration.created_at
        if before is None
        else Observation.id > before
    )
    rows = connection.execute(
        select(*columns).where(*asked, *of_kind, later).order_by(Observation.id)
    )
    return [(row.predicted_id, -1 if row.truth_id is None else row.truth_id) for row in rows]


def mark_promoted(connection: Connection, space_id: int, support_ids: Mapping[bytes, int]) -> None:
    """Remember which images of a space (content hash → support image id) have become support
    images, however drawn."""
    for content, support_id in support_ids.items():
        same = (Observation.space_id == space_id, Observation.content_hash == content)
        connection.execute(update(Observation).where(*same).values(support_id=support_id))


def _values(item: NewObservation) -> dict[str, Any]:
    classifier = pack(item.classifier_embedding)
    verifier = None if item.verifier_embedding is None else pack(item.verifier_embedding)
    verdict = {
        name: getattr(item.verdict, name, None) for name in GivenVerdict.__dataclass_fields__
    }
    plain = {
        name: getattr(item, name)
        for name in ("content_hash", "origin", "sampling", "truth_id", "truth", "source")
    }
    embeddings = {"classifier_embedding": classifier, "verifier_embedding": verifier}
    return plain | embeddings | verdict | {"checksum": checksum(classifier, verifier)}
