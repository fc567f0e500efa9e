"""Attributes of labels and support images in the catalog: JSON by the id of their owner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, cast

import numpy as np
from sqlalchemy import Connection, Select, bindparam, delete, func, insert, literal, select
from sqlalchemy.orm import InstrumentedAttribute

from trustvlm.catalog.store.bulk import delete_among, insert_rows, rows_among
from trustvlm.catalog.store.models import Label, Support
from trustvlm.catalog.store.side_models import (
    IndexedKey,
    LabelAttributes,
    ReembedRow,
    SupportAttributes,
)
from trustvlm.types.arrays import Int64s

Kind = Literal["label", "support"]
LABELS: Kind = "label"
SUPPORTS: Kind = "support"

_TABLES: dict[Kind, Any] = {"label": LabelAttributes, "support": SupportAttributes}
_EMPTY = "{}"
_BATCH = 4_096

of_label = (
    select(LabelAttributes.content).where(LabelAttributes.label_id == Label.id).scalar_subquery()
)
"""The attributes of the label of a row, as a column."""
of_support = (
    select(SupportAttributes.content)
    .where(SupportAttributes.support_id == Support.id)
    .scalar_subquery()
)


def _owner(kind: Kind) -> InstrumentedAttribute[int]:
    return cast(InstrumentedAttribute[int], getattr(_TABLES[kind], f"{kind}_id"))


def add(
    connection: Connection,
    kind: Kind,
    space_id: int,
    revision: int,
    contents: Mapping[int, str | None],
) -> None:
    """Store the attributes of new labels or support images; None: without any."""
    rows = [
        {f"{kind}_id": owner, "space_id": space_id, "revision": revision, "content": content}
        for owner, content in contents.items()
        if content is not None
    ]
    insert_rows(connection, _TABLES[kind], rows)


def put(
    connection: Connection,
    kind: Kind,
    space_id: int,
    revision: int,
    contents: Mapping[int, str | None],
) -> None:
    """Store these attributes in place of those that there are; None or {} takes them away."""
    owner = _owner(kind)
    stored = {row[0] for row in rows_among(connection, select(owner), owner, list(contents))}
    delete_among(connection, owner, sorted(stored))
    full = {key: content or _EMPTY for key, content in contents.items()}
    kept = {key: text for key, text in full.items() if text != _EMPTY or key in stored}
    add(connection, kind, space_id, revision, kept)


def contents(connection: Connection, kind: Kind, ids: Sequence[int]) -> dict[int, str]:
    """Id → attributes as JSON, of those of these labels or support images that have some."""
    owner = _owner(kind)
    query = select(owner, _TABLES[kind].content)
    rows = rows_among(connection, query, owner, ids)
    return {row[0]: row[1] for row in rows if row[1] != _EMPTY}


def changed(
    connection: Connection, kind: Kind, space_id: int, since: int
) -> Iterator[list[tuple[int, str]]]:
    """(id, attributes as JSON) of what changed after revision `since`, in order of id, in batches;
    "{}" where they were taken away."""
    query = _OF_SPACE[kind] if since == 0 else _SINCE[kind]
    values = {"space": space_id} | ({"since": since} if since else {})
    rows = connection.execution_options(yield_per=_BATCH).execute(query, values)
    for some in rows.partitions():
        yield [(row[0], row[1]) for row in some]


def _changed(kind: Kind) -> Select[Any]:
    table, owner = _TABLES[kind], _owner(kind)
    return select(owner, table.content).where(table.space_id == bindparam("space")).order_by(owner)


_OF_SPACE: dict[Kind, Select[Any]] = {kind: _changed(kind) for kind in (LABELS, SUPPORTS)}
_SINCE: dict[Kind, Select[Any]] = {
    kind: _changed(kind).where(_TABLES[kind].revision > bindparam("since"))
    for kind in (LABELS, SUPPORTS)
}


def first_of(connection: Connection, kind: Kind, space_id: int, limit: int) -> list[str]:
    """Attributes as JSON of the first labels or support images of the space that have any."""
    query = _OF_SPACE[kind].limit(limit)
    return [row[1] for row in connection.execute(query, {"space": space_id})]


def any_in(connection: Connection, kind: Kind, space_id: int) -> bool:
    """Whether a label or support image of the space has, or had, attributes."""
    query = select(literal(1)).where(_TABLES[kind].space_id == space_id).limit(1)
    return connection.scalar(query) is not None


def owners(connection: Connection, space_id: int, since: int) -> tuple[Int64s, Int64s]:
    """(n,) ids and label ids of the live support images of a space that changed after revision
    `since`; with 0, of all."""
    if since == 0:  # from indexes alone: the rows hold vectors
        query = select(Support.id, Support.label_id).join(Label, Label.id == Support.label_id)
        query = query.where(Label.space_id == space_id, Support.removed_revision.is_(None))
    else:
        query = select(Support.id, Support.label_id)
        query = query.where(Support.space_id == space_id, Support.revision > since)
    rows = connection.execute(query).all()
    table = np.array([tuple(row) for row in rows], np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def indexed_keys(connection: Connection, space_id: int) -> list[str]:
    """The indexed keys of a space, in order."""
    query = select(IndexedKey.key).where(IndexedKey.space_id == space_id)
    return sorted(connection.scalars(query))


def add_indexed_key(connection: Connection, space_id: int, key: str) -> None:
    """Index one more key."""
    connection.execute(insert(IndexedKey).values(space_id=space_id, key=key))


def remove_indexed_key(connection: Connection, space_id: int, key: str) -> bool:
    """Index a key no longer; whether it was."""
    condition = (IndexedKey.space_id == space_id, IndexedKey.key == key)
    return bool(connection.execute(delete(IndexedKey).where(*condition)).rowcount)


def copy_attributes(
    connection: Connection, reembed_id: int, source_id: int, target_id: int, revision: int
) -> None:
    """Give the rows of the space `target_id` the attributes of the rows of the space `source_id`
    whose counterparts they are, and its indexed keys; of two images that became one, those of the
    older one."""
    for kind, table in _TABLES.items():
        connection.execute(delete(table).where(table.space_id == target_id))
        owner = getattr(table, f"{kind}_id")
        pairs = (
            select(func.min(ReembedRow.source_id).label("source"), ReembedRow.staged_id)
            .where(ReembedRow.reembed_id == reembed_id, ReembedRow.kind == kind)
            .group_by(ReembedRow.staged_id)
            .subquery()
        )
        rows = select(pairs.c.staged_id, literal(target_id), literal(revision), table.content).join(
            pairs, pairs.c.source == owner
        )
        of_source = rows.where(table.space_id == source_id)
        columns = [owner.name, "space_id", "revision", "content"]
        connection.execute(insert(table).from_select(columns, of_source))
    connection.execute(delete(IndexedKey).where(IndexedKey.space_id == target_id))
    keys = select(literal(target_id), IndexedKey.key).where(IndexedKey.space_id == source_id)
    connection.execute(insert(IndexedKey).from_select(["space_id", "key"], keys))
