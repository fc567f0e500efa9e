"""Quarantine: where a repair puts damaged rows, so that nothing is deleted that nobody asked to
delete."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, select, update

from trustvlm.catalog.rows import originals
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.bulk import delete_among
from trustvlm.catalog.store.models import PURGING, Change, Label, Observation
from trustvlm.catalog.store.side_models import Quarantine
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow, Unreadable
from trustvlm.types.verification import QuarantinedRow

_BLOBS = {
    "label": ("text_prototype", ""),
    "support": ("embedding", "classifier_embedding"),
    "thumbnail": ("jpeg", ""),
    "observation": ("classifier_embedding", "verifier_embedding"),
    "review": ("classifier_embedding", "verifier_embedding"),
}
_PARENTS = {"thumbnail": "support", "support data": "support", "label data": "label"}
"""Rows that have the number of the row that they belong to."""


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

    A support image takes its thumbnail along, and either its attributes. The support images of a
    label must be gone.

    Args:
        revision: the revision from which the change log says that the row is gone; None: of a space
            that is gone itself.
    """
    key = int(row[stored_rows.key_of(kind)])
    if kind == "support":
        for picture in stored_rows.by_ids(connection, "thumbnail", [key]):
            move(connection, "thumbnail", picture, f"of support image {key}: {reason}", space_id)
        _let_go(connection, key, row)
    if kind in ("label", "support"):
        for described in stored_rows.by_ids(connection, f"{kind} data", [key]):
            why = f"of {kind} {key}: {reason}"
            move(connection, f"{kind} data", described, why, space_id)
    values = _values(connection, kind, key, row) | {"reason": reason, "space_id": space_id}
    if isinstance(row, Unreadable):
        values["reason"] = f"{reason}; nothing but its number could be read"
    connection.execute(insert(Quarantine).values(**values))
    if revision is not None and kind in ("label", "support"):
        created = _integer(row.get("created_revision"))
        change = {
            "space_id": space_id, "kind": kind, "row_id": key, "label_id": values["label_id"] or 0,
            "created_revision": created if created in range(revision) else 0, "revision": revision,
        }  # fmt: skip
        connection.execute(insert(Change).values(**change))
    stored_rows.delete_row(connection, kind, key)


def _values(connection: Connection, kind: str, key: int, row: StoredRow) -> dict[str, Any]:
    """The columns of the row in quarantine that follow from the damaged one."""
    owner = row
    if (parent := _PARENTS.get(kind)) is not None:
        owner = next(iter(stored_rows.by_ids(connection, parent, [key])), row)
    first, second = _BLOBS.get(kind, ("", ""))
    # Prototypes are derived from support images; a review item can be judged without its picture.
    left_out = (first, second, "prototype", *(["thumbnail"] if kind == "review" else []))
    return {
        "kind": kind,
        "row_id": key,
        "label_id": key if kind.startswith("label") else _integer(owner.get("label_id")),
        "content_hash": _bytes(owner.get("content_hash")),
        "content": {name: _json(value) for name, value in row.items() if name not in left_out},
        "first": _bytes(row.get(first)),
        "second": _bytes(row.get(second)),
        "removed_at": _time(owner.get("removed_at")),
        "quarantined_at": clock.stamp(connection),
    }


def _let_go(connection: Connection, support_id: int, row: StoredRow) -> None:
    """Take a support image out of the rows that count or name it."""
    promoted = update(Observation).where(Observation.support_id == support_id)
    connection.execute(promoted.values(support_id=None))
    # A label that was removed together with the image can be restored without it.
    together = (Label.id == row.get("label_id"), Label.support_count > 0)
    removed = Label.removed_revision == row.get("removed_revision")
    fewer = {"support_count": Label.support_count - 1}
    connection.execute(update(Label).where(*together, removed).values(**fewer))


def count(connection: Connection, space_id: int | None = None) -> int:
    """How many rows are in quarantine, of one space or in all."""
    query = _of_space(select(func.count()).select_from(Quarantine), space_id)
    return connection.scalar(query) or 0


def list_rows(
    connection: Connection, spaces: Mapping[int, str], limit: int, space_id: int | None = None
) -> tuple[QuarantinedRow, ...]:
    """Up to `limit` rows in quarantine, the newest first; `spaces`: names by id."""
    table = Quarantine
    query = select(
        table.id, table.space_id, table.kind, table.row_id, table.content, table.reason,
        table.quarantined_at,
    )  # fmt: skip
    rows = []
    query = _of_space(query, space_id).order_by(table.id.desc()).limit(limit)
    for number, space, kind, row_id, content, reason, since in connection.execute(query):
        name = content.get("name") or content.get("source")
        name = None if name is None else str(name)
        rows.append(QuarantinedRow(number, spaces.get(space), kind, row_id, name, reason, since))
    return tuple(rows)


def _of_space(query: Select[Any], space_id: int | None) -> Select[Any]:
    return query if space_id is None else query.where(Quarantine.space_id == space_id)


def discard(
    connection: Connection, condition: ColumnElement[bool], limit: int | None = None
) -> int:
    """Delete up to `limit` rows for good; how many went. The kept originals of support images among
    them go with the next look at what to delete."""
    rows = connection.execute(
        select(Quarantine.id, Quarantine.kind, Quarantine.row_id).where(condition).limit(limit)
    ).all()
    originals.release(connection, [row.row_id for row in rows if row.kind == "support"])
    delete_among(connection, Quarantine.id, [row.id for row in rows])
    return len(rows)


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
