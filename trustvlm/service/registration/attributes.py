"""Attributes of labels and support images that are stored: compared, and changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.types.attributes.values import attributes_text, merged_text
from trustvlm.types.bounds import flags

CHANGES = "replace=True of register, or update_label, changes"


class Attributes:
    """Attributes of a call: those that a row is to have, or, with `merge`, changes of single ones.

    Raises:
        InvalidInput: something that attributes may not be.
    """

    def __init__(self, given: Mapping[str, Any], merge: bool) -> None:
        flags(merge=merge)
        if given is None:
            raise InvalidInput("attributes: expected a mapping, {} for none, got None")
        self._given, self._merge = given, merge
        values = given
        if merge and isinstance(given, Mapping):
            values = {key: one for key, one in given.items() if one is not None}
        self._text = attributes_text(values, "attributes")  # refused before anything is read

    def put(
        self, connection: Connection, kind: rows.Kind, space_id: int, revision: int, row_id: int
    ) -> None:
        """Store them with a label or support image, within the transaction that changes it."""
        text = self._text
        if self._merge:
            stored = rows.contents(connection, kind, [row_id]).get(row_id)
            text = merged_text(stored, self._given, "attributes")
        rows.put(connection, kind, space_id, revision, {row_id: text})


def check_stored(connection: Connection, given: Sequence[tuple[LabelRecord, str]]) -> None:
    """Make sure that labels have the attributes that a call gives to them.

    Raises:
        Conflict: one has others.
    """
    stored = rows.contents(connection, rows.LABELS, [record.id for record, _ in given])
    for record, text in given:
        if (now := stored.get(record.id, "{}")) != text:
            has = "no attributes" if now == "{}" else f"the attributes {now:.80}"
            raise Conflict(f"label {record.name!r} has {has}, not {text:.80}; {CHANGES} them")
