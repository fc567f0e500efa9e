"""Checks of labels: their vectors, their names, and whether their prototypes are those of their
support images; and of attributes: JSON that attributes may hold, of rows that exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.labels import name_hash
from trustvlm.catalog.store.sqlite import translated
from trustvlm.catalog.store.vectors import checksum, pack
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow
from trustvlm.errors import Damaged, InvalidInput
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.service.verify.space_facts import (
    Problem,
    Row,
    SpaceFacts,
    for_quarantine,
    revision_problem,
    vector_problems,
)
from trustvlm.types.arrays import Float32s
from trustvlm.types.attributes.values import attributes_text, parse_attributes

_CATALOG = Path("the catalog")

Derived = tuple[int, bytes | None]
"""Support count and prototype of a label."""


def check_labels(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with labels of a space."""
    expected = {} if facts.purging else expected_prototypes(connection, facts, rows)
    targets = sorted({row["alias_of"] for row in rows if row["alias_of"] is not None})
    canonical = {row["id"]: row for row in stored_rows.by_ids(connection, "label", targets)}
    texts = vector_problems(
        [row["text_prototype"] for row in rows], facts.classifier_dim, unit=True
    )
    for place, row in enumerate(rows):
        problem, remedy = _own_problem(facts, row, texts.get(place)), "quarantine"
        if problem is None:
            problem, remedy = _prototype_problem(facts, row, expected.get(row["id"])), "prototype"
        if problem is None and checksum(row["text_prototype"], row["prototype"]) != row["checksum"]:
            problem, remedy = "its text prototype does not match its checksum", "quarantine"
        if problem is None and not facts.purging:
            problem, remedy = _alias_problem(facts, row, canonical), "alias"
        if problem is not None:
            yield row["id"], problem, remedy


def _own_problem(facts: SpaceFacts, row: Row, text: str | None) -> str | None:
    """What is wrong with the columns of a label that do not follow from its support images."""
    if text is not None:
        return f"its text prototype is {text}"
    if name_hash(row["name"]) != row["name_hash"]:
        return f"its name {row['name']!r:.60} does not match its hash {row['name_hash']}"
    if row["text_source"] not in ("name", "prompt", "vector", "output"):
        return f"its text is said to come from {row['text_source']!r:.20}"
    return revision_problem(row, facts)


def _prototype_problem(facts: SpaceFacts, row: Row, expected: Derived | None) -> str | None:
    """What is wrong with count and prototype, where the text prototype is proved to be right."""
    count, prototype = row["support_count"], row["prototype"]
    proved = checksum(row["text_prototype"], prototype) == row["checksum"]
    if expected is not None:
        by_images = checksum(row["text_prototype"], expected[1]) == row["checksum"]
        if (count, prototype) == expected or not (proved or by_images):
            return None
        if count != expected[0]:
            return f"it counts {count} support images, but has {expected[0]}"
        return "its prototype is not that of its support images"
    if not proved:
        return None
    # A removed label may have lost support images to a purge, and keeps their count.
    if (prototype is not None) != (count > 0) and row["removed_revision"] is None:
        return f"it counts {count} support images, and has {'a' if prototype else 'no'} prototype"
    wrong = vector_problems([prototype], facts.verifier_dim, unit=True) if prototype else {}
    return f"its prototype is {wrong[0]}" if wrong else None


def _alias_problem(facts: SpaceFacts, row: Row, canonical: Mapping[int, StoredRow]) -> str | None:
    """What is wrong with the label that a live label is an alias of."""
    if row["alias_of"] is None or row["removed_revision"] is not None:
        return None
    other = canonical.get(row["alias_of"])
    if other is None or other.get("space_id") != facts.id:
        return f"it is an alias of label {row['alias_of']}, which is not there"
    if other["removed_revision"] is not None or other["alias_of"] is not None:
        state = "removed" if other["alias_of"] is None else "one itself"
        return f"it is an alias of label {row['alias_of']}, which is {state}"
    return None


def expected_prototypes(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> dict[int, Derived]:
    """Label id → count and prototype that the support images give.

    Labels are left out where these cannot tell: one is damaged, or a removed label has lost some to
    a purge.
    """
    expected: dict[int, Derived | None] = {}
    live = []
    for row in rows:
        if row["removed_revision"] is not None:
            expected[row["id"]] = _of_removed(connection, facts, row)
        elif row["alias_of"] is not None:
            expected[row["id"]] = (0, None)
        else:
            live.append(row["id"])
    expected |= _of_live(connection, facts, live)
    return {label_id: derived for label_id, derived in expected.items() if derived is not None}


def _of_live(
    connection: Connection, facts: SpaceFacts, ids: Sequence[int]
) -> dict[int, Derived | None]:
    if not ids:
        return {}
    try:
        with translated(_CATALOG):
            owners, _, embeddings = supports.embeddings(connection, ids, facts.verifier_dim)
    except (Damaged, TypeError):
        # One by one, so that a damaged image says nothing of other labels.
        if len(ids) == 1:
            return {}
        half = len(ids) // 2
        return _of_live(connection, facts, ids[:half]) | _of_live(connection, facts, ids[half:])
    order = np.argsort(owners, kind="stable")
    starts, stops = (np.searchsorted(owners[order], np.array(ids) + step) for step in (0, 1))
    return {
        label_id: _mean(embeddings[order[start:stop]])
        for label_id, start, stop in zip(ids, starts.tolist(), stops.tolist(), strict=True)
    }


def _of_removed(connection: Connection, facts: SpaceFacts, row: Row) -> Derived | None:
    if row["alias_of"] is not None:
        return None
    try:
        with translated(_CATALOG):
            embeddings = supports.hidden_with_label(
                connection, row["id"], row["removed_revision"], facts.verifier_dim
            )
    except (Damaged, TypeError):
        return None
    return _mean(embeddings) if len(embeddings) == row["support_count"] else None


def _mean(embeddings: Float32s) -> Derived | None:
    if not len(embeddings):
        return 0, None
    try:
        finite = bool(np.isfinite(embeddings).all())
        mean = mean_prototype(embeddings.astype(np.float64)) if finite else None
    except InvalidInput:  # they cancel out: no label is registered like that
        mean = None
    return None if mean is None else (len(embeddings), pack(mean))


def _check(
    kind: str, connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    keys = [row[f"{kind}_id"] for row in rows]
    owners = {row["id"]: row for row in stored_rows.by_ids(connection, kind, keys)}

    def problem_of(row: Row) -> str | None:
        owner = owners.get(row[f"{kind}_id"])
        if owner is None or owner.get("space_id") != facts.id:
            return "what they belong to is not there"
        if not 1 <= row["revision"] <= facts.revision:
            return f"changed at revision {row['revision']} of a space at {facts.revision}"
        return _content_problem(row["content"])

    return for_quarantine(rows, problem_of, f"{kind}_id")


def _content_problem(text: str) -> str | None:
    """What is wrong with stored attributes."""
    try:
        canonical = attributes_text(parse_attributes(text, "content"), "content") or "{}"
    except InvalidInput as error:
        return str(error)
    return None if canonical == text else f"their JSON is not as it is stored: {text!r:.60}"


check_label_attributes = partial(_check, "label")
check_support_attributes = partial(_check, "support")
