"""Labels as they are listed: page by page in the order of their ids, their names or their number of
support images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, exists, select
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.attributes.rows import of_label
from trustvlm.catalog.store.bulk import rows_among
from trustvlm.catalog.store.models import UNVERIFIED, Label, Space, Support, Thumbnail, TreeEdge
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.store.side_models import LabelAttributes
from trustvlm.catalog.store.vectors import unpack, vector, verified
from trustvlm.types import LabelRow
from trustvlm.types.arrays import Float32s
from trustvlm.types.attributes.values import attributes_of

_BEYOND = "\U0010ffff"  # sorts behind everything that a name may go on with

_CANONICAL = aliased(Label)
_OTHER = select(_CANONICAL.name).where(_CANONICAL.id == Label.alias_of).scalar_subquery()
_PARENT = (
    select(TreeEdge.parent)
    .where(TreeEdge.space_id == Label.space_id, TreeEdge.child == Label.name)
    .scalar_subquery()
)
_PLAIN_COLUMNS = (
    Label.id, Label.name, Label.prompt, Label.support_count, Label.revision, _OTHER,
)  # fmt: skip
_PLAIN: Select[Any] = select(*_PLAIN_COLUMNS)
_COLUMNS = _PLAIN.add_columns(of_label, _PARENT)
_SPACE = bindparam("space", type_=Label.space_id.type)
_BY_ID = {
    columns: columns.where(
        Label.space_id == _SPACE, Label.id > bindparam("after"), Label.removed_revision.is_(None)
    )
    .order_by(Label.id)
    .limit(bindparam("most"))
    for columns in (_PLAIN, _COLUMNS)
}
_HAS_MORE = select(
    exists(LabelAttributes.label_id).where(LabelAttributes.space_id == _SPACE)
    | exists(TreeEdge.child).where(TreeEdge.space_id == _SPACE)
)


def _columns(connection: Connection, space_id: int) -> Select[Any]:
    """What is read of each label: in a space without attributes and taxonomy neither of these, as
    each would be looked for label by label."""
    return _COLUMNS if connection.scalar(_HAS_MORE, {"space": space_id}) else _PLAIN


def _label_rows(rows: Sequence[Sequence[Any]]) -> list[LabelRow]:
    """The labels of rows that all have the columns of one :func:`_columns`."""
    if rows and len(rows[0]) == len(_PLAIN_COLUMNS):
        return [LabelRow(*row) for row in rows]
    return [
        LabelRow(key, name, prompt, count, revision, canonical, attributes_of(text), parent)
        for key, name, prompt, count, revision, canonical, text, parent in rows
    ]


def label_page_by_id(
    connection: Connection, space_id: int, after: int, limit: int
) -> list[LabelRow]:
    """Up to `limit` live labels with ids above `after`, in order of id."""
    query = _BY_ID[_columns(connection, space_id)]
    values = {"space": space_id, "after": after, "most": limit}
    return _label_rows(connection.execute(query, values).all())


def label_page(
    connection: Connection,
    space_id: int,
    *,
    after: str | None,
    limit: int,
    prefix: str | None = None,
    contains: str | None = None,
    unverified: bool = False,
) -> list[LabelRow]:
    """Up to `limit` live labels whose name sorts behind `after`, by name.

    A prefix is a range of the index of names. What names contain (ASCII letters alike in both
    cases) is looked for in that index, name by name, until the page is full.
    """
    names = (
        select(Label.id)
        .where(Label.space_id == space_id, Label.removed_revision.is_(None))
        .order_by(Label.name)
    )
    if after is not None:
        names = names.where(Label.name > after)
    if prefix:
        prefix = normal(prefix)
        names = names.where(Label.name >= prefix, Label.name < prefix + _BEYOND)
    if contains:
        names = names.where(Label.name.icontains(normal(contains), autoescape=True))
    if unverified:
        names = names.where(UNVERIFIED)
    ids = list(connection.scalars(names.limit(limit)))
    # By id alone, and put in order here: asked for the order of names, SQLite goes through all
    # names to find a page of ids.
    return rows_of(connection, ids, _columns(connection, space_id))


def label_page_by_images(
    connection: Connection, space_id: int, after: tuple[int, int] | None, limit: int
) -> list[LabelRow]:
    """Up to `limit` live labels that come after (number of support images, id): those with the
    most support images first, then newest first. An alias has no support images."""
    of_space = (Label.space_id == space_id, Label.removed_revision.is_(None))
    parts: list[tuple[ColumnElement[bool], ...]] = [()]
    if after is not None:
        count, label_id = after  # two ranges of one index, one after the other
        parts = [
            (Label.support_count == count, Label.id < label_id),
            (Label.support_count < count,),
        ]
    ids = list[int]()
    for part in parts:
        query = select(Label.id).where(*of_space, *part)
        query = query.order_by(Label.support_count.desc(), Label.id.desc())
        ids += connection.scalars(query.limit(limit - len(ids)))
    return rows_of(connection, ids, _columns(connection, space_id))


def rows_of(
    connection: Connection, ids: Sequence[int], columns: Select[Any] = _COLUMNS
) -> list[LabelRow]:
    """Labels that exist as they are listed, in the order of `ids`; `columns`: what is read of
    each, see :func:`_columns`."""
    rows = {row[0]: row for row in rows_among(connection, columns, Label.id, ids)}
    return _label_rows([rows[label_id] for label_id in ids])


def vectors(
    connection: Connection, ids: Sequence[int], dims: tuple[int, int]
) -> dict[int, tuple[Float32s, Float32s | None]]:
    """Id → (text prototype, prototype or None) of these labels; `dims`: of the space's classifier
    and verifier.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    rows = list(rows_among(connection, labels.VECTORS, Label.id, ids))
    return {
        row.id: (unpack([row.text_prototype], dims[0])[0], vector(row.prototype, dims[1]))
        for row in verified("label", rows)
    }


