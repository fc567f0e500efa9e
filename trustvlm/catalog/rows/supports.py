"""Support images in the catalog: immutable rows that are added, hidden, and purged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, Select, bindparam, func, or_, select, update
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.catalog.rows.labels import groups
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.bulk import (
    in_order,
    insert_rows,
    inserted_ids,
    rows_among,
    slices,
    update_among,
)
from trustvlm.catalog.store.models import Label, Support, Thumbnail
from trustvlm.catalog.store.vectors import checksum, pack, unpack, verified
from trustvlm.types.arrays import Float32s, Int64s

_LIVE = Support.removed_revision.is_(None)
_REMOVED = Support.removed_revision.is_not(None)
_OWNERS = select(Support.id, Support.label_id)
_VECTORS = select(
    Support.id, Support.label_id, Support.content_hash, Support.source, Support.checksum,
    Support.embedding, Support.classifier_embedding,
)  # fmt: skip

# Made once: see trustvlm.catalog.rows.labels.
_OF_SPACE = Support.space_id == bindparam("space")
_CHANGED = (
    select(Support.id, Support.checksum, Support.embedding, Support.classifier_embedding)
    .add_columns(Support.removed_revision)
    .where(_OF_SPACE, Support.revision > bindparam("since"))
    .order_by(Support.revision, Support.id)  # as the index of revisions has them
)
_INSERTED = select(Support.label_id, Support.content_hash, Support.id).where(
    _OF_SPACE, Support.revision == bindparam("at"), Support.created_revision == bindparam("at")
)
_HASHES = select(Support.label_id, Support.content_hash).where(
    Support.label_id.in_(bindparam("ids", expanding=True)), _LIVE
)
_CONTENTS_SINCE = (
    select(Support.content_hash)
    .where(_OF_SPACE, Support.revision > bindparam("since"), _LIVE)
    .limit(bindparam("most"))
)


@dataclass(frozen=True)
class NewSupport:
    """A support image about to be inserted."""

    content_hash: bytes
    source: str | None
    embedding: Float32s
    classifier_embedding: Float32s | None
    thumbnail: bytes | None
    proposed: bool = False
    attributes: str | None = None
    kept: bool = False


@dataclass(frozen=True)
class SupportChange:
    """Support images changed since a revision: ids and raw embeddings of the live ones, ids of the
    removed ones."""

    ids: list[int]
    embeddings: Float32s
    removed: list[int]


def insert_many(
    connection: Connection, space_id: int, revision: int, supports: Sequence[tuple[int, NewSupport]]
) -> list[int]:
    """Insert (label id, support image) pairs; their ids in the order of `supports`."""
    if not supports:
        return []
    rows = []
    for label_id, support in supports:
        image = pack(support.embedding)
        other = None if support.classifier_embedding is None else pack(support.classifier_embedding)
        rows.append(
            {
                "space_id": space_id, "label_id": label_id, "content_hash": support.content_hash,
                "source": support.source,
                "created_revision": revision, "revision": revision, "removed_revision": None,
                "removed_at": None,
                "checksum": checksum(image, other), "embedding": image,
                "classifier_embedding": other, "kept": support.kept or None,
                "proposed": support.proposed or None,
            }
        )  # fmt: skip
    ids = inserted_ids(connection, Support, rows)
    if ids is None:
        inserted = connection.execute(_INSERTED, {"space": space_id, "at": revision})
        by_content = {(row.label_id, row.content_hash): row.id for row in inserted}
        ids = [by_content[label_id, support.content_hash] for label_id, support in supports]
    pictures = [
        {"support_id": support_id, "jpeg": support.thumbnail}
        for support_id, (_, support) in zip(ids, supports, strict=True)
        if support.thumbnail is not None
    ]
    if pictures:
        insert_rows(connection, Thumbnail, pictures)
    given = {i: one.attributes for i, (_, one) in zip(ids, supports, strict=True) if one.attributes}
    attributes.add(connection, attributes.SUPPORTS, space_id, revision, given)
    return ids


def hashes(connection: Connection, label_ids: Sequence[int]) -> set[tuple[int, bytes]]:
    """(label id, content hash) of the live support images of these labels."""
    return {
        (row.label_id, row.content_hash)
        for ids in slices(label_ids)
        for row in connection.execute(_HASHES, {"ids": list(ids)})
    }


def ids_of_hashes(
    connection: Connection, space_id: int, contents: Sequence[bytes]
) -> dict[bytes, int]:
    """Content hash → id of the newest live support image of the space with that content."""
    of_space = select(Support.id, Support.content_hash).where(Support.space_id == space_id, _LIVE)
    rows = in_order(rows_among(connection, of_space, Support.content_hash, contents))
    return {row.content_hash: row.id for row in rows}


def embeddings(
    connection: Connection, label_ids: Sequence[int], dim: int, *, classifier: bool = False
) -> tuple[Int64s, list[bytes], Float32s]:
    """(label ids, content hashes, raw embeddings) of the live support images of these labels, per
    label in hash order. With `classifier`, classifier embeddings of those that have one.

    Images of a label's aliases are the label's; one that two of them share counts once.
    """
    canonical_ids = groups(connection, label_ids)
    column = "classifier_embedding" if classifier else "embedding"
    rows = rows_among(connection, _VECTORS.where(_LIVE), Support.label_id, list(canonical_ids))
    blobs = {
        (canonical_ids[row.label_id], row.content_hash): blob
        for row in verified("support image", list(rows))
        if (blob := getattr(row, column)) is not None
    }
    keys = sorted(blobs)
    owners = np.array([label_id for label_id, _ in keys], dtype=np.int64)
    return owners, [content for _, content in keys], unpack([blobs[key] for key in keys], dim)


def sample(connection: Connection, space_id: int, limit: int) -> list[tuple[int, bytes]]:
    """(label id, content hash) of up to `limit` live support images: those whose content hash is
    smallest."""
    columns = (func.coalesce(Label.alias_of, Label.id).label("owner"), Support.content_hash)
    query = select(*columns).join(Label, Label.id == Support.label_id)
    rows = connection.execute(
        query.where(Support.space_id == space_id, _LIVE).order_by(Support.content_hash).limit(limit)
    )
    return list(dict.fromkeys((row.owner, row.content_hash) for row in rows))


def sample_vectors(
    connection: Connection, space_id: int, limit: int, dim: int, *, classifier: bool = False
) -> tuple[Int64s, Float32s]:
    """(label ids, (n, dim) raw embeddings) of up to `limit` live support images, chosen as in
    :func:`sample`.

    With `classifier`, their classifier embeddings; images that have none are left out.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    query = _VECTORS.where(Support.space_id == space_id, _LIVE)
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    rows = _verified(connection, query.order_by(Support.content_hash).limit(limit))
    blobs = [row.classifier_embedding if classifier else row.embedding for row in rows]
    return _label_ids(rows), unpack(blobs, dim)


