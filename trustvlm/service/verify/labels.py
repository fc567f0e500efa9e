"""Labels looked at: their vectors, their names, and whether their prototypes are those of their
support images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import supports
from trustvlm.catalog.rows.labels import name_hash
from trustvlm.catalog.store.sqlite import translated
from trustvlm.catalog.store.vectors import checksum, pack
from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.raw import Raw, Unreadable
from trustvlm.errors import Damaged, InvalidInput
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.service.verify.facts import Facts, as_text, is_number, number_problem, vector_problems
from trustvlm.types.verification import Damage

__all__ = ["check_labels", "expected_prototypes", "mended_name"]

_CATALOG = Path("the catalog")
_SOURCES = (b"name", b"prompt", b"vector")


def check_labels(connection: Connection, facts: Facts, rows: Sequence[Raw]) -> Iterator[Damage]:
    """What is wrong with labels of a space."""
    readable = [row for row in rows if not isinstance(row, Unreadable)]
    for row in rows:
        if isinstance(row, Unreadable):
            yield facts.damage(
                "label", row["id"], f"label {row['id']}", "its row cannot be read", "backup"
            )
    expected = (
        {row["id"]: None for row in readable}
        if facts.purging
        else expected_prototypes(connection, facts, readable)
    )
    targets = sorted({row["alias_of"] for row in readable if is_number(row["alias_of"])})
    canonical = {row["id"]: row for row in raw.by_ids(connection, "label", targets)}
    text = vector_problems(
        [row["text_prototype"] for row in readable], facts.classifier_dim, unit=True
    )
    for place, row in enumerate(readable):
        what = f"label {row['id']} ({as_text(row['name'])!r:.60})"
        for problem, remedy in _problems(
            facts, row, text.get(place), expected[row["id"]], canonical
        ):
            yield facts.damage("label", row["id"], what, problem, remedy)


def _problems(
    facts: Facts,
    row: Raw,
    text: str | None,
    expected: tuple[int, bytes | None] | None,
    canonical: Mapping[int, Raw],
) -> Iterator[tuple[str, str]]:
    """(problem, remedy) of one label."""
    if as_text(row["name"]) is None or (
        row["prompt"] is not None and as_text(row["prompt"]) is None
    ):
        yield "its name or prompt is no text", "quarantine"
        return
    if text is not None:
        yield f"its text prototype is {text}", "quarantine"
        return
    if row["space_id"] != facts.id:
        return
    prototype = row["prototype"]
    parts = [part for part in (row["text_prototype"], prototype) if isinstance(part, bytes)]
    if checksum(*parts) != row["checksum"]:
        if expected is not None and checksum(row["text_prototype"], expected[1]) == row["checksum"]:
            yield (
                "its prototype does not match its checksum; that of its support images does",
                "prototype",
            )
        else:
            yield "its text prototype does not match its checksum", "quarantine"
            return
    elif expected is not None and (row["support_count"], prototype) != expected:
        yield _difference(row, expected), "prototype"
    elif (prototype is not None) != (
        is_number(row["support_count"]) and row["support_count"] > 0
    ) and _whole(row, expected):
        yield (
            f"it counts {row['support_count']!r} support images, and has "
            f"{'a' if prototype else 'no'} prototype",
            "prototype",
        )
    elif prototype is not None and (
        wrong := vector_problems([prototype], facts.verifier_dim, unit=True)
    ):
        yield f"its prototype is {wrong[0]}", "prototype"
    if mended_name(row) != (row["name"].decode(), row["name_hash"]):
        yield f"its name does not match its hash {row['name_hash']!r:.24}", "name"
    if row["text_source"] not in _SOURCES:
        yield (
            f"its text is said to come from {row['text_source']!r:.20}, expected name, prompt "
            f"or vector",
            "name",
        )
    if (problem := number_problem(row, facts)) is not None:
        yield problem, "revision"
    if (
        row["alias_of"] is not None
        and (problem := _alias_problem(facts, row, canonical)) is not None
    ):
        yield problem, "alias"


def _whole(row: Raw, expected: tuple[int, bytes | None] | None) -> bool:
    """Whether the count of a label must fit its prototype: not where it was removed and has begun
    to be purged."""
    return row["removed_revision"] is None or expected is not None


def _difference(row: Raw, expected: tuple[int, bytes | None]) -> str:
    if row["support_count"] != expected[0]:
        return f"it counts {row['support_count']!r} support images, but has {expected[0]}"
    if row["prototype"] is None:
        return "it has no prototype"
    return "its prototype is not that of its support images"


def _alias_problem(facts: Facts, row: Raw, canonical: Mapping[int, Raw]) -> str | None:
    """What is wrong with the label that a live label is an alias of."""
    if row["removed_revision"] is not None or facts.purging:
        return None
    other = canonical.get(row["alias_of"])
    if other is None or isinstance(other, Unreadable) or other["space_id"] != facts.id:
        return f"it is an alias of label {row['alias_of']!r:.20}, which is not there"
    if other["removed_revision"] is not None or other["alias_of"] is not None:
        return (
            f"it is an alias of label {row['alias_of']}, which is "
            f"{'removed' if other['alias_of'] is None else 'one itself'}"
        )
    return None


def expected_prototypes(
    connection: Connection, facts: Facts, rows: Sequence[Raw]
) -> dict[int, Any]:
    """What the support images say that count and prototype of these labels must be.

    None where they cannot: one is damaged, or a removed label has lost some of its own to a purge.
    """
    found: dict[int, tuple[int, bytes | None] | None] = {}
    own = []
    for row in rows:
        if row["removed_revision"] is not None:
            found[row["id"]] = _of_removed(connection, facts, row)
        elif row["alias_of"] is not None:
            found[row["id"]] = (0, None)
        else:
            own.append(row["id"])
    return found | _of_live(connection, facts, own)


def _of_live(connection: Connection, facts: Facts, ids: Sequence[int]) -> dict[int, Any]:
    if not ids:
        return {}
    try:
        with translated(_CATALOG):
            owners, _, embeddings = supports.embeddings(connection, ids, facts.verifier_dim)
    except (
        Damaged,
        TypeError,
    ):  # one by one, so that one damaged image says nothing of other labels
        if len(ids) == 1:
            return {ids[0]: None}
        half = len(ids) // 2
        return _of_live(connection, facts, ids[:half]) | _of_live(connection, facts, ids[half:])
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.array([ids, ids]) + np.array([[0], [1]]))
    return {
        label_id: _mean(embeddings[order[start:stop]])
        for label_id, start, stop in zip(ids, *bounds.tolist(), strict=True)
    }  # fmt: skip


def _of_removed(connection: Connection, facts: Facts, row: Raw) -> tuple[int, bytes | None] | None:
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


def _mean(embeddings: Any) -> tuple[int, bytes | None] | None:
    if not len(embeddings):
        return 0, None
    if not np.isfinite(embeddings).all():
        return None
    try:
        return len(embeddings), pack(mean_prototype(embeddings.astype(np.float64)))
    except InvalidInput:  # they cancel out: none of them was registered so
        return None


def mended_name(row: Raw) -> tuple[str, int] | None:
    """The name and the name hash that a label must have, where one of the two proves the other.

    A name of which one byte was changed is found by its hash, which is 63 bits long; a hash that
    differs in one byte from that of the name is the damaged one. None where neither is so.
    """
    name, stored = row["name"], row["name_hash"]
    text = as_text(name)
    right = None if text is None else name_hash(text)
    if text is not None and right is not None and stored == right:
        return text, right
    if is_number(stored) and 0 <= stored < 2**63:
        for place in range(len(name)):
            for byte in range(256):
                other = as_text(name[:place] + bytes([byte]) + name[place + 1 :])
                if other is not None and name_hash(other) == stored:
                    return other, stored
        if text is not None and right is not None:
            differing = sum(
                a != b for a, b in zip(stored.to_bytes(8), right.to_bytes(8), strict=True)
            )
            if differing == 1:
                return text, right
    return None
