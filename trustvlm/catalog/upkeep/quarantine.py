"""Quarantine: where a repair puts damaged rows, so that nothing is deleted that nobody asked to
delete."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from trustvlm.catalog.rows import originals
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import PURGING, Change, Label, Observation, Quarantine
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow, Unreadable

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
    "label": ("text_prototype", ""),
    "support": ("embedding", "classifier_embedding"),
    "thumbnail": ("jpeg", ""),
    "observation": ("classifier_embedding", "verifier_embedding"),
}


@dataclass(frozen=True)
class QuarantineRow:
    """What is listed of a row in quarantine. `name` is that of a label, or where a support image
    came from."""

    name: str | None
    id: int
    kind: str
    row_id: int
    space_id: int | None
    reason: str
    quarantined_at: datetime


def move(
    connection: Connection,
    kind: str,
    row: StoredRow,
    reason: str,
    space_id: int | None,
    *,
    revision: int | None = None,
) -> None:
    """Put a row into quarantine and delete it from its table.

    A support image takes its thumbnail along. The support images of a label must be gone.

    Args:
        revision: the revision from which the change log says that the row is gone; None: of a space
            that is gone itself.
    """
    key, owner = int(row[stored_rows.key_of(kind)]), row
    if kind == "support":
        for picture in stored_rows.by_ids(connection, "thumbnail", [key]):
            move(connection, "thumbnail", picture, f"of support image {key}: {reason}", space_id)
        promoted = update(Observation).where(Observation.support_id == key)
        connection.execute(promoted.values(support_id=None))
        # A label that was removed together with the image can be restored without it.
        together = (Label.id == row.get("label_id"), Label.support_count > 0)
        removed = Label.removed_revision == row.get("removed_revision")
        fewer = {"support_count": Label.support_count - 1}
        connection.execute(update(Label).where(*together, removed).values(**fewer))
    if kind == "thumbnail":
        owner = next(iter(stored_rows.by_ids(connection, "support", [key])), row)
    first, second = _BLOBS.get(kind, ("", ""))
    left_out = (first, second, "prototype")  # prototypes are derived from support images
    content = {name: _json(value) for name, value in row.items() if name not in left_out}
    if isinstance(row, Unreadable):
        reason = f"{reason}; nothing but its number could be read"
    label_id = key if kind == "label" else _integer(owner.get("label_id"))
    values = {
        "kind": kind, "row_id": key, "space_id": space_id, "label_id": label_id,
        "content_hash": _bytes(owner.get("content_hash")), "reason": reason, "content": content,
        "first": _bytes(row.get(first)), "second": _bytes(row.get(second)),
        "removed_at": _time(owner.get("removed_at")), "quarantined_at": clock.stamp(connection),
    }  # fmt: skip
    connection.execute(insert(Quarantine).values(**values))
    if revision is not None and kind in ("label", "support"):
        created = _integer(row.get("created_revision"))
        change = {
            "space_id": space_id, "kind": kind, "row_id": key, "label_id": label_id or 0,
            "created_revision": created if created in range(revision) else 0, "revision": revision,
        }  # fmt: skip
        connection.execute(insert(Change).values(**change))
    stored_rows.delete_row(connection, kind, key)


def count(connection: Connection, space_id: int | None = None) -> int:
    """How many rows are in quarantine, of one space or in all."""
    query = _of_space(select(func.count()).select_from(Quarantine), space_id)
    return connection.scalar(query) or 0


def list_rows(
    connection: Connection, limit: int, space_id: int | None = None
) -> list[QuarantineRow]:
    """Up to `limit` rows in quarantine, the newest first."""
    columns = ("id", "kind", "row_id", "space_id", "reason", "quarantined_at", "content")
    query = _of_space(select(*(getattr(Quarantine, name) for name in columns)), space_id)
    rows = []
    for row in connection.execute(query.order_by(Quarantine.id.desc()).limit(limit)):
        name = row.content.get("name") or row.content.get("source")
        rows.append(QuarantineRow(None if name is None else str(name), *row[:-1]))
    return rows


def _of_space(query: Select[Any], space_id: int | None) -> Select[Any]:
    return query if space_id is None else query.where(Quarantine.space_id == space_id)


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
    ids = list(connection.scalars(_of_space(select(Quarantine.id), space_id).limit(limit)))
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
