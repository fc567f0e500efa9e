"""Records, by content hash, which support images have their image file kept. The service keeps the
files (:mod:`trustvlm.service.home.originals`)."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from trustvlm.catalog.store.bulk import rows_among
from trustvlm.catalog.store.models import CatalogState, Support
from trustvlm.catalog.store.side_models import Original


def folder_id(connection: Connection) -> str | None:
    """The id of the shared folder that is the catalog's own; None: it has none."""
    identity: str | None = connection.scalar(select(CatalogState.originals_id))
    return identity


def take_folder(connection: Connection) -> str:
    """Let the catalog have a shared folder of its own; its id, which is the catalog's epoch."""
    connection.execute(update(CatalogState).values(originals_id=CatalogState.epoch))
    return str(folder_id(connection))


def refer(connection: Connection, label_ids: Sequence[int], contents: Collection[bytes]) -> int:
    """Record that the live support images of these labels with these content hashes have their
    original kept; how many are new."""
    query = select(Support.id, Support.content_hash).where(
        Support.removed_revision.is_(None),
        ~select(Original.id).where(Original.support_id == Support.id).exists(),
    )
    fresh = [
        {"support_id": row.id, "content_hash": row.content_hash}
        for row in rows_among(connection, query, Support.label_id, label_ids)
        if row.content_hash in contents
    ]
    if fresh:
        connection.execute(insert(Original), fresh)
    return len(fresh)


def release(connection: Connection, support_ids: Sequence[int]) -> None:
    """Record that these support images are being deleted: an original without any is deleted too
    (see :func:`doomed`)."""
    connection.execute(
        update(Original).where(Original.support_id.in_(support_ids)).values(support_id=None)
    )


def any_doomed(connection: Connection) -> bool:
    """Whether a row is released, so that a file may have to be deleted."""
    released = select(Original.id).where(Original.support_id.is_(None)).limit(1)
    return connection.scalar(released) is not None


def doomed(connection: Connection, limit: int) -> tuple[list[int], list[bytes]]:
    """(ids of up to `limit` released rows, content hashes of those that no support image refers to
    any more)."""
    rows = connection.execute(
        select(Original.id, Original.content_hash).where(Original.support_id.is_(None)).limit(limit)
    ).all()
    contents = sorted({row.content_hash for row in rows})
    wanted = referred(connection, contents)
    return [row.id for row in rows], [content for content in contents if content not in wanted]


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """Delete released rows, after their files are deleted."""
    connection.execute(delete(Original).where(Original.id.in_(ids)))


def referred(connection: Connection, contents: Sequence[bytes]) -> set[bytes]:
    """Those of the content hashes whose original is that of a support image."""
    query = select(Original.content_hash).where(Original.support_id.is_not(None))
    rows = rows_among(connection, query, Original.content_hash, contents)
    return {row.content_hash for row in rows}
