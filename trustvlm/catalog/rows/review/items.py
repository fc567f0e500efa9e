"""Items of the review queue: added within bounds, listed, answered, taken back, deleted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from trustvlm.catalog.rows.observations import GivenVerdict, known_hashes, mark_promoted
from trustvlm.catalog.rows.review import states
from trustvlm.catalog.store.bulk import delete_among, rows_among
from trustvlm.catalog.store.models import Observation
from trustvlm.catalog.store.side_models import ReviewRow
from trustvlm.catalog.store.vectors import checksum, pack, unpack, vector, verified
from trustvlm.types.arrays import Float32s
from trustvlm.types.review import ReviewItem

CHUNK_ROWS = 500
_OPEN = ReviewRow.state == "open"
_COLUMNS = [
    getattr(ReviewRow, name)
    for name in ReviewItem.__dataclass_fields__
    if name not in ("has_picture", "taught")
]
_NO_ANSWER: dict[str, Any] = dict.fromkeys(
    ("changed_at", "truth_id", "truth", "support_id", "observation_id", "earlier")
)
_ITEM = select(*_COLUMNS, ReviewRow.thumbnail.is_not(None).label("has_picture"))


@dataclass(frozen=True, eq=False)
class NewItem:
    """An image about to be queued, with its verdict; `verifier_embedding` is None where the space's
    verifier is "same". One from the log of answers has a `logged_id` and an empty embedding."""

    tray: str
    content_hash: bytes
    source: str | None
    predicted_id: int
    predicted: str
    decision: str
    probability: float | None
    trust: float | None
    rule: str
    calibration_id: int | None
    revision: int
    classifier_embedding: Float32s
    verifier_embedding: Float32s | None
    thumbnail: bytes | None
    node: str | None = None
    logged_id: int | None = None


class StoredImage(NamedTuple):
    """The image of an item: (d,) embeddings, and the small JPEG where it has one."""

    classifier: Float32s
    verifier: Float32s | None
    thumbnail: bytes | None


class LoggedKey(NamedTuple):
    """What an item from the log of answers is stored as: (32,) bytes in place of its content, and
    the id of the label that was predicted."""

    content_hash: bytes
    predicted_id: int


class Answered(NamedTuple):
    """What an answer stored: the label by id, the observation, and how that was before."""

    truth_id: int | None
    observation_id: int | None
    earlier: Mapping[str, Any] | None


def add(connection: Connection, space_id: int, items: Sequence[NewItem], limit: int) -> int:
    """Queue images that their tray never had and, for the tray "review", whose true label nobody
    said; how many.

    At most `limit` wait: for more, the oldest of the tray "review" make room. Where those of the
    tray "sample" alone are as many, further drawn ones are not queued, but counted: what was drawn
    must not be dropped by what it is. Of the answered and skipped ones the newest `limit` stay.
    """
    fresh = _unknown(connection, space_id, items)
    drawn = [item for item in fresh if item.tray == "sample"]
    others = [item for item in fresh if item.tray != "sample"]
    waiting = {tray: number for (tray, state), number in counts(connection, space_id).items()
               if state == "open"}  # fmt: skip
    room = max(0, limit - waiting.get("sample", 0))
    if drawn[room:]:
        states.add_missed(connection, space_id, len(drawn) - room)
        drawn = drawn[:room]
    others = others[max(0, len(others) - (room - len(drawn))) :]
    excess = sum(waiting.values()) + len(drawn) + len(others) - limit
    _drop_oldest(connection, space_id, excess, _OPEN, ReviewRow.tray != "sample")
    if rows := [_row(space_id, item) for item in drawn + others]:
        connection.execute(insert(ReviewRow), rows)
    closed = select(func.count()).where(ReviewRow.space_id == space_id, ~_OPEN)
    _drop_oldest(connection, space_id, (connection.scalar(closed) or 0) - limit, ~_OPEN)
    return len(rows)


def _unknown(connection: Connection, space_id: int, items: Sequence[NewItem]) -> list[NewItem]:
    """The images that their tray never had, each once; of the tray "review" without those of
    stored feedback, whose true label is known."""
    hashes = [item.content_hash for item in items]
    answered = known_hashes(connection, space_id, hashes)
    of_space = select(ReviewRow.tray, ReviewRow.content_hash).where(ReviewRow.space_id == space_id)
    rows = rows_among(connection, of_space, ReviewRow.content_hash, hashes)
    stored = {(tray, content) for tray, content in rows}
    fresh = {(item.tray, item.content_hash): item for item in items}
    return [
        item
        for key, item in fresh.items()
        if key not in stored and (item.tray != "review" or item.content_hash not in answered)
    ]


def _drop_oldest(
    connection: Connection, space_id: int, number: int, *which: ColumnElement[bool]
) -> None:
    if number <= 0:
        return
    oldest = select(ReviewRow.id).where(ReviewRow.space_id == space_id, *which)
    ids = list(connection.scalars(oldest.order_by(ReviewRow.id).limit(number)))
    delete_among(connection, ReviewRow.id, ids)


def _row(space_id: int, item: NewItem) -> dict[str, Any]:
    classifier = pack(item.classifier_embedding)
    verifier = None if item.verifier_embedding is None else pack(item.verifier_embedding)
    return vars(item) | _NO_ANSWER | {
        "space_id": space_id, "state": "open", "use_as_support": False,
        "created_at": datetime.now(UTC), "checksum": checksum(classifier, verifier),
        "classifier_embedding": classifier, "verifier_embedding": verifier,
    }  # fmt: skip


def counts(connection: Connection, space_id: int) -> dict[tuple[str, str], int]:
    """(tray, state) → number of items."""
    query = select(ReviewRow.tray, ReviewRow.state, func.count())
    rows = connection.execute(
        query.where(ReviewRow.space_id == space_id).group_by(ReviewRow.state, ReviewRow.tray)
    )
    return {(tray, state): number for tray, state, number in rows}


def page(
    connection: Connection,
    space_id: int,
    tray: str | None,
    state: str | None,
    after: int,
    limit: int,
) -> list[ReviewItem]:
    """Up to `limit` items with ids above `after`, oldest first; tray or state None: any."""
    query = _ITEM.where(ReviewRow.space_id == space_id, ReviewRow.id > after)
    if state is not None:
        query = query.where(ReviewRow.state == state)
    if tray is not None:
        query = query.where(ReviewRow.tray == tray)
    rows = connection.execute(query.order_by(ReviewRow.id).limit(limit))
    return [ReviewItem(**row._asdict()) for row in rows]


def next_open(
    connection: Connection, space_id: int, tray: str | None, after: int
) -> ReviewItem | None:
    """The oldest open item with an id above `after`; behind the last one, the oldest of all."""
    for start in (after, 0):
        if items := page(connection, space_id, tray, "open", start, 1):
            return items[0]
    return None


def find(connection: Connection, space_id: int, item_id: int) -> ReviewItem | None:
    """The item with this id; None: the space has none."""
    query = _ITEM.where(ReviewRow.id == item_id, ReviewRow.space_id == space_id)
    row = connection.execute(query).first()
    return None if row is None else ReviewItem(**row._asdict())


def logged_key(connection: Connection, item_id: int) -> LoggedKey:
    """What an item from the log of answers is stored as."""
    query = select(ReviewRow.content_hash, ReviewRow.predicted_id)
    return LoggedKey(*connection.execute(query.where(ReviewRow.id == item_id)).one())


def image(connection: Connection, item_id: int, dims: tuple[int, int]) -> StoredImage | None:
    """The image of an item; None: it came from the log of answers. `dims`: of the space's
    classifier and verifier.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    columns = (
        ReviewRow.id, ReviewRow.checksum, ReviewRow.classifier_embedding,
        ReviewRow.verifier_embedding, ReviewRow.thumbnail,
    )  # fmt: skip
    row = connection.execute(select(*columns).where(ReviewRow.id == item_id)).one()
    verified("review item", [row])
    if not row.classifier_embedding:
        return None
    return _image(row, dims, row.thumbnail)