def vectors(
    connection: Connection, space_id: int, ids: Sequence[int], dim: int
) -> tuple[Int64s, Float32s]:
    """(label ids, raw embeddings (n, dim)) of those of a few `ids` that are live support images of
    this space."""
    query = _VECTORS.where(Support.id.in_(ids), Support.space_id == space_id, _LIVE)
    rows = _verified(connection, query.order_by(Support.id))
    return _label_ids(rows), unpack([row.embedding for row in rows], dim)


def _verified(
    connection: Connection, query: Select[*tuple[Any, ...]]
) -> Sequence[Row[*tuple[Any, ...]]]:
    """The support images of a query. Raises Damaged: an embedding does not match its checksum."""
    return verified("support image", connection.execute(query).all())


def _label_ids(rows: Sequence[Row[*tuple[Any, ...]]]) -> Int64s:
    return np.array([row.label_id for row in rows], dtype=np.int64)


def contents_since(
    connection: Connection, space_id: int, since: int, limit: int
) -> list[bytes] | None:
    """The content hashes of the live support images whose row changed after revision `since`; None
    where they are more than `limit`."""
    values = {"space": space_id, "since": since, "most": limit + 1}
    contents = connection.scalars(_CONTENTS_SINCE, values).all()
    return None if len(contents) > limit else list(contents)


def find_alive(connection: Connection, space_id: int, ids: Sequence[int]) -> dict[int, int]:
    """id → label id of those of `ids` that are live support images of this space."""
    rows = rows_among(
        connection, _OWNERS.where(Support.space_id == space_id, _LIVE), Support.id, ids
    )
    return {row.id: row.label_id for row in rows}


def find_removed(
    connection: Connection, space_id: int, ids: Sequence[int], *, of_live_labels: bool = True
) -> dict[int, int]:
    """id → label id of those of `ids` that are removed support images of this space, by default of
    its live labels."""
    query = _OWNERS.where(Support.space_id == space_id, _REMOVED)
    if of_live_labels:
        query = query.join(Label, Label.id == Support.label_id)
        query = query.where(Label.removed_revision.is_(None))
    return {row.id: row.label_id for row in rows_among(connection, query, Support.id, ids)}


def remove(connection: Connection, ids: Sequence[int], revision: int) -> None:
    """Hide support images; their rows stay until a purge."""
    update_among(connection, Support.id, ids, _removal(connection, revision))