def with_vectors(
    connection: Connection, rows: Sequence[LabelRow], dims: tuple[int, int]
) -> list[LabelRow]:
    """Listed labels with their vectors, see :func:`vectors`."""
    stored = vectors(connection, [row.id for row in rows], dims)
    listed = []
    for row in rows:
        text, image = stored[row.id]
        numbers = None if image is None else tuple(image.tolist())
        listed.append(replace(row, text_vector=tuple(text.tolist()), prototype=numbers))
    return listed


def support_space(connection: Connection, support_id: int) -> str | None:
    """The name of the live space that a live support image belongs to; None: there is no such
    image."""
    query = select(Space.name).join(Support, Support.space_id == Space.id)
    alive = (Support.removed_revision.is_(None), Space.removed_at.is_(None))
    return connection.scalar(query.where(Support.id == support_id, *alive))


def first_supports(
    connection: Connection, label_ids: Sequence[int], most: int
) -> dict[int, list[int]]:
    """label id → ids of its first live support images, at most `most`: a few rows of an index for
    each label."""
    if not most:
        return {}
    query = select(Support.id).where(
        Support.label_id == bindparam("label"), Support.removed_revision.is_(None)
    )
    query = query.order_by(Support.id).limit(most)
    return {label: list(connection.scalars(query, {"label": label})) for label in label_ids}


def with_images(
    connection: Connection, rows: Sequence[LabelRow], most: int
) -> list[tuple[LabelRow, list[int]]]:
    """Listed labels, each with the ids of its first support images, see :func:`first_supports`."""
    first = first_supports(connection, [row.id for row in rows], most)
    return [(row, first.get(row.id, [])) for row in rows]


def aliases_of(connection: Connection, label_id: int) -> list[str]:
    """The further names of a label, by name."""
    others = [member for member in labels.groups(connection, [label_id]) if member != label_id]
    return sorted(row.name for row in rows_of(connection, others))


def sample_supports(connection: Connection, space_id: int, limit: int) -> list[int]:
    """Ids, ascending, of up to `limit` live support images: those whose content hash is smallest,
    which is a random part of them that stays the same while others come and go."""
    alive = (Support.space_id == space_id, Support.removed_revision.is_(None))
    query = select(Support.id).where(*alive).order_by(Support.content_hash).limit(limit)
    return sorted(connection.scalars(query))


def pictured_supports(connection: Connection, ids: Sequence[int]) -> set[int]:
    """Those of these support images that have a thumbnail."""
    rows = rows_among(connection, select(Thumbnail.support_id), Thumbnail.support_id, ids)
    return {row.support_id for row in rows}


def has_classifier_supports(connection: Connection, space_id: int, most: int = 1_000) -> bool:
    """Whether one of the `most` support images that changed longest ago has a classifier
    embedding."""
    oldest = select(Support.classifier_embedding.is_not(None).label("has")).where(
        Support.space_id == space_id, Support.removed_revision.is_(None)
    )
    some = oldest.order_by(Support.revision).limit(most).subquery()
    return connection.scalar(select(some.c.has).where(some.c.has).limit(1)) is not None
