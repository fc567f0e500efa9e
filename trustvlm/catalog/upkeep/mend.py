"""Writing damaged rows right: only `verify --repair` does, and only what it can prove."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select, update
from sqlalchemy.exc import IntegrityError

from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import Label, Observation, Space, Support, Thumbnail
from trustvlm.catalog.store.vectors import checksum
from trustvlm.catalog.upkeep import raw
from trustvlm.errors import Damaged

__all__ = [
    "clamp_revisions",
    "drop_fit",
    "has_parent",
    "has_thumbnail",
    "set_name",
    "set_prototype",
    "unlink_observations",
]


def set_prototype(
    connection: Connection,
    label_id: int,
    revision: int,
    text: bytes,
    prototype: bytes | None,
    support_count: int,
) -> None:
    """Store a label's packed prototype and count beside the text prototype `text`, which the caller
    found right."""
    values = {
        "prototype": prototype, "support_count": support_count, "checksum": checksum(text,
        prototype), "revision": revision,
    }  # fmt: skip
    connection.execute(update(Label).where(Label.id == label_id).values(**values))


def set_name(
    connection: Connection,
    label_id: int,
    revision: int,
    name: str,
    name_hash: int,
    text_source: str,
) -> None:
    """Store a label's name, its hash, and where its text came from. Raises Damaged where another
    label has the name."""
    values = {
        "name": name,
        "name_hash": name_hash,
        "text_source": text_source,
        "revision": revision,
    }
    try:
        connection.execute(update(Label).where(Label.id == label_id).values(**values))
    except IntegrityError as error:
        raise Damaged(
            f"label {label_id} should be called {name!r}, as another label is: {error.orig}"
        ) from error


def clamp_revisions(
    connection: Connection, kind: str, row: Mapping[str, Any], revision: int
) -> None:
    """Give a label or support image revisions that can be: changed now, created and removed no
    later."""
    table: Any = {"label": Label, "support": Support}[kind]
    removed = row["removed_revision"] is not None
    created = row["created_revision"]
    created = created if isinstance(created, int) and 1 <= created <= revision else revision
    values: dict[str, Any] = {
        "created_revision": created,
        "revision": revision,
        "removed_revision": revision if removed else None,
    }
    values["removed_at"] = clock.stamp(connection) if removed else None
    if kind == "support":
        values |= {"hidden_from": None, "hidden_until": None}
    connection.execute(update(table).where(table.id == row["id"]).values(**values))


def has_thumbnail(connection: Connection, support_id: int) -> bool:
    """Whether a support image has a thumbnail."""
    return (
        connection.scalar(select(Thumbnail.support_id).where(Thumbnail.support_id == support_id))
        is not None
    )


def unlink_observations(connection: Connection, support_id: int) -> None:
    """Observations that became this support image did not, as far as anybody can tell."""
    connection.execute(
        update(Observation).where(Observation.support_id == support_id).values(support_id=None)
    )


def drop_fit(connection: Connection, space_id: int) -> None:
    """Delete the fit of a space: it is computed anew."""
    raw.discard(connection, "fit", [space_id])


def has_parent(connection: Connection, kind: str, row: Mapping[str, Any]) -> bool:
    """Whether the space (of a thumbnail: the support image) that a row belongs to is there."""
    if kind == "thumbnail":
        return (
            connection.scalar(select(Support.id).where(Support.id == row["support_id"])) is not None
        )
    return connection.scalar(select(Space.id).where(Space.id == row["space_id"])) is not None
