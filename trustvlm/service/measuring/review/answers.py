"""Answering, skipping and taking back: each is one transaction, so that a process that dies in it
leaves the item as it was. Making a support image of an answered item follows in further ones, and
is completed when the answer is given again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, observations, spaces, supports
from trustvlm.catalog.rows.observations import NewObservation
from trustvlm.catalog.rows.review import items
from trustvlm.catalog.rows.review.items import StoredImage
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.vectors import hash_of
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.measuring.feedback import judged_images
from trustvlm.service.measuring.review.logged import observation_of
from trustvlm.service.measuring.taught import watched
from trustvlm.service.registration.edit_labels import remove_support
from trustvlm.service.registration.encode_chunk import RegisterOptions
from trustvlm.service.registration.register import register
from trustvlm.types import LabelInput, Queries
from trustvlm.types.arrays import Float32s
from trustvlm.types.bounds import flags, identifier
from trustvlm.types.messages.commands import suggested
from trustvlm.types.review import ReviewItem

SAMPLING = {"sample": "random"}
"""The sampling of the observations that answers make, by tray; of every other tray "chosen"."""

PROPOSAL = "proposal"
"""The tray of proposed support images: to say that one is right is to accept it."""


def answer(
    home: Home, space_name: str, item_id: int, truth: str | None, use_as_support: bool
) -> ReviewItem:
    """See :meth:`ReviewQueue.answer`."""
    flags(use_as_support=use_as_support)
    if use_as_support and truth is None:
        raise InvalidInput(
            "use_as_support: a support image needs a label; the answer is none of the labels"
        )
    space, item, image = image_of(home, space_name, item_id)
    if use_as_support and image is None:
        raise InvalidInput(
            f"use_as_support: review item {item.id} came from the log of answers, which holds no "
            f"images; {suggested('feedback', space_name, files='FOLDER', options='--promote')} "
            f"makes support images of files"
        )
    use_as_support = use_as_support or (item.tray == PROPOSAL and truth is not None)
    watch = watched(home, space, [image], item.id) if use_as_support and image else None
    if item.state != "answered":
        sampling = SAMPLING.get(item.tray, "chosen")
        if image is None:
            rows = [observation_of(home, space, item, truth, sampling)]
        else:
            rows = _rows_of_image(home, space, item, image, truth, sampling)
        with home.catalog.write("review") as connection:
            spaces.require_same(connection, space)
            item = _answered(connection, space, rows, item, truth, use_as_support)
    _require_same(space_name, item, truth)
    if watch is None or image is None or item.support_id is not None:
        return item
    made = _promote(home, space, item, image)
    return made if made.support_id is None else replace(made, taught=watch.taught(home))


def _rows_of_image(
    home: Home,
    space: SpaceRecord,
    item: ReviewItem,
    image: StoredImage,
    truth: str | None,
    sampling: str,
) -> list[NewObservation]:
    """The observation of an item's image, judged as the space is now; none of a support image."""
    queries, names = queries_of(image), [item.source]
    judged = judged_images(home, space.name, queries, [truth], sampling, names)
    picture = image.thumbnail if home.observation_thumbnails else None
    return [replace(row, thumbnail=picture) for row in judged.rows]


def _answered(
    connection: Connection,
    space: SpaceRecord,
    rows: Sequence[NewObservation],
    item: ReviewItem,
    truth: str | None,
    use_as_support: bool,
) -> ReviewItem:
    """Store the answer and its observation; an item that was answered meanwhile stays as it is. An
    image that became a support image meanwhile gets no observation: it cannot count as feedback."""
    current = items.find(connection, space.id, item.id)
    if current is None:
        raise _gone(item.id, space.name)
    if current.state == "answered":
        return current
    earlier, ids, truth_id = None, list[int](), None
    for row in rows:
        key = (space.id, row.content_hash, row.sampling)
        earlier, truth_id = items.before_answer(connection, *key), row.truth_id
        ids = observations.store(connection, space.id, [row]).ids
    if not ids and truth is not None:
        truth_id = labels.find_many(connection, space.id, [truth])[truth].id
    items.close(
        connection, item.id, "answered", truth=truth, truth_id=truth_id,
        use_as_support=use_as_support and bool(ids), observation_id=ids[0] if ids else None,
        earlier=earlier,
    )  # fmt: skip
    return _item_of(connection, space, item.id)


