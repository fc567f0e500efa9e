"""Rows of whole spaces: the live rows of a space in an order that can be merged, and a new space
that stays invisible until it is filled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Connection, select

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.attributes.rows import of_label, of_support
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import Label, Support, Thumbnail
from trustvlm.catalog.store.vectors import verified
from trustvlm.errors import Conflict, NotFound

IMPORTING = "/importing"
"""Follows the name of a space that is being filled; no space of a user has a "/" in its name."""

_PATIENCE = timedelta(days=7)
"""How long an import may take before its unseen space counts as removed, so that a purge takes what
a crash left behind."""


@dataclass(frozen=True)
class StoredLabel:
    """A live label as it is stored, its vectors packed; `alias_of` is a name."""

    id: int
    name: str
    prompt: str | None
    text_source: str
    alias_of: str | None
    support_count: int
    text_prototype: bytes
    prototype: bytes | None
    attributes: str | None = None


@dataclass(frozen=True)
class StoredSupport:
    """A live support image as it is stored, its vectors packed."""

    id: int
    label_id: int
    content_hash: bytes
    source: str | None
    embedding: bytes
    classifier_embedding: bytes | None
    thumbnail: bytes | None
    attributes: str | None
    kept: bool | None
    proposed: bool | None


def label_rows(
    connection: Connection, space_id: int, batch: int, label_ids: Sequence[int] | None = None
) -> Iterator[list[StoredLabel]]:
    """The live labels of a space, all or those of `label_ids` (500 at most), in order of id, in
    batches.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    other = Label.__table__.alias("other")
    canonical = select(other.c.name).where(other.c.id == Label.alias_of).scalar_subquery()
    columns = (
        Label.id, Label.name, Label.prompt, Label.text_source, canonical, Label.support_count,
        Label.text_prototype,
        Label.prototype, of_label, Label.checksum,
    )  # fmt: skip
    query = (
        select(*columns)
        .where(Label.space_id == space_id, Label.removed_revision.is_(None))
        .order_by(Label.id)
    )
    if label_ids is not None:
        query = query.where(Label.id.in_(label_ids))
    for rows in connection.execute(query, execution_options={"yield_per": batch}).partitions():
        yield [StoredLabel(*row[:-1]) for row in verified("label", rows)]


def label_names(connection: Connection, space_id: int, batch: int) -> Iterator[dict[int, str]]:
    """Id → name of the live labels of a space, in order of id, in batches."""
    alive = (Label.space_id == space_id, Label.removed_revision.is_(None))
    query = select(Label.id, Label.name).where(*alive).order_by(Label.id)
    for rows in connection.execute(query, execution_options={"yield_per": batch}).partitions():
        yield {row.id: row.name for row in rows}


def support_rows(
    connection: Connection, label_ids: Sequence[int], batch: int
) -> Iterator[list[StoredSupport]]:
    """The live support images of these labels (500 at most), label by label in order of id, in
    batches.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    columns = (
        Support.id, Support.label_id, Support.content_hash, Support.source, Support.embedding,
        Support.classifier_embedding, Thumbnail.jpeg, of_support, Support.kept, Support.proposed,
        Support.checksum,
    )  # fmt: skip
    query = select(*columns).outerjoin(Thumbnail, Thumbnail.support_id == Support.id)
    query = query.where(Support.label_id.in_(label_ids), Support.removed_revision.is_(None))
    ordered = query.order_by(Support.label_id, Support.id)
    for rows in connection.execute(ordered, execution_options={"yield_per": batch}).partitions():
        yield [StoredSupport(*row[:-1]) for row in verified("support image", rows)]


def begin(connection: Connection, values: dict[str, Any]) -> SpaceRecord:
    """Make a space that is invisible until :func:`reveal`; otherwise the next purge after
    :data:`_PATIENCE` deletes it.

    Raises:
        Conflict: the name is taken.
    """
    _require_free(connection, values["name"])
    late = clock.stamp(connection) + _PATIENCE
    unseen = values | {"name": values["name"] + IMPORTING}
    return find(connection, spaces.create(connection, unseen, removed_at=late))


def find(connection: Connection, space_id: int) -> SpaceRecord:
    """The space being filled. Raises NotFound: a purge took it."""
    try:
        return spaces.find_by_id(connection, space_id)
    except NotFound as error:
        late = (
            f"the import took longer than {_PATIENCE.days} days, and a purge took what was "
            f"there; begin again"
        )
        raise NotFound(late) from error


def reveal(connection: Connection, space_id: int, name: str) -> None:
    """Give a space that was filled its name, so that it is visible.

    Raises:
        Conflict: the name was taken meanwhile.
    """
    _require_free(connection, name)
    spaces.set_columns(connection, space_id, name=name, removed_at=None)


def _require_free(connection: Connection, name: str) -> None:
    """Raises Conflict when a live space has this name."""
    if spaces.is_taken(connection, name):
        raise Conflict(f"space {name!r} exists already; choose another name")
