"""Labels that changed since a revision: what a cache follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, func, select

from trustvlm.catalog.store.models import Label
from trustvlm.catalog.store.vectors import unpack, verify_checksums
from trustvlm.types.arrays import Float32s

_OF_SPACE = Label.space_id == bindparam("space")
_LIVE = Label.removed_revision.is_(None)
_SINCE = Label.revision > bindparam("since")

# Made once: see trustvlm.catalog.rows.labels.
_COLUMNS = select(
    Label.id,
    Label.name,
    Label.alias_of,
    Label.checksum,
    Label.text_prototype,
    Label.prototype,
    Label.removed_revision,
).where(_OF_SPACE)
_ALL = _COLUMNS.where(_LIVE).order_by(Label.id)
# As the index of revisions has them: by id alone, SQLite would sort the rows with their vectors.
_CHANGED = _COLUMNS.where(_SINCE).order_by(Label.revision, Label.id)
_BRIEF = (
    select(Label.id, Label.name_hash, Label.support_count)
    .add_columns(Label.created_revision, Label.removed_revision)
    .where(_OF_SPACE, _SINCE)
    .limit(bindparam("most"))
)
_CHANGED_MORE = (
    select(Label.id)
    .where(_OF_SPACE, _SINCE)
    .order_by(Label.revision)
    .limit(1)
    .offset(bindparam("beyond"))
)


@dataclass(frozen=True)
class LabelChange:
    """Labels changed since a revision, as arrays: what a cache applies.

    Attributes:
        ids, names: of the labels that are alive; text: (n, d_t) text prototypes.
        prototyped: positions of those that have a prototype; prototypes: (m, d_v).
        aliases: (alias id, id of its label) of those among `ids` that are aliases.
        removed: ids of removed labels.
    """

    ids: list[int]
    names: list[str]
    text: Float32s
    prototyped: list[int]
    prototypes: Float32s
    aliases: list[tuple[int, int]]
    removed: list[int]


class ChangedLabel(NamedTuple):
    """A label that was created, changed or removed, and is not purged."""

    id: int
    name_hash: int
    support_count: int
    created_revision: int
    removed_revision: int | None

    @property
    def has_prototype(self) -> bool:
        """Whether it is alive and has support images."""
        return self.support_count > 0 and self.removed_revision is None


def changed_few(
    connection: Connection, space_id: int, since: int, limit: int
) -> list[ChangedLabel] | None:
    """The labels whose row changed after revision `since`, without their vectors; None where they
    are more than `limit`."""
    values = {"space": space_id, "since": since, "most": limit + 1}
    rows = connection.execute(_BRIEF, values).all()
    return None if len(rows) > limit else [ChangedLabel(*row) for row in rows]


def changed(
    connection: Connection, space_id: int, since: int, dims: tuple[int, int], *, batch: int = 512
) -> Iterator[LabelChange]:
    """The labels whose row changed after revision `since`, by revision and id, in batches; with
    `since` 0 all live ones, by id. `dims` are those of text and image vectors.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    query = _CHANGED if since else _ALL  # a new cache has nothing to drop
    values = {"space": space_id, "since": since}
    for rows in connection.execute(
        query, values, execution_options={"yield_per": batch}
    ).partitions():
        alive = [row for row in rows if row[-1] is None]
        # By columns: with all labels of a large space, attributes of rows take longer than vectors.
        columns = list(zip(*alive, strict=True)) or [()] * 7
        ids, names, canonical, checksums, texts, images, _ = columns
        vectors = zip(texts, images, strict=True)
        verify_checksums("label", list(zip(ids, checksums, vectors, strict=True)))
        prototyped = [i for i, image in enumerate(images) if image is not None]
        yield LabelChange(
            ids=list(ids),
            names=list(names),
            text=unpack(texts, dims[0]),
            prototyped=prototyped,
            prototypes=unpack([images[i] for i in prototyped], dims[1]),
            aliases=[(i, of) for i, of in zip(ids, canonical, strict=True) if of is not None],
            removed=[row[0] for row in rows if row[-1] is not None],
        )


def changed_more_than(connection: Connection, space_id: int, since: int, limit: int) -> bool:
    """Whether more than `limit` labels changed after revision `since`; reads no more than that, in
    the index of revisions."""
    values = {"space": space_id, "since": since, "beyond": limit}
    return connection.scalar(_CHANGED_MORE, values) is not None


def totals(connection: Connection, space_id: int) -> tuple[int, int]:
    """How many live labels the space has, and how many of them have a prototype."""
    labels = select(func.count()).where(Label.space_id == space_id, _LIVE)
    prototyped = labels.where(Label.support_count > 0)
    return connection.execute(labels).scalar_one(), connection.execute(prototyped).scalar_one()
