"""Support images of labels with both embeddings, what is shown of them, and how they are listed:
those of a label, and page by page in order of their ids."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows.attributes.rows import of_support
from trustvlm.catalog.rows.labels import canonical, groups
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.bulk import rows_among, update_among
from trustvlm.catalog.store.models import Label, Support, Thumbnail
from trustvlm.catalog.store.vectors import unpack, vector, verified
from trustvlm.types import SupportRow
from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.attributes.values import attributes_of

_LIVE = Support.removed_revision.is_(None)
_IMAGES = select(
    Support.id, Support.label_id, Support.content_hash, Support.checksum, Support.embedding,
    Support.classifier_embedding,
).where(_LIVE)  # fmt: skip
_SHOWN = (
    select(Support.id, Label.name, Support.source, Support.kept, Support.proposed)
    .add_columns(Thumbnail.support_id.is_not(None).label("pictured"))
    .join(Label, Label.id == Support.label_id)
    .outerjoin(Thumbnail, Thumbnail.support_id == Support.id)
)


_MAIN = aliased(Label)
_COLUMNS: Select[Any] = (
    select(
        Support.id, Label.name, _MAIN.name.label("main"), Support.source, Support.revision,
        Support.proposed, Support.kept, of_support.label("described"),
    )
    .join(Label, Label.id == Support.label_id)
    .outerjoin(_MAIN, _MAIN.id == Label.alias_of)
    .where(_LIVE)
)  # fmt: skip
_EMBEDDINGS = select(
    Support.id, Support.checksum, Support.embedding, Support.classifier_embedding
).where(_LIVE)


class LabelImages(NamedTuple):
    """The n live support images of some labels, label by label, those of aliases included.

    Attributes:
        owners: (n,) ids of the labels. ids: (n,) of the images. hashes: of their contents.
        verifier: (n, d_v) raw embeddings. classifier: (n, d_t) raw ones; rows of NaN where none is
            stored.
    """

    owners: Int64s
    ids: Int64s
    hashes: list[bytes]
    verifier: Float64s
    classifier: Float64s


class Shown(NamedTuple):
    """What is shown of a support image; `label`: the one that it is registered under."""

    id: int
    label: str
    source: str | None
    kept: bool
    proposed: bool
    pictured: bool


def of_labels(
    connection: Connection, label_ids: Sequence[int], dims: tuple[int, int], *, same: bool
) -> LabelImages:
    """The images of some labels; one that two aliases share counts once.

    Args:
        dims: of the space's classifier and verifier. same: both are one encoder.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    owner_of = groups(connection, label_ids)
    rows = verified(
        "support image", list(rows_among(connection, _IMAGES, Support.label_id, list(owner_of)))
    )
    first: dict[tuple[int, bytes], Row[*tuple[Any, ...]]] = {}
    for row in sorted(rows, key=lambda row: (owner_of[row.label_id], row.content_hash, row.id)):
        first.setdefault((owner_of[row.label_id], row.content_hash), row)
    images = list(first.values())
    verifier = unpack([row.embedding for row in images], dims[1]).astype(np.float64)
    classifier = verifier if same else np.full((len(images), dims[0]), np.nan)
    stored = [] if same else [
        place for place, row in enumerate(images) if row.classifier_embedding is not None
    ]  # fmt: skip
    if stored:
        blobs = [images[place].classifier_embedding for place in stored]
        classifier[stored] = unpack(blobs, dims[0])
    return LabelImages(
        np.array([owner for owner, _ in first], dtype=np.int64),
        np.array([row.id for row in images], dtype=np.int64),
        [content for _, content in first],
        verifier,
        classifier,
    )


def complete(connection: Connection, space_id: int) -> bool:
    """Every live support image of a space has a classifier embedding."""
    without = select(Support.id).where(
        Support.space_id == space_id, _LIVE, Support.classifier_embedding.is_(None)
    )
    return connection.execute(without.limit(1)).first() is None


def shown(connection: Connection, ids: Sequence[int]) -> Mapping[int, Shown]:
    """Id → what is shown of a support image."""
    return {
        row.id: Shown(
            row.id, row.name, row.source, bool(row.kept), bool(row.proposed), row.pictured
        )
        for row in rows_among(connection, _SHOWN, Support.id, ids)
    }


def kept(connection: Connection, space_id: int) -> set[int]:
    """Ids of the live support images that a person said are right."""
    return set(
        connection.scalars(
            select(Support.id).where(Support.space_id == space_id, _LIVE, Support.kept.is_not(None))
        )
    )


def mark_kept(connection: Connection, ids: Iterable[int], value: bool) -> None:
    """Store that a person said that these support images are right, or take that back."""
    update_among(connection, Support.id, list(ids), {"kept": True if value else None})


