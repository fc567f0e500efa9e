"""Attributes of labels and support images that are stored: compared, and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces, supports
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.types.attributes.values import attributes_text
from trustvlm.types.bounds import identifier

__all__ = ["check_stored", "put_label", "update_support"]

UPDATED = "update_label changes them"


def check_stored(connection: Connection, given: Sequence[tuple[LabelRecord, str]]) -> None:
    """Make sure that labels have the attributes that a call gives to them.

    Raises:
        Conflict: one has others.
    """
    stored = rows.contents(connection, rows.LABELS, [record.id for record, _ in given])
    for record, text in given:
        if (now := stored.get(record.id, "{}")) != text:
            has = "no attributes" if now == "{}" else f"the attributes {now:.80}"
            raise Conflict(f"label {record.name!r} has {has}, not {text:.80}; {UPDATED}")


def put_label(
    connection: Connection, space_id: int, revision: int, label_id: int, text: str | None
) -> None:
    """Give a label these attributes in place of those that it has."""
    rows.put(connection, rows.LABELS, space_id, revision, {label_id: text})


def update_support(
    home: Home, space_name: str, support_id: int, attributes: Mapping[str, Any]
) -> int:
    """See :meth:`TrustService.update_support`."""
    support_id = identifier("support image", support_id)
    if attributes is None:
        raise InvalidInput("attributes: expected a mapping, {} for none, got None")
    text = attributes_text(attributes, "attributes")
    with home.catalog.write("support.update") as connection:
        space = spaces.find(connection, space_name)
        if not supports.find_alive(connection, space.id, [support_id]):
            raise NotFound(f"no support image {support_id} in space {space_name!r}")
        revision = spaces.advance(connection, space.id, supports=1, effect="none")
        rows.put(connection, rows.SUPPORTS, space.id, revision, {support_id: text})
    return revision
