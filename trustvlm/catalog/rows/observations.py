"""Observations: images whose true label is known, with their embeddings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    bindparam,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from trustvlm.catalog.rows import calibrations
from trustvlm.catalog.store.bulk import rows_among, slices
from trustvlm.catalog.store.models import Label, Observation, Support
from trustvlm.catalog.store.vectors import checksum, pack, unpack, verified
from trustvlm.types.arrays import Float32s
from trustvlm.types.calibration import ObservationCounts

_RANDOM_FEEDBACK = and_(Observation.origin == "feedback", Observation.sampling == "random")
CLAIMED = "claimed"
"""The sampling of images with claims, drawn like what comes in: they say nothing of predicted
labels."""

_OF_CLAIMS = and_(Observation.origin == "calibration", Observation.sampling == CLAIMED)
_OF_PREDICTIONS = and_(Observation.origin == "calibration", Observation.sampling != CLAIMED)
_CLAIMS_FEEDBACK = and_(Observation.origin == "feedback", Observation.sampling == CLAIMED)
_HAS_EMBEDDING = func.length(Observation.classifier_embedding) > 0
"""Embeddings are purged with the support image that was made of the observation."""


def _usable(*, claims: bool) -> tuple[ColumnElement[bool], ...]:
    """What calibrates predicted labels or, with `claims`, claimed ones."""
    calibration = _OF_CLAIMS if claims else _OF_PREDICTIONS
    feedback = _CLAIMS_FEEDBACK if claims else _RANDOM_FEEDBACK
    return _HAS_EMBEDDING, or_(calibration, and_(feedback, Observation.support_id.is_(None)))


@dataclass(frozen=True)
class GivenVerdict:
    """The verdict an image got when its feedback came; `predicted` is the label that it is about:
    of an image with a claim, the claimed one."""

    predicted_id: int
    predicted: str
    node: str | None
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
    thumbnail: bytes | None = None
    claimed_id: int | None = None


@dataclass(frozen=True, eq=False)
class Pool:
    """The images that may calibrate.

    Attributes:
        ids: of the observations. pictured: which have a thumbnail.
        hashes: content hashes. truth: names, None for no label. truth_ids: label ids, −1 for no
            label. sources: names or None.
        claimed: names that the claimed labels have now, None for one that is gone; None: no claims.
        classifier: (n, d_t). verifier: (n, d_v), or None where they have none.
    """

    ids: list[int]
    pictured: list[bool]
    hashes: list[bytes]
    truth: list[str | None]
    truth_ids: list[int]
    sources: list[str | None]
    classifier: Float32s
    verifier: Float32s | None
    claimed: list[str | None] | None = None

    def __len__(self) -> int:
        return len(self.hashes)


class Stored(NamedTuple):
    """What storing observations did.

    Attributes:
        ids: of the observations, in their order. repeated: how many images had one before.
        apart: how many chosen images were also drawn at random before; the labels that they were
            given then stay, beside those of now.
    """

    ids: list[int]
    repeated: int
    apart: int


def store(connection: Connection, space_id: int, observations: Sequence[NewObservation]) -> Stored:
    """Store observations: an image that was stored before with the same sampling gets the new
    truth, and the verdict if there is one.

    An image that was drawn at random and is chosen later is two observations: what a person says of
    images that were picked, because they looked wrong, say, must not change the labels of those
    that calibrate. Feedback stays feedback.
    """
    hashes = [item.content_hash for item in observations]
    stored = _stored(connection, space_id, hashes)
    drawn = {content for content, sampling in stored if sampling != "chosen"}
    chosen = {item.content_hash for item in observations if item.sampling == "chosen"}
    rows = _rows(observations, stored)
    now = datetime.now(UTC)
    constant = {"space_id": space_id, "support_id": None, "created_at": now}
    if new := [row | constant for key, row in rows.items() if key not in stored]:
        connection.execute(insert(Observation), new)
    again = [row | {"number": stored[key][0]} for key, row in rows.items() if key in stored]
    _change(connection, [row for row in again if _A_VERDICT in row])
    _change(connection, [row for row in again if _A_VERDICT not in row])
    ids = _stored(connection, space_id, hashes)
    keys = [(item.content_hash, item.sampling) for item in observations]
    before = {content for content, _ in stored}
    return Stored([ids[key][0] for key in keys], len(before), len(chosen & drawn))


_Key = tuple[bytes, str]
"""Content hash and sampling."""


def _rows(
    observations: Sequence[NewObservation], stored: Mapping[_Key, tuple[int, str]]
) -> dict[_Key, dict[str, Any]]:
    """The columns of what is stored, or changes; an image may come twice."""
    rows: dict[_Key, dict[str, Any]] = {}
    for item in observations:
        key = item.content_hash, item.sampling
        earlier, row = stored.get(key), rows.get(key)
        values = _values(item)
        if item.verdict is not None or (earlier is None and row is None):
            values |= _verdict(item)
        if "feedback" in (earlier and earlier[1], row and row["origin"]):
            values["origin"] = "feedback"
        rows[key] = (row or {}) | values
    return rows


def _change(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Change observations, by their `number`, to rows that have the same columns."""
    if not rows:
        return
    columns: dict[str, Any] = {name: bindparam(name) for name in rows[0] if name != "number"}
    # A picture stays where the image comes again without one.
    columns["thumbnail"] = func.coalesce(bindparam("thumbnail"), Observation.thumbnail)
    of_row = update(Observation).where(Observation.id == bindparam("number"))
    connection.execute(of_row.values(**columns), list(rows))


