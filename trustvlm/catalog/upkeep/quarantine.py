"""Quarantine: where a repair puts damaged rows, so that nothing is deleted that nobody asked to
delete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, func, insert, or_, select

from trustvlm.catalog.rows import originals
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import PURGING, Change, Quarantine
from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.raw import Raw, Unreadable

__all__ = [
    "QuarantineRow",
    "count",
    "list_rows",
    "move",
    "purge",
    "purge_contents",
    "purge_labels",
    "purge_of_space",
]

_BLOBS = {
    "label": ("text_prototype", None),
    "support": ("embedding", "classifier_embedding"),
    "thumbnail": ("jpeg", None),
    "observation": ("classifier_embedding", "verifier_embedding"),
}
_LEFT_OUT = ("prototype",)  # derived from support images: a copy here would outlive them


@dataclass(frozen=True)
class QuarantineRow:
    """What is listed of a row in quarantine. `name` is that of a label, or where a support image
    came from."""

    id: int
    kind: str
    row_id: int
    space_id: int | None
    label_id: int | None
    name: str | None
    reason: str
    quarantined_at: datetime


def move(
    connection: Connection,
    kind: str,
    row: Raw,
    reason: str,
    *,
    space_id: int | None,
    owner: Raw | None = None,
) -> None:
    """Put a row into quarantine and delete it where it was; its references must be gone, and it
    refers to nothing any more.

    Args:
        owner: the support image that a thumbnail belongs to.
    """
    key = int(row[raw.key_of(kind)])
    first, second = _BLOBS.get(kind, (None, None))
    belongs = row if owner is None else owner
    blobs = {name: row.get(name) for name in (first, second) if name is not None}
    kept = {name: value for name, value in row.items() if name not in (*blobs, *_LEFT_OUT)}
    values = {
        "kind": kind, "row_id": key, "space_id": space_id,
        "label_id": key if kind == "label" else _integer(belongs.get("label_id")),
        "content_hash": _bytes(belongs.get("content_hash")),
        "reason": reason if not isinstance(row, Unreadable) else f"{reason}; nothing but its "
                                                                 f"number could be read",
        "content": {name: _json(value) for name, value in kept.items()},
        "first": _bytes(blobs.get(first or "")), "second": _bytes(blobs.get(second or "")),
        "removed_at": _time(belongs.get("removed_at")), "quarantined_at": clock.stamp(connection),
    }  # fmt: skip
    connection.execute(insert(Quarantine).values(**values))
    raw.discard(connection, kind, [key])


def log_gone(connection: Connection, kind: str, row: Raw, space_id: int, revision: int) -> None:
    """Remember, as a purge does, that a support image or label is gone since `revision`."""
    key = int(row["id"])
    created = _integer(row.get("created_revision"))
    label_id = key if kind == "label" else _integer(row.get("label_id"))
    values = {
        "space_id": space_id, "kind": kind, "row_id": key, "label_id": label_id or 0,
        "created_revision": created if created is not None and 0 <= created < revision else 0,
        "revision": revision,
    }  # fmt: skip
    connection.execute(insert(Change).values(**values))


def count(connection: Connection, space_id: int | None = None) -> int:
    """How many rows are in quarantine, of one space or in all."""
    query = select(func.count()).select_from(Quarantine)
    return (
        connection.scalar(
            query if space_id is None else query.where(Quarantine.space_id == space_id)
        )
        or 0
    )


def list_rows(
    connection: Connection, limit: int, space_id: int | None = None
) -> list[QuarantineRow]:
    """Up to `limit` rows in quarantine, the newest first."""
    columns = (
        Quarantine.id,
        Quarantine.kind,
        Quarantine.row_id,
        Quarantine.space_id,
        Quarantine.label_id,
    )
    query = select(*columns, Quarantine.content, Quarantine.reason, Quarantine.quarantined_at)
    if space_id is not None:
        query = query.where(Quarantine.space_id == space_id)
    found = []
    for row in connection.execute(query.order_by(Quarantine.id.desc()).limit(limit)):
        name = row.content.get("name") or row.content.get("source")
        of = (row.id, row.kind, row.row_id, row.space_id, row.label_id)
        found.append(
            QuarantineRow(*of, None if name is None else str(name), row.reason, row.quarantined_at)
        )
    return found


def purge(connection: Connection, before: datetime, limit: int, *, everything: bool) -> int:
    """Delete up to `limit` rows that had been removed before `before`; with `everything`, also
    those that were in use until they were quarantined before then. How many went."""
    gone = Quarantine.removed_at <= before
    if everything:
        gone = or_(gone, and_(Quarantine.removed_at.is_(None), Quarantine.quarantined_at <= before))
    ids = list(connection.scalars(select(Quarantine.id).where(gone).limit(limit)))
    _delete(connection, Quarantine.id.in_(ids))
    return len(ids)


def purge_labels(connection: Connection, label_ids: Sequence[int]) -> None:
    """Delete what is in quarantine of labels that are being purged."""
    _delete(connection, Quarantine.label_id.in_(label_ids))


def purge_contents(connection: Connection, contents: Sequence[tuple[int, bytes]]) -> None:
    """Delete what is in quarantine of images that are being purged, given as (space id, content
    hash)."""
    for space_id in {space_id for space_id, _ in contents}:
        hashes = [content for of, content in contents if of == space_id]
        _delete(
            connection, and_(Quarantine.space_id == space_id, Quarantine.content_hash.in_(hashes))
        )


def purge_of_space(connection: Connection, space_id: int, limit: int) -> int:
    """Delete up to `limit` rows of a space that is being purged; how many went."""
    ids = list(
        connection.scalars(
            select(Quarantine.id).where(Quarantine.space_id == space_id).limit(limit)
        )
    )
    _delete(connection, Quarantine.id.in_(ids))
    return len(ids)


def _delete(connection: Connection, gone: ColumnElement[bool]) -> None:
    """Delete these rows; the kept originals of support images among them go with the next look at
    what to delete."""
    images = connection.scalars(select(Quarantine.row_id).where(gone, Quarantine.kind == "support"))
    originals.release(connection, list(images))
    connection.execute(delete(Quarantine).where(gone))


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and -(2**63) <= value < 2**63 else None


def _bytes(value: Any) -> bytes | None:
    return value if value is None or isinstance(value, bytes) else str(value).encode()


def _json(value: Any) -> Any:
    """`value` as JSON holds it: bytes that are text as text, others in hexadecimal."""
    if not isinstance(value, bytes):
        return value
    with suppress(UnicodeDecodeError):
        return value.decode()
    return f"hex:{value.hex()}"


def _time(value: Any) -> datetime | None:
    """When a row was removed; a time that cannot be read is long ago, so that what was removed goes
    soon."""
    if value is None:
        return None
    with suppress(ValueError):
        return datetime.fromisoformat(value.decode()).replace(tzinfo=UTC)
    return PURGING