def _image(row: Any, dims: tuple[int, int], thumbnail: bytes | None) -> StoredImage:
    classifier = unpack([row.classifier_embedding], dims[0])[0]
    return StoredImage(classifier, vector(row.verifier_embedding, dims[1]), thumbnail)


def open_images(
    connection: Connection, space_id: int, but: int, limit: int, dims: tuple[int, int]
) -> list[StoredImage]:
    """The images of the up to `limit` oldest open items of a space that have one, without that of
    item `but` and without pictures. Raises Damaged."""
    columns = (
        ReviewRow.id, ReviewRow.checksum, ReviewRow.classifier_embedding,
        ReviewRow.verifier_embedding,
    )  # fmt: skip
    wanted = (_OPEN, ReviewRow.id != but, ReviewRow.logged_id.is_(None))
    query = select(*columns).where(ReviewRow.space_id == space_id, *wanted)
    rows = connection.execute(query.order_by(ReviewRow.id).limit(limit)).all()
    return [_image(row, dims, None) for row in verified("review item", rows)]


def thumbnail(connection: Connection, space_id: int, item_id: int) -> bytes | None:
    """The small JPEG of an item; None: it has none, or there is no such item."""
    of_item = (ReviewRow.id == item_id, ReviewRow.space_id == space_id)
    return connection.scalar(select(ReviewRow.thumbnail).where(*of_item))