_A_VERDICT = next(iter(GivenVerdict.__dataclass_fields__))


def _values(item: NewObservation) -> dict[str, Any]:
    classifier = pack(item.classifier_embedding)
    verifier = None if item.verifier_embedding is None else pack(item.verifier_embedding)
    names = (
        "content_hash", "origin", "sampling", "truth_id", "truth", "source", "thumbnail",
        "claimed_id",
    )  # fmt: skip
    return {name: getattr(item, name) for name in names} | {
        "classifier_embedding": classifier,
        "verifier_embedding": verifier,
        "checksum": checksum(classifier, verifier),
    }


def _verdict(item: NewObservation) -> dict[str, Any]:
    names = GivenVerdict.__dataclass_fields__
    return {name: getattr(item.verdict, name, None) for name in names}


def _stored(
    connection: Connection, space_id: int, hashes: Sequence[bytes]
) -> dict[tuple[bytes, str], tuple[int, str]]:
    """(id, origin) of the stored ones of these content hashes, by hash and sampling."""
    columns = (Observation.content_hash, Observation.sampling, Observation.id, Observation.origin)
    of_space = select(*columns).where(Observation.space_id == space_id)
    rows = rows_among(connection, of_space, Observation.content_hash, hashes)
    return {(content, sampling): (number, origin) for content, sampling, number, origin in rows}


def known_hashes(connection: Connection, space_id: int, hashes: Sequence[bytes]) -> set[bytes]:
    """Those of these content hashes that a space has stored."""
    return {content for content, _ in _stored(connection, space_id, hashes)}


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
    return [content for content, _ in rows], unpack([blob or b"" for _, blob in rows], dim)


def forget_calibration(connection: Connection, space_id: int, *, claims: bool = False) -> None:
    """Delete the images of earlier calibrate calls, of predicted labels or of claims; feedback
    stays."""
    made = (Observation.space_id == space_id, _OF_CLAIMS if claims else _OF_PREDICTIONS)
    connection.execute(delete(Observation).where(*made))


def forget_images(
    connection: Connection, support_ids: Sequence[int], contents: Mapping[int, Sequence[bytes]]
) -> None:
    """Delete the embeddings and thumbnails of images that are being purged as support images, given
    by id and by content hash, space by space.

    Their labels and verdicts stay as evidence about the promise of a calibration. Images that are
    still, or again, support images stay too.
    """
    live = select(Support.id).where(
        Support.space_id == Observation.space_id,
        Support.content_hash == Observation.content_hash,
        Support.removed_revision.is_(None),
    )
    for some in slices(support_ids):
        made = Observation.support_id.in_(some)
        _forget(connection, and_(made, ~live.exists()))
        connection.execute(update(Observation).where(made).values(support_id=None))
    for space_id, hashes in contents.items():
        for part in slices(hashes):
            same = Observation.content_hash.in_(part)
            _forget(connection, and_(Observation.space_id == space_id, same, ~live.exists()))


def _forget(connection: Connection, which: ColumnElement[bool]) -> None:
    """Calibration images are nothing but their embeddings; of feedback the verdict and the truth
    stay."""
    connection.execute(delete(Observation).where(which, Observation.origin == "calibration"))
    blank: dict[str, Any] = dict.fromkeys(
        ("support_id", "source", "verifier_embedding", "thumbnail")
    )
    blank |= {"classifier_embedding": b"", "checksum": checksum(b"")}
    connection.execute(update(Observation).where(which).values(**blank))


