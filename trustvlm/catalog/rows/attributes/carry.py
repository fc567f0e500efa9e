"""Attributes that go along when a space gets other encoders."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, func, insert, literal, select

from trustvlm.catalog.rows.attributes.rows import LABELS, SUPPORTS, Kind
from trustvlm.catalog.store.attributes import IndexedKey, LabelAttributes, SupportAttributes
from trustvlm.catalog.store.upkeep_models import ReembedRow

_TABLES: dict[Kind, Any] = {LABELS: LabelAttributes, SUPPORTS: SupportAttributes}


def copy_attributes(
    connection: Connection, reembed_id: int, source_id: int, target_id: int, revision: int
) -> None:
    """Give the rows of the space `target_id` the attributes of the rows of the space `source_id`
    whose counterparts they are, and its indexed keys; of two images that became one, those of the
    older one."""
    for kind, table in _TABLES.items():
        connection.execute(delete(table).where(table.space_id == target_id))
        owner = getattr(table, f"{kind}_id")
        pairs = (
            select(func.min(ReembedRow.source_id).label("source"), ReembedRow.staged_id)
            .where(ReembedRow.reembed_id == reembed_id, ReembedRow.kind == kind)
            .group_by(ReembedRow.staged_id)
            .subquery()
        )
        rows = select(pairs.c.staged_id, literal(target_id), literal(revision), table.content).join(
            pairs, pairs.c.source == owner
        )
        of_source = rows.where(table.space_id == source_id)
        columns = [owner.name, "space_id", "revision", "content"]
        connection.execute(insert(table).from_select(columns, of_source))
    connection.execute(delete(IndexedKey).where(IndexedKey.space_id == target_id))
    keys = select(literal(target_id), IndexedKey.key).where(IndexedKey.space_id == source_id)
    connection.execute(insert(IndexedKey).from_select(["space_id", "key"], keys))