def close(connection: Connection, item_id: int, state: str, **values: Any) -> bool:
    """Answer or skip an item with these values; False: it was answered before."""
    waiting = (ReviewRow.id == item_id, ReviewRow.state != "answered")
    values |= {"state": state, "changed_at": datetime.now(UTC)}
    changed = update(ReviewRow).where(*waiting).values(**values)
    return bool(connection.execute(changed).rowcount)


def answered(connection: Connection, item_id: int) -> Answered:
    """What the answer of an item stored."""
    columns = select(ReviewRow.truth_id, ReviewRow.observation_id, ReviewRow.earlier)
    return Answered(*connection.execute(columns.where(ReviewRow.id == item_id)).one())


def set_support(connection: Connection, item_id: int, support_id: int) -> None:
    """Store which support image an item became."""
    made = update(ReviewRow).where(ReviewRow.id == item_id)
    connection.execute(made.values(support_id=support_id, use_as_support=True))


def reopen(connection: Connection, item_id: int) -> None:
    """Make an item wait again, without its answer."""
    again = update(ReviewRow).where(ReviewRow.id == item_id)
    connection.execute(again.values(state="open", use_as_support=False, **_NO_ANSWER))


def delete_some(connection: Connection, space_id: int, limit: int, *, answered: bool) -> int:
    """Delete up to `limit` items of a space, the answered ones only if `answered`; how many."""
    some = select(ReviewRow.id).where(ReviewRow.space_id == space_id)
    if not answered:
        some = some.where(ReviewRow.state != "answered")
    ids = list(connection.scalars(some.limit(limit)))
    delete_among(connection, ReviewRow.id, ids)
    return len(ids)


def forget_images(
    connection: Connection, support_ids: Sequence[int], contents: Mapping[int, Sequence[bytes]]
) -> None:
    """Delete the items of images that are being purged as support images, given by id and by
    content hash, space by space."""
    delete_among(connection, ReviewRow.support_id, support_ids)
    for space_id, hashes in contents.items():
        delete_among(connection, ReviewRow.content_hash, hashes, ReviewRow.space_id == space_id)


def mark_promoted_as(connection: Connection, observation_id: int, support_id: int) -> None:
    """Store that the image of an observation has become a support image; see
    :func:`mark_promoted`."""
    columns = select(Observation.space_id, Observation.content_hash)
    row = connection.execute(columns.where(Observation.id == observation_id)).first()
    if row is not None:
        mark_promoted(connection, row.space_id, {row.content_hash: support_id})


_KEPT_ON_ANSWER = (
    "origin", "truth_id", "truth", "source", "support_id", "claimed_id",
    *GivenVerdict.__dataclass_fields__,
)  # fmt: skip


def before_answer(
    connection: Connection, space_id: int, content_hash: bytes, sampling: str
) -> dict[str, Any] | None:
    """What an answer about an image is about to change of its observation; None: it has none."""
    columns = [getattr(Observation, name) for name in _KEPT_ON_ANSWER]
    query = select(*columns).where(
        Observation.space_id == space_id,
        Observation.content_hash == content_hash,
        Observation.sampling == sampling,
    )
    row = connection.execute(query).first()
    return None if row is None else row._asdict()


def take_back(
    connection: Connection,
    observation_id: int,
    truth_id: int | None,
    earlier: Mapping[str, Any] | None,
) -> None:
    """Undo an answer: give its observation the values of :func:`before_answer`, or delete it where
    there was none. One that has got another truth since stays as it is."""
    same = (Observation.id == observation_id, Observation.truth_id.is_not_distinct_from(truth_id))
    if earlier is None:
        connection.execute(delete(Observation).where(*same))
    else:
        connection.execute(update(Observation).where(*same).values(**earlier))