_OF_POOL = (
    Observation.id, Observation.checksum, Observation.content_hash, Observation.truth,
    Observation.truth_id, Observation.source, Observation.classifier_embedding,
    Observation.verifier_embedding,
    select(Label.name)
    .where(Label.id == Observation.claimed_id, Label.removed_revision.is_(None))
    .correlate(Observation)
    .scalar_subquery()
    .label("claimed"),
)  # fmt: skip


def pool(
    connection: Connection,
    space_id: int,
    dims: tuple[int, int],
    newest: int | None = None,
    *,
    claims: bool = False,
) -> Pool:
    """Everything that may calibrate, or the `newest` of it, in order of time: images of the last
    calibrate call, and feedback that was drawn at random and did not become a support image; with
    `claims`, those with claims.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    pictured = func.length(Observation.thumbnail).label("pictured")
    which = (Observation.space_id == space_id, *_usable(claims=claims))
    query = select(*_OF_POOL, pictured).where(*which)
    newest_first = connection.execute(query.order_by(Observation.id.desc()).limit(newest)).all()
    rows = verified("observation", newest_first[::-1])
    verifier = [r.verifier_embedding for r in rows if r.verifier_embedding is not None]
    complete = verifier and len(verifier) == len(rows)
    return Pool(
        ids=[row.id for row in rows],
        pictured=[bool(row.pictured) for row in rows],
        hashes=[row.content_hash for row in rows],
        truth=[row.truth for row in rows],
        truth_ids=[-1 if row.truth_id is None else row.truth_id for row in rows],
        sources=[row.source for row in rows],
        classifier=unpack([row.classifier_embedding for row in rows], dims[0]),
        verifier=unpack(verifier, dims[1]) if complete else None,
        claimed=[row.claimed for row in rows] if claims else None,
    )


def counts(connection: Connection, space_id: int) -> ObservationCounts:
    """How many observations of each kind a space has, and how many may calibrate."""

    def count(*conditions: ColumnElement[bool]) -> int:
        query = select(func.count()).select_from(Observation)
        return connection.scalar(query.where(Observation.space_id == space_id, *conditions)) or 0

    return ObservationCounts(
        calibration=count(_OF_PREDICTIONS),
        random=count(_RANDOM_FEEDBACK),
        chosen=count(Observation.origin == "feedback", Observation.sampling == "chosen"),
        usable=count(*_usable(claims=False)),
        claims=count(*_usable(claims=True)),
    )


def thumbnail(connection: Connection, space_id: int, observation_id: int) -> bytes | None:
    """The JPEG thumbnail of an observation of the space; None where it has none, or is not
    there."""
    of_space = (Observation.space_id == space_id, Observation.id == observation_id)
    return connection.scalar(select(Observation.thumbnail).where(*of_space))


def newest_id(connection: Connection, space_id: int) -> int:
    """The largest id of a space's observations, 0 without any: later ones have larger ids."""
    newest = select(func.max(Observation.id)).where(Observation.space_id == space_id)
    return connection.scalar(newest) or 0


def accepted_random(
    connection: Connection, space_id: int, *, claims: bool = False
) -> list[tuple[int, int, str | None]]:
    """(label id that the verdict is about, true label id or −1, node that was answered) of the
    randomly drawn feedback that the calibration in force, of predicted labels or of claims,
    accepted, in order of time. Images that were stored before it are left out: they may have made
    it."""
    calibration = calibrations.current(connection, space_id, claims=claims)
    if calibration is None:
        return []
    # By ids where the calibration has them: a clock may have been wrong.
    later = (
        Observation.created_at > calibration.created_at
        if calibration.observed is None
        else Observation.id > calibration.observed
    )
    columns = (Observation.predicted_id, Observation.truth_id, Observation.node)
    query = select(*columns).where(
        Observation.space_id == space_id,
        Observation.calibration_id == calibration.id,
        _CLAIMS_FEEDBACK if claims else _RANDOM_FEEDBACK,
        Observation.accepted.is_(True),
        later,
    )
    rows = connection.execute(query.order_by(Observation.id))
    return [
        (row.predicted_id, -1 if row.truth_id is None else row.truth_id, row.node) for row in rows
    ]


def mark_promoted(connection: Connection, space_id: int, support_ids: Mapping[bytes, int]) -> None:
    """Store which images of a space (content hash → support image id) have become support images,
    whatever their sampling."""
    same = (Observation.space_id == space_id, Observation.content_hash == bindparam("content"))
    promote = update(Observation).where(*same).values(support_id=bindparam("support"))
    if many := [{"content": hash_, "support": number} for hash_, number in support_ids.items()]:
        connection.execute(promote, many)
