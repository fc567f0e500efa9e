"""Which support images have their image file kept, by content hash. The files themselves are the
service's."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from trustvlm.catalog.store.models import Original, Support

__all__ = ["copy", "doomed", "forget", "known", "refer", "release"]

_IN_CHUNK = 500


def refer(connection: Connection, label_ids: Sequence[int], contents: Collection[bytes]) -> int:
    """Note that the live support images of these labels and content hashes have their original
    kept; how many are new."""
    fresh = []
    for start in range(0, len(label_ids), _IN_CHUNK):
        query = select(Support.id, Support.content_hash).where(
            Support.label_id.in_(label_ids[start : start + _IN_CHUNK]),
            Support.removed_revision.is_(None),
            ~select(Original.id).where(Original.support_id == Support.id).exists(),
        )
        fresh += [
            {"support_id": row.id, "content_hash": row.content_hash}
            for row in connection.execute(query)
            if row.content_hash in contents
        ]
    if fresh:
        connection.execute(insert(Original), fresh)
    return len(fresh)


def copy(connection: Connection, stands_for: Sequence[tuple[int, int]]) -> None:
    """Let the second support image of each pair have the original that the first one has, if it has
    one."""
    of = dict(stands_for)
    ids = list(of)
    for start in range(0, len(ids), _IN_CHUNK):
        query = select(Original.support_id, Original.content_hash).where(
            Original.support_id.in_(ids[start : start + _IN_CHUNK])
        )
        rows = {of[row.support_id]: row.content_hash for row in connection.execute(query)}
        if rows:
            there = set(
                connection.scalars(
                    select(Original.support_id).where(Original.support_id.in_(list(rows)))
                )
            )
            fresh = [
                {"support_id": new, "content_hash": content}
                for new, content in rows.items()
                if new not in there
            ]
            if fresh:
                connection.execute(insert(Original), fresh)


def release(connection: Connection, support_ids: Sequence[int]) -> None:
    """Note that these support images are being deleted: what is left without any is to be deleted
    too (see :func:`doomed`)."""
    connection.execute(
        update(Original).where(Original.support_id.in_(support_ids)).values(support_id=None)
    )


def doomed(connection: Connection, limit: int) -> tuple[list[int], list[bytes]]:
    """(ids of up to `limit` released rows, content hashes of those that no support image refers to
    any more)."""
    rows = connection.execute(
        select(Original.id, Original.content_hash).where(Original.support_id.is_(None)).limit(limit)
    ).all()
    contents = sorted({row.content_hash for row in rows})
    wanted = known(connection, contents)
    return [row.id for row in rows], [content for content in contents if content not in wanted]


def forget(connection: Connection, ids: Sequence[int]) -> None:
    """Delete released rows, after the files they named are gone."""
    connection.execute(delete(Original).where(Original.id.in_(ids)))


def known(connection: Connection, contents: Sequence[bytes]) -> set[bytes]:
    """Those of the content hashes whose original some support image refers to."""
    found: set[bytes] = set()
    for start in range(0, len(contents), _IN_CHUNK):
        query = select(Original.content_hash).where(
            Original.content_hash.in_(contents[start : start + _IN_CHUNK]),
            Original.support_id.is_not(None),
        )
        found.update(connection.scalars(query))
    return found
