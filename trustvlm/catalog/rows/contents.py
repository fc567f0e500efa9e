"""Support images by their content: which label has an image, which label had it, and all that a
space has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, select

from trustvlm.catalog.rows import labels
from trustvlm.catalog.store.bulk import in_order, rows_among, slices
from trustvlm.catalog.store.models import Label, Support
from trustvlm.types.registration import KnownImage


class LabelledContent(NamedTuple):
    """A support image with its label."""

    id: int
    label_id: int
    label: str
    content_hash: bytes
    source: str | None


class NamedLabel(NamedTuple):
    """A live label; `alias_of`: the id of the label that it is an alias of."""

    id: int
    name: str
    alias_of: int | None


_COLUMNS = (
    Support.id,
    Support.label_id,
    Label.name.label("label"),
    Support.content_hash,
    Support.source,
)
_LIVE = (
    select(*_COLUMNS)
    .join(Label, Label.id == Support.label_id)
    .where(Support.removed_revision.is_(None))
)
# Made once: see trustvlm.catalog.rows.labels.
_HOLDERS = _LIVE.where(
    Support.space_id == bindparam("space"),
    Support.content_hash.in_(bindparam("contents", expanding=True)),
)


def taken_out(
    connection: Connection, label_ids: Sequence[int], present: Set[tuple[int, bytes]]
) -> dict[tuple[int, bytes], int]:
    """(label id, content hash) → id of the support images of these labels that were removed and not
    purged or added again.

    Args:
        present: (label id, content hash) of the live ones.
    """
    query = select(Support.id, Support.label_id, Support.content_hash)
    removed = query.where(Support.removed_revision.is_not(None))
    rows = in_order(rows_among(connection, removed, Support.label_id, label_ids))
    ids = {(row.label_id, row.content_hash): row.id for row in rows}
    return {key: support_id for key, support_id in ids.items() if key not in present}


def every(connection: Connection, space_id: int) -> list[LabelledContent]:
    """All live support images of a space, by id."""
    rows = connection.execute(_LIVE.where(Support.space_id == space_id).order_by(Support.id))
    return [LabelledContent(*row) for row in rows]


def labels_of(connection: Connection, space_id: int) -> list[NamedLabel]:
    """All live labels of a space, by id."""
    query = select(Label.id, Label.name, Label.alias_of).where(
        Label.space_id == space_id, Label.removed_revision.is_(None)
    )
    return [NamedLabel(*row) for row in connection.execute(query.order_by(Label.id))]


def elsewhere(
    connection: Connection, space_id: int, images: Mapping[str, Mapping[bytes, str | None]]
) -> list[KnownImage]:
    """The images that are support images of another label, too, and were that first; an alias is no
    other label.

    Args:
        images: label name → content hash → name of the image in the call.
    """
    contents = {content for of_label in images.values() for content in of_label}
    holders = _holders(connection, space_id, sorted(contents))
    shared = {
        name: of_label
        for name, of_label in images.items()
        if any(row.label != name for content in of_label for row in holders.get(content, ()))
    }
    if not shared:
        return []
    records = labels.find_many(connection, space_id, list(shared))
    label_ids = {record.id for record in records.values()}
    label_ids |= {row.label_id for rows in holders.values() for row in rows}
    canonical = labels.canonical(connection, sorted(label_ids))
    twins = []
    for name, of_label in shared.items():
        label_id = records[name].id if name in records else -1
        for content, source in of_label.items():
            held = holders.get(content, [])
            first = min((row.id for row in held if row.label_id == label_id), default=None)
            others = [row for row in held if canonical[row.label_id] != canonical.get(label_id)]
            if others and (first is None or others[0].id < first):
                twins.append(KnownImage(source, name, others[0].label, others[0].id))
    return twins


def _holders(
    connection: Connection, space_id: int, contents: Sequence[bytes]
) -> dict[bytes, list[Row[*tuple[Any, ...]]]]:
    """Content hash → the live support images of the space with that content, by id."""
    holders = dict[bytes, list[Row[*tuple[Any, ...]]]]()
    for row in in_order(
        row
        for some in slices(contents)
        for row in connection.execute(_HOLDERS, {"space": space_id, "contents": list(some)})
    ):
        holders.setdefault(row.content_hash, []).append(row)
    return holders