def proposed(
    connection: Connection, space_id: int, label_id: int | None = None
) -> list[tuple[int, int]]:
    """(id, label id) of the live support images that were proposed, by id; of one label or all."""
    query = select(Support.id, Support.label_id).where(
        Support.space_id == space_id, _LIVE, Support.proposed.is_not(None)
    )
    if label_id is not None:
        query = query.where(Support.label_id == label_id)
    return [(row.id, row.label_id) for row in connection.execute(query.order_by(Support.id))]


def marks_in(connection: Connection, space_id: int) -> list[str]:
    """Which of the marks "kept" and "proposed" live support images of a space have."""
    columns = {"kept": Support.kept, "proposed": Support.proposed}
    return [
        name
        for name, column in columns.items()
        if connection.scalar(
            select(Support.id)
            .where(Support.space_id == space_id, _LIVE, column.is_not(None))
            .limit(1)
        )
    ]


def ids_of(connection: Connection, label_id: int) -> dict[bytes, int]:
    """Content hash → id of the live support images of a label, those of aliases left out."""
    query = select(Support.content_hash, Support.id).where(Support.label_id == label_id, _LIVE)
    return {content: number for content, number in connection.execute(query)}


def copies(connection: Connection, ids: Sequence[int], dims: tuple[int, int]) -> list[NewSupport]:
    """Support images as they would be inserted again, in the order of `ids`; `dims`: of the space's
    classifier and verifier.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    columns = (Support, Thumbnail.jpeg, of_support.label("described"))
    query = select(*columns).outerjoin(Thumbnail, Thumbnail.support_id == Support.id)
    rows = {row.id: row for row in rows_among(connection, query, Support.id, ids)}
    verified("support image", list(rows.values()))
    return [_copy(rows[one], dims) for one in ids]


def _copy(row: Row[*tuple[Any, ...]], dims: tuple[int, int]) -> NewSupport:
    return NewSupport(
        content_hash=row.content_hash,
        source=row.source,
        embedding=unpack([row.embedding], dims[1])[0],
        classifier_embedding=vector(row.classifier_embedding, dims[0]),
        thumbnail=row.jpeg,
        proposed=bool(row.proposed),
        attributes=row.described,
    )


def few_labels(connection: Connection, space_id: int, few: int) -> set[int]:
    """Ids of the labels with fewer than `few` support images, aliases left out."""
    query = select(Label.id).where(
        Label.space_id == space_id,
        Label.removed_revision.is_(None),
        Label.alias_of.is_(None),
        Label.support_count < few,
    )
    return set(connection.scalars(query))


def ids_after(connection: Connection, space_id: int, after: int, limit: int | None) -> list[int]:
    """Ids above `after` of up to `limit` live support images of a space, ascending."""
    # The sum keeps databases off the indexes of spaces, which would sort all rows for each page.
    query = select(Support.id).where(Support.space_id + 0 == space_id, _LIVE, Support.id > after)
    return list(connection.scalars(query.order_by(Support.id).limit(limit)))


def ids_of_label(connection: Connection, label_id: int) -> list[int]:
    """Ids of the live support images of a label and its aliases, ascending; of an alias, those of
    its label."""
    canonical_id = canonical(connection, [label_id])[label_id]
    members = list(groups(connection, [canonical_id]))
    query = select(Support.id).where(_LIVE)
    return sorted(row.id for row in rows_among(connection, query, Support.label_id, members))


def embeddings(
    connection: Connection, ids: Sequence[int], dims: tuple[int, int]
) -> dict[int, tuple[Float32s, Float32s | None]]:
    """Id → (verifier embedding, classifier embedding or None), raw, of those of these support
    images that are live; `dims`: of the space's classifier and verifier.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    rows = list(rows_among(connection, _EMBEDDINGS, Support.id, ids))
    return {
        row.id: (unpack([row.embedding], dims[1])[0], vector(row.classifier_embedding, dims[0]))
        for row in verified("support image", rows)
    }


def rows_of(
    connection: Connection, ids: Sequence[int], dims: tuple[int, int] | None = None
) -> list[SupportRow]:
    """Those of these support images that are live, in the order of `ids`; with `dims`, with their
    embeddings, see :func:`embeddings`."""
    rows = {row.id: _row(row) for row in rows_among(connection, _COLUMNS, Support.id, ids)}
    listed = [rows[one] for one in ids if one in rows]
    if dims is None:
        return listed
    stored = embeddings(connection, list(rows), dims)
    return [_with(row, *stored[row.id]) for row in listed]


def _row(row: Row[*tuple[Any, ...]]) -> SupportRow:
    return SupportRow(
        row.id,
        row.main or row.name,
        row.source,
        row.revision,
        None if row.main is None else row.name,
        attributes_of(row.described),
        bool(row.proposed),
        bool(row.kept),
    )


def _with(row: SupportRow, image: Float32s, classifier: Float32s | None) -> SupportRow:
    numbers = None if classifier is None else tuple(classifier.tolist())
    return replace(row, image_vector=tuple(image.tolist()), classifier_image_vector=numbers)