def remove_of_labels(connection: Connection, label_ids: Sequence[int], revision: int) -> None:
    """Hide all support images of labels that are being removed."""
    update_among(connection, Support.label_id, label_ids, _removal(connection, revision), _LIVE)


def _removal(connection: Connection, revision: int) -> dict[str, Any]:
    time = clock.stamp(connection)
    return {"removed_revision": revision, "removed_at": time, "revision": revision}


def restore(connection: Connection, ids: Sequence[int], revision: int) -> None:
    """Show hidden support images again."""
    update_among(connection, Support.id, ids, _restoration(revision))


def restore_of_label(
    connection: Connection, label_id: int, removed_revision: int, revision: int
) -> int:
    """Show again the support images that were hidden together with their label; how many."""
    condition = (Support.label_id == label_id, Support.removed_revision == removed_revision)
    restored = update(Support).where(*condition).values(**_restoration(revision))
    return connection.execute(restored).rowcount


def _restoration(revision: int) -> dict[str, Any]:
    """The values of a row that is shown again, with the revisions between which it was hidden."""
    interval = {"hidden_from": Support.removed_revision, "hidden_until": revision}
    return interval | {"removed_revision": None, "removed_at": None, "revision": revision}


def hidden_with_label(
    connection: Connection, label_id: int, removed_revision: int, dim: int
) -> Float32s:
    """(n, dim) raw embeddings, in content-hash order, of the support images that were removed
    together with their label."""
    together = (Support.label_id == label_id, Support.removed_revision == removed_revision)
    rows = _verified(connection, _VECTORS.where(*together).order_by(Support.content_hash))
    return unpack([row.embedding for row in rows], dim)


def as_of(
    connection: Connection,
    label_ids: Sequence[int],
    revision: int,
    dim: int,
    *,
    space_id: int | None = None,
) -> tuple[list[int], list[str | None], Float32s]:
    """(ids, sources, raw embeddings) of these labels' support images as they were at `revision`, if
    not purged since; with `space_id`, of that space's only."""
    query = _VECTORS.where(
        Support.label_id.in_(label_ids),
        Support.created_revision <= revision,
        or_(_LIVE, Support.removed_revision > revision),
        or_(
            Support.hidden_from.is_(None),
            Support.hidden_from > revision,
            Support.hidden_until <= revision,
        ),
    )
    if space_id is not None:
        query = query.where(Support.space_id == space_id)
    rows = _verified(connection, query.order_by(Support.id))
    matrix = unpack([row.embedding for row in rows], dim)
    return [row.id for row in rows], [row.source for row in rows], matrix


def changed(
    connection: Connection,
    space_id: int,
    since: int,
    dim: int,
    *,
    classifier: bool = False,
    batch: int = 4096,
    checked: bool = True,
) -> Iterator[SupportChange]:
    """The support images whose row changed after revision `since`, by revision and id, in batches.

    With `classifier`, their classifier embeddings; images that have none are left out. Unless
    `checked`, embeddings may be damaged, and those of another length are left out: good enough to
    find what is then read checked.
    """
    query = _CHANGED
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    if since == 0:
        query = query.where(_LIVE)
    values = {"space": space_id, "since": since}
    for rows in connection.execution_options(yield_per=batch).execute(query, values).partitions():
        alive: Sequence[Any] = [row for row in rows if row.removed_revision is None]
        if checked:
            verified("support image", alive)
        else:
            alive = [row for row in alive if len(row.embedding) == 4 * dim]
        blobs = [row.classifier_embedding if classifier else row.embedding for row in alive]
        removed = [row.id for row in rows if row.removed_revision is not None]
        yield SupportChange([row.id for row in alive], unpack(blobs, dim), removed)


def count(connection: Connection, space_id: int, *, classifier: bool = False) -> int:
    """How many live support images a space has; with `classifier`, of those with a classifier
    embedding."""
    query = select(func.count()).where(Support.space_id == space_id, _LIVE)
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    return connection.scalar(query) or 0


def details(
    connection: Connection, ids: Sequence[int]
) -> dict[int, tuple[str, str | None, str | None]]:
    """id → (label name, source, attributes as JSON) of support images; those of an alias are its
    label's."""
    main = aliased(Label)
    named = func.coalesce(main.name, Label.name).label("name")
    columns = (Support.id, named, Support.source, attributes.of_support)
    query = select(*columns).join(Label, Label.id == Support.label_id)
    rows = rows_among(connection, query.outerjoin(main, main.id == Label.alias_of), Support.id, ids)
    return {key: (name, source, text) for key, name, source, text in rows}


def thumbnail(connection: Connection, support_id: int) -> bytes | None:
    """The JPEG thumbnail of a support image; None where it came as a vector or is removed."""
    return connection.scalar(select(Thumbnail.jpeg).where(Thumbnail.support_id == support_id))
