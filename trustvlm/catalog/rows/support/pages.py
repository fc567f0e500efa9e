"""Support images as they are listed: those of a label, and page by page in order of their ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Row, Select, select
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.attributes.rows import of_support
from trustvlm.catalog.store.bulk import rows_among
from trustvlm.catalog.store.models import Label, Support
from trustvlm.catalog.store.vectors import unpack, vector, verified
from trustvlm.types import SupportRow
from trustvlm.types.arrays import Float32s
from trustvlm.types.attributes.values import attributes_of

_LIVE = Support.removed_revision.is_(None)
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


def ids_after(connection: Connection, space_id: int, after: int, limit: int | None) -> list[int]:
    """Ids above `after` of up to `limit` live support images of a space, ascending."""
    # The sum keeps databases off the indexes of spaces, which would sort all rows for each page.
    query = select(Support.id).where(Support.space_id + 0 == space_id, _LIVE, Support.id > after)
    return list(connection.scalars(query.order_by(Support.id).limit(limit)))


def ids_of_label(connection: Connection, label_id: int) -> list[int]:
    """Ids of the live support images of a label and its aliases, ascending; of an alias, those of
    its label."""
    canonical_id = labels.canonical(connection, [label_id])[label_id]
    members = list(labels.groups(connection, [canonical_id]))
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
