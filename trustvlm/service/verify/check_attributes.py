"""Checks of attributes: JSON that attributes may hold, of labels and support images that exist."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from sqlalchemy import Connection

from trustvlm.catalog.upkeep import stored_rows
from trustvlm.errors import InvalidInput
from trustvlm.service.verify.check_labels import Row
from trustvlm.service.verify.space_facts import Problem, SpaceFacts
from trustvlm.types.attributes.values import attributes_text, parse_attributes


def _check(
    kind: str, connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    keys = [row[f"{kind}_id"] for row in rows]
    owners = {row["id"]: row for row in stored_rows.by_ids(connection, kind, keys)}
    for row in rows:
        key, problem = row[f"{kind}_id"], None
        owner = owners.get(key)
        if owner is None or owner.get("space_id") != facts.id:
            problem = "what they belong to is not there"
        elif not 1 <= row["revision"] <= facts.revision:
            problem = f"changed at revision {row['revision']} of a space at {facts.revision}"
        else:
            problem = _content_problem(row["content"])
        if problem is not None:
            yield key, problem, "quarantine"


def _content_problem(text: str) -> str | None:
    """What is wrong with stored attributes."""
    try:
        canonical = attributes_text(parse_attributes(text, "content"), "content") or "{}"
    except InvalidInput as error:
        return str(error)
    return None if canonical == text else f"their JSON is not as it is stored: {text!r:.60}"


check_label_attributes = partial(_check, "label")
check_support_attributes = partial(_check, "support")
