"""Support images in the catalog: immutable rows that come, are hidden, and are purged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, or_, select, update
from sqlalchemy.orm import aliased

from trustvlm.catalog.rows.labels import canonical, groups, name_of
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.bulk import insert_rows
from trustvlm.catalog.store.models import Label, Support, Thumbnail
from trustvlm.catalog.store.vectors import checksum, pack, unpack, verify_checksums
from trustvlm.types import SupportRow
from trustvlm.types.arrays import Float32s, Int64s

__all__ = [
    "NewSupport",
    "SupportChange",
    "as_of",
    "at_most",
    "changed",
    "count",
    "details",
    "embeddings",
    "find_alive",
    "find_removed",
    "hashes",
    "hidden_with_label",
    "ids_in",
    "ids_of_hashes",
    "insert_many",
    "list_group",
    "list_rows",
    "remove",
    "remove_of_label",
    "restore",
    "restore_of_label",
    "sample",
    "sample_vectors",
    "smallest_content",
    "thumbnail",
    "vectors",
]

_IN_CHUNK = 500

# Made once: see trustvlm.catalog.rows.labels.
_INSERTED = select(Support.label_id, Support.content_hash, Support.id).where(
    Support.space_id == bindparam("space"),
    Support.revision == bindparam("at"),
    Support.created_revision == bindparam("at"),
)
_HASHES = select(Support.label_id, Support.content_hash).where(
    Support.label_id.in_(bindparam("ids", expanding=True)), Support.removed_revision.is_(None)
)
_SMALLEST_CONTENT = select(func.min(Support.content_hash)).where(
    Support.label_id.in_(bindparam("ids", expanding=True)), Support.removed_revision.is_(None)
)


@dataclass(frozen=True)
class NewSupport:
    """A support image about to be inserted."""

    content_hash: bytes
    source: str | None
    embedding: Float32s
    classifier_embedding: Float32s | None
    thumbnail: bytes | None


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
    """Insert (label id, support image) pairs; their ids in the same order."""
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
                "classifier_embedding": other,
            }
        )  # fmt: skip
    insert_rows(connection, Support, rows)  # not RETURNING: see labels.insert_many
    inserted = connection.execute(_INSERTED, {"space": space_id, "at": revision})
    found = {(row.label_id, row.content_hash): row.id for row in inserted}
    ids = [found[label_id, support.content_hash] for label_id, support in supports]
    pictures = [
        {"support_id": support_id, "jpeg": support.thumbnail}
        for support_id, (_, support) in zip(ids, supports, strict=True)
        if support.thumbnail is not None
    ]
    if pictures:
        insert_rows(connection, Thumbnail, pictures)
    return ids


def hashes(connection: Connection, label_ids: Sequence[int]) -> set[tuple[int, bytes]]:
    """(label id, content hash) of the live support images of these labels."""
    found: set[tuple[int, bytes]] = set()
    for start in range(0, len(label_ids), _IN_CHUNK):
        rows = connection.execute(_HASHES, {"ids": list(label_ids[start : start + _IN_CHUNK])})
        found.update((row.label_id, row.content_hash) for row in rows)
    return found


def ids_of_hashes(
    connection: Connection, space_id: int, contents: Sequence[bytes]
) -> dict[bytes, int]:
    """Content hash → id of a live support image of the space with that content."""
    found: dict[bytes, int] = {}
    for start in range(0, len(contents), _IN_CHUNK):
        query = select(Support.content_hash, Support.id).where(
            Support.space_id == space_id,
            Support.content_hash.in_(contents[start : start + _IN_CHUNK]),
            Support.removed_revision.is_(None),
        )
        found.update({row.content_hash: row.id for row in connection.execute(query)})
    return found


def ids_in(connection: Connection, label_ids: Sequence[int]) -> dict[tuple[int, bytes], int]:
    """(label id, content hash) → id of the live support images of these labels."""
    found: dict[tuple[int, bytes], int] = {}
    for start in range(0, len(label_ids), _IN_CHUNK):
        query = select(Support.label_id, Support.content_hash, Support.id).where(
            Support.label_id.in_(label_ids[start : start + _IN_CHUNK]),
            Support.removed_revision.is_(None),
        )
        found.update(
            {(row.label_id, row.content_hash): row.id for row in connection.execute(query)}
        )
    return found


def embeddings(
    connection: Connection, label_ids: Sequence[int], dim: int
) -> tuple[Int64s, list[bytes], Float32s]:
    """(label ids, content hashes, raw embeddings) of the live support images of these labels, per
    label in hash order.

    Images of a label's aliases are the label's; one that two of them share counts once.
    """
    canonical = groups(connection, label_ids)
    found: dict[tuple[int, bytes], bytes] = {}
    members = list(canonical)
    for start in range(0, len(members), _IN_CHUNK):
        chunk = members[start : start + _IN_CHUNK]
        vectors = (Support.checksum, Support.embedding, Support.classifier_embedding)
        query = select(Support.id, Support.label_id, Support.content_hash, *vectors).where(
            Support.label_id.in_(chunk), Support.removed_revision.is_(None)
        )
        rows = connection.execute(query.order_by(Support.label_id, Support.content_hash)).all()
        verify_checksums(
            "support image",
            [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in rows],
        )
        found |= {(canonical[row.label_id], row.content_hash): row.embedding for row in rows}
    keys = sorted(found)
    owners = np.array([label_id for label_id, _ in keys], dtype=np.int64)
    return owners, [content for _, content in keys], unpack([found[key] for key in keys], dim)


def sample(connection: Connection, space_id: int, limit: int) -> list[tuple[int, bytes]]:
    """(label id, content hash) of the up to `limit` live support images whose content hash is
    smallest."""
    columns = (func.coalesce(Label.alias_of, Label.id).label("owner"), Support.content_hash)
    query = select(*columns).join(Label, Label.id == Support.label_id)
    alive = (Support.space_id == space_id, Support.removed_revision.is_(None))
    rows = connection.execute(query.where(*alive).order_by(Support.content_hash).limit(limit))
    return list(dict.fromkeys((row.owner, row.content_hash) for row in rows))


def sample_vectors(
    connection: Connection, space_id: int, limit: int, dim: int, *, classifier: bool = False
) -> tuple[Int64s, Float32s]:
    """(label ids, (n, dim) raw embeddings) of the up to `limit` live support images whose content
    hash is smallest.

    With `classifier`, their classifier embeddings; images that have none are left out.

    Raises:
        Damaged: an embedding does not match its checksum.
    """
    columns = (
        Support.id,
        Support.label_id,
        Support.checksum,
        Support.embedding,
        Support.classifier_embedding,
    )
    query = select(*columns).where(Support.space_id == space_id, Support.removed_revision.is_(None))
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    rows = connection.execute(query.order_by(Support.content_hash).limit(limit)).all()
    verify_checksums(
        "support image", [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in rows]
    )
    blobs = [row.classifier_embedding if classifier else row.embedding for row in rows]
    return np.array([row.label_id for row in rows], dtype=np.int64), unpack(blobs, dim)


def smallest_content(connection: Connection, label_ids: Sequence[int]) -> bytes | None:
    """The smallest content hash of the live support images of these labels and their aliases; None
    without any."""
    return connection.scalar(_SMALLEST_CONTENT, {"ids": list(groups(connection, label_ids))})


def find_alive(connection: Connection, space_id: int, ids: Sequence[int]) -> dict[int, int]:
    """id → label id of those of `ids` that are live support images of this space."""
    found: dict[int, int] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        query = select(Support.id, Support.label_id).where(
            Support.id.in_(ids[start : start + _IN_CHUNK]),
            Support.space_id == space_id,
            Support.removed_revision.is_(None),
        )
        found.update({row.id: row.label_id for row in connection.execute(query)})
    return found


def remove(connection: Connection, ids: Sequence[int], revision: int) -> None:
    """Hide support images; their rows stay until a purge."""
    values = {
        "removed_revision": revision,
        "removed_at": clock.stamp(connection),
        "revision": revision,
    }
    for start in range(0, len(ids), _IN_CHUNK):
        connection.execute(
            update(Support).where(Support.id.in_(ids[start : start + _IN_CHUNK])).values(**values)
        )


def find_removed(connection: Connection, space_id: int, ids: Sequence[int]) -> dict[int, int]:
    """id → label id of those of `ids` that are removed support images of live labels of this
    space."""
    found: dict[int, int] = {}
    for start in range(0, len(ids), _IN_CHUNK):
        query = select(Support.id, Support.label_id).join(Label, Label.id == Support.label_id)
        removed = (
            Support.removed_revision.is_not(None),
            Label.removed_revision.is_(None),
            Support.space_id == space_id,
        )
        rows = connection.execute(
            query.where(Support.id.in_(ids[start : start + _IN_CHUNK]), *removed)
        )
        found.update({row.id: row.label_id for row in rows})
    return found


def hidden(connection: Connection, space_id: int, ids: Sequence[int]) -> list[int]:
    """Those of `ids` that are removed support images of this space, by themselves or with their
    label."""
    found: list[int] = []
    for start in range(0, len(ids), _IN_CHUNK):
        removed = (Support.removed_revision.is_not(None), Support.space_id == space_id)
        found += connection.scalars(
            select(Support.id).where(Support.id.in_(ids[start : start + _IN_CHUNK]), *removed)
        )
    return found


def restore(connection: Connection, ids: Sequence[int], revision: int) -> None:
    """Show hidden support images again."""
    values = _shown(revision)
    for start in range(0, len(ids), _IN_CHUNK):
        connection.execute(
            update(Support).where(Support.id.in_(ids[start : start + _IN_CHUNK])).values(**values)
        )


def hidden_with_label(
    connection: Connection, label_id: int, removed_revision: int, dim: int
) -> Float32s:
    """(n, dim) raw embeddings, in content-hash order, of the support images that were removed
    together with their label."""
    columns = (Support.id, Support.checksum, Support.embedding, Support.classifier_embedding)
    hidden = (Support.label_id == label_id, Support.removed_revision == removed_revision)
    rows = connection.execute(select(*columns).where(*hidden).order_by(Support.content_hash)).all()
    verify_checksums(
        "support image", [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in rows]
    )
    return unpack([row.embedding for row in rows], dim)


def remove_of_label(connection: Connection, label_id: int, revision: int) -> None:
    """Hide all support images of a label that is being removed."""
    values = {
        "removed_revision": revision,
        "removed_at": clock.stamp(connection),
        "revision": revision,
    }
    connection.execute(
        update(Support)
        .where(Support.label_id == label_id, Support.removed_revision.is_(None))
        .values(**values)
    )


def restore_of_label(
    connection: Connection, label_id: int, removed_revision: int, revision: int
) -> int:
    """Show again the support images that were hidden together with their label; how many."""
    condition = (Support.label_id == label_id, Support.removed_revision == removed_revision)
    return connection.execute(update(Support).where(*condition).values(**_shown(revision))).rowcount


def _shown(revision: int) -> dict[str, Any]:
    """The values of a row that is shown again: it remembers between which revisions it was
    hidden."""
    hidden = {"hidden_from": Support.removed_revision, "hidden_until": revision}
    return hidden | {"removed_revision": None, "removed_at": None, "revision": revision}


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
    columns = (
        Support.id,
        Support.source,
        Support.checksum,
        Support.embedding,
        Support.classifier_embedding,
    )
    then = (
        Support.label_id.in_(label_ids),
        Support.created_revision <= revision,
        or_(Support.removed_revision.is_(None), Support.removed_revision > revision),
        or_(
            Support.hidden_from.is_(None),
            Support.hidden_from > revision,
            Support.hidden_until <= revision,
        ),
    )
    query = select(*columns).where(*then).order_by(Support.id)
    rows = connection.execute(
        query if space_id is None else query.where(Support.space_id == space_id)
    ).all()
    verify_checksums(
        "support image", [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in rows]
    )
    return (
        [row.id for row in rows],
        [row.source for row in rows],
        unpack([row.embedding for row in rows], dim),
    )


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
    """The support images whose row changed after revision `since`, in batches.

    With `classifier`, their classifier embeddings; images that have none are left out. Unless
    `checked`, embeddings may be damaged, and those of another length are left out: good enough to
    find what is then read checked.
    """
    columns = (
        Support.id,
        Support.checksum,
        Support.embedding,
        Support.classifier_embedding,
        Support.removed_revision,
    )
    query = (
        select(*columns)
        .where(Support.space_id == space_id, Support.revision > since)
        .order_by(Support.id)
    )
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    if since == 0:
        query = query.where(Support.removed_revision.is_(None))
    for rows in connection.execution_options(yield_per=batch).execute(query).partitions():
        alive = [row for row in rows if row.removed_revision is None]
        if checked:
            verify_checksums(
                "support image",
                [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in alive],
            )
        else:
            alive = [row for row in alive if len(row.embedding) == 4 * dim]
        blobs = [row.classifier_embedding if classifier else row.embedding for row in alive]
        removed = [row.id for row in rows if row.removed_revision is not None]
        yield SupportChange([row.id for row in alive], unpack(blobs, dim), removed)


def count(connection: Connection, space_id: int, *, classifier: bool = False) -> int:
    """How many live support images a space has; with `classifier`, of those with a classifier
    embedding."""
    query = select(func.count()).where(
        Support.space_id == space_id, Support.removed_revision.is_(None)
    )
    if classifier:
        query = query.where(Support.classifier_embedding.is_not(None))
    return connection.scalar(query) or 0


def at_most(connection: Connection, space_id: int, most: int) -> bool:
    """Whether a space has at most so many live support images."""
    live = (
        select(Support.id)
        .where(Support.space_id == space_id, Support.removed_revision.is_(None))
        .limit(most + 1)
    )
    return (connection.scalar(select(func.count()).select_from(live.subquery())) or 0) <= most


def vectors(
    connection: Connection, space_id: int, ids: Sequence[int], dim: int
) -> tuple[Int64s, Float32s]:
    """(label ids, raw embeddings (n, dim)) of those of a few `ids` that are live support images of
    this space."""
    columns = (
        Support.id,
        Support.label_id,
        Support.checksum,
        Support.embedding,
        Support.classifier_embedding,
    )
    alive = (Support.id.in_(ids), Support.space_id == space_id, Support.removed_revision.is_(None))
    rows = connection.execute(select(*columns).where(*alive).order_by(Support.id)).all()
    verify_checksums(
        "support image", [(r.id, r.checksum, (r.embedding, r.classifier_embedding)) for r in rows]
    )
    return np.array([row.label_id for row in rows], dtype=np.int64), unpack(
        [row.embedding for row in rows], dim
    )


def details(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """id → (label name, source) of support images; those of a further name are the label's."""
    found: dict[int, tuple[str, str | None]] = {}
    main = aliased(Label)
    named = func.coalesce(main.name, Label.name).label("name")
    for start in range(0, len(ids), _IN_CHUNK):
        query = select(Support.id, named, Support.source).join(Label, Label.id == Support.label_id)
        query = query.outerjoin(main, main.id == Label.alias_of)
        for row in connection.execute(query.where(Support.id.in_(ids[start : start + _IN_CHUNK]))):
            found[row.id] = (row.name, row.source)
    return found


def list_rows(connection: Connection, label_id: int) -> list[SupportRow]:
    """The live support images of a label, in order of id."""
    query = select(Support.id, Label.name, Support.source, Support.revision).join(
        Label, Label.id == Support.label_id
    )
    alive = (Support.label_id == label_id, Support.removed_revision.is_(None))
    return [
        SupportRow(*row) for row in connection.execute(query.where(*alive).order_by(Support.id))
    ]


def list_group(connection: Connection, label_id: int) -> list[SupportRow]:
    """The live support images of a label and of its further names, in order of id; asked of a
    further name, the same."""
    main = canonical(connection, [label_id])[label_id]
    rows = [row for member in groups(connection, [main]) for row in list_rows(connection, member)]
    name = name_of(connection, main)
    under = (
        replace(row, label=name, registered_as=None if row.label == name else row.label)
        for row in rows
    )
    return sorted(under, key=lambda row: row.id)


def thumbnail(connection: Connection, support_id: int) -> bytes | None:
    """The JPEG thumbnail of a support image; None where it came as a vector or is gone."""
    return connection.scalar(select(Thumbnail.jpeg).where(Thumbnail.support_id == support_id))
