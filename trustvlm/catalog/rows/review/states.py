"""Whether a space collects images for review, and the secret that draws some of them."""

from __future__ import annotations

import os

from sqlalchemy import ColumnElement, Connection, insert, select, update

from trustvlm.catalog.store.side_models import ReviewState

_SEED_BYTES = 16


def collects(connection: Connection, space_id: int) -> bool:
    """Whether images that the HTTP service scores are collected."""
    value = connection.scalar(select(ReviewState.collecting).where(_of(space_id)))
    return bool(value)


def missed(connection: Connection, space_id: int) -> int:
    """How many images were drawn and found no room."""
    return connection.scalar(select(ReviewState.missed).where(_of(space_id))) or 0


def seed(connection: Connection, space_id: int) -> bytes | None:
    """The secret of the random draw; None: nothing was drawn yet."""
    return connection.scalar(select(ReviewState.seed).where(_of(space_id)))


def make(connection: Connection, space_id: int) -> bytes:
    """The secret of the random draw, made where there is none; it stays the same from then on, so
    that an image that comes again is drawn again, or again not."""
    present = seed(connection, space_id)
    if present is not None:
        return present
    made = os.urandom(_SEED_BYTES)
    row = {"space_id": space_id, "collecting": False, "seed": made, "missed": 0}
    connection.execute(insert(ReviewState), [row])
    return made


def set_collecting(connection: Connection, space_id: int, collecting: bool) -> None:
    """Store whether the space collects."""
    make(connection, space_id)
    connection.execute(update(ReviewState).where(_of(space_id)).values(collecting=collecting))


def add_missed(connection: Connection, space_id: int, number: int) -> None:
    """Count images that were drawn and found no room."""
    more = update(ReviewState).where(_of(space_id))
    connection.execute(more.values(missed=ReviewState.missed + number))


def _of(space_id: int) -> ColumnElement[bool]:
    return ReviewState.space_id == space_id