def _require_same(space: str, item: ReviewItem, truth: str | None) -> None:
    """Raises Conflict: the item was answered in another way."""
    before = "none of the labels" if item.truth is None else repr(item.truth)
    if item.truth != truth:
        raise Conflict(
            f"review item {item.id} was answered already: {before}; take that answer back first "
            f"({suggested('review undo', space, item.id)})"
        )


def _promote(home: Home, space: SpaceRecord, item: ReviewItem, image: StoredImage) -> ReviewItem:
    """Make an answered item a support image of its label, unless it was one before the answer: then
    it has no observation."""
    with home.catalog.read() as connection:
        observation_id = items.answered(connection, item.id).observation_id
    if observation_id is None:
        return item
    vector = image.classifier if image.verifier is None else image.verifier
    content = hash_of(vector)
    given = LabelInput(
        str(item.truth),
        image_vectors=[vector],
        classifier_image_vectors=None if image.verifier is None else [image.classifier],
    )
    options = RegisterOptions(
        home.limits,
        must_exist=True,
        bring_back=True,
        pictures={content: (item.source, image.thumbnail)},
        proposed=item.tray == PROPOSAL,
    )
    register(home, space.name, [given], options)
    with home.catalog.write("promote") as connection:
        spaces.require_same(connection, space)
        ids = supports.ids_of_hashes(connection, space.id, [content])
        if content in ids:
            items.set_support(connection, item.id, ids[content])
            items.mark_promoted_as(connection, observation_id, ids[content])
        return _item_of(connection, space, item.id)


def skip(home: Home, space_name: str, item_id: int) -> ReviewItem:
    """See :meth:`ReviewQueue.skip`."""
    number = identifier("item", item_id)
    with home.write("review", space_name) as (connection, space):
        item = _item_of(connection, space, number)
        if item.state == "answered":
            raise Conflict(
                f"review item {number} is answered; {suggested('review undo', space.name, number)} "
                f"takes the answer back"
            )
        items.close(connection, number, "skipped")
        return _item_of(connection, space, number)


def undo(home: Home, space_name: str, item_id: int) -> ReviewItem:
    """See :meth:`ReviewQueue.undo`."""
    number = identifier("item", item_id)
    try:
        with home.catalog.together():
            return _undo(home, space_name, number)
    except BaseException:
        home.counts.forget()  # the counts may include what was undone
        raise


def _undo(home: Home, space_name: str, item_id: int) -> ReviewItem:
    with home.write("review", space_name) as (connection, space):
        item = _item_of(connection, space, item_id)
        if item.state == "open":
            return item
        truth_id, observation_id, earlier = items.answered(connection, item_id)
        if observation_id is not None:
            items.take_back(connection, observation_id, truth_id, earlier)
        items.reopen(connection, item_id)
        made = [] if item.support_id is None else [item.support_id]
        if supports.find_alive(connection, space.id, made):
            remove_support(home, space_name, made)
        return _item_of(connection, space, item_id)


def image_of(
    home: Home, space_name: str, item_id: int
) -> tuple[SpaceRecord, ReviewItem, StoredImage | None]:
    """An item with its image, None of one from the log. Raises NotFound, InvalidInput, Damaged."""
    number = identifier("item", item_id)
    with home.read(space_name) as (connection, space):
        item = _item_of(connection, space, number)
        return space, item, items.image(connection, number, space.dims)


def queries_of(image: StoredImage) -> Queries:
    """The image of an item as a query."""

    def row(vector: Float32s) -> Float32s:
        return vector.reshape(1, -1)

    verifier = None if image.verifier is None else row(image.verifier)
    return Queries(classifier=row(image.classifier), verifier=verifier)


def _item_of(connection: Connection, space: SpaceRecord, item_id: int) -> ReviewItem:
    """The item with this id. Raises NotFound."""
    item = items.find(connection, space.id, item_id)
    if item is None:
        raise _gone(item_id, space.name)
    return item


def _gone(item_id: int, space_name: str) -> NotFound:
    return NotFound(
        f"no review item {item_id} in space {space_name!r}; "
        f"{suggested('review list', space_name)} shows what waits"
    )
