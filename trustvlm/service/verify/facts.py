"""What a look at the rows of a label space goes by: its own row, as far as that can be believed."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.purge import PURGING
from trustvlm.catalog.upkeep.raw import Raw
from trustvlm.encoders import spec_dim
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import load_recipe
from trustvlm.types.verification import Damage

__all__ = [
    "REVISIONS",
    "Facts",
    "as_text",
    "check_space",
    "is_number",
    "number_problem",
    "vector_problems",
]

REVISIONS = 2**40
"""No space has so many revisions: a number beyond is damage, and proves nothing of the space's
own."""

_UNIT = 1e-5


@dataclass(frozen=True)
class Facts:
    """A label space as its rows are compared with it. `revision` is the highest that any row may
    have.

    `purging`: a purge has begun to delete all of it, so rows may be missing.
    """

    id: int
    name: str
    removed: bool
    revision: int
    log_start: int
    classifier_dim: int
    verifier_dim: int
    purging: bool = False

    def damage(self, kind: str, row_id: int | None, what: str, problem: str, remedy: str) -> Damage:
        """Damage of this space."""
        return Damage(self.name, self.id, kind, row_id, what, problem, remedy)


def check_space(connection: Connection, space_id: int) -> tuple[Facts | None, list[Damage]]:
    """The facts of a space, None where its row does not give them, and what is wrong with that
    row."""
    row = raw.by_ids(connection, "space", [space_id])[0]
    name = as_text(row.get("name"))
    shown = f"number {space_id}" if name is None else name

    def damage(problem: str, remedy: str = "backup") -> Damage:
        return Damage(shown, space_id, "space", space_id, f"space {shown!r}", problem, remedy)

    numbers: dict[str, Any] = {
        key: row.get(key) for key in ("revision", "log_start", "classifier_dim", "verifier_dim")
    }
    wrong = [
        key for key, value in numbers.items() if not is_number(value) or not 0 <= value < REVISIONS
    ]
    if wrong or name is None:
        problems = [f"{key}: expected a number, got {numbers[key]!r:.40}" for key in wrong]
        return None, [
            damage("; ".join(["its name cannot be read", *problems] if name is None else problems))
        ]
    found = [damage(problem) for problem in _content_problems(row, numbers)]
    revision, log_start = numbers["revision"], numbers["log_start"]
    highest = raw.highest_revision(connection, space_id, REVISIONS)
    if highest > revision:
        found.append(
            damage(f"it is at revision {revision}, but has rows of revision {highest}", "space")
        )
    if log_start > max(highest, revision):
        found.append(
            damage(
                f"its change log begins at revision {log_start}, but it is at {revision}", "space"
            )
        )
    numbers["revision"] = max(highest, revision)
    purging = row["removed_at"] is not None and (as_text(row["removed_at"]) or "").startswith(
        f"{PURGING:%Y-%m-%d %H:%M:%S}"
    )
    return Facts(space_id, name, row["removed_at"] is not None, **numbers, purging=purging), found


def _content_problems(row: Raw, numbers: dict[str, Any]) -> list[str]:
    """What the columns of a space say that cannot be."""
    found = []
    for side in ("classifier", "verifier"):
        spec, dim, golden = as_text(row[side]), numbers[f"{side}_dim"], row[f"{side}_golden"]
        try:
            asked = None if spec is None else spec_dim(spec)
        except InvalidInput as error:
            found.append(f"{side}: {error}")
            continue
        if spec is None or dim < 1 or asked not in (None, dim):
            found.append(f"{side} {spec!r}: expected {asked or 'some'} dimensions, got {dim}")
        if golden is not None and vector_problems([golden], dim):
            found.append(
                f"{side}: the embedding of the golden image is {vector_problems([golden], dim)[0]}"
            )
    if not isinstance(row["logit_scale"], float | int) or not 0 < row["logit_scale"] < math.inf:
        found.append(f"logit_scale: expected a number above 0, got {row['logit_scale']!r:.40}")
    try:
        templates = json.loads(row["templates"])
        if not templates or not all(
            isinstance(template, str) and "{}" in template for template in templates
        ):
            found.append(f"templates: expected texts with {{}}, got {templates!r:.60}")
        if row["search"] is not None and not isinstance(json.loads(row["search"]), dict | None):
            found.append("search: expected parameters by name")
        load_recipe(as_text(row["recipe"]) or "")
        datetime.fromisoformat(as_text(row["created_at"]) or "")
    except (ValueError, TypeError, NotFound) as error:
        found.append(str(error))
    return found


def as_text(value: object) -> str | None:
    """Stored text as a string; None where it is missing or no UTF-8."""
    try:
        return value.decode() if isinstance(value, bytes) else None
    except UnicodeDecodeError:
        return None


def is_number(value: object) -> bool:
    """Whether a column that holds a whole number does."""
    return isinstance(value, int) and not isinstance(value, bool)


def number_problem(row: Raw, facts: Facts) -> str | None:
    """What is wrong with a row's revisions: created ≤ removed ≤ last change ≤ the space's; None
    when all is well."""
    created, last, removed = row["created_revision"], row["revision"], row["removed_revision"]
    if not is_number(created) or not is_number(last) or not (removed is None or is_number(removed)):
        return (
            f"its revisions are no numbers: created {created!r:.20}, last {last!r:.20}, "
            f"removed {removed!r:.20}"
        )
    if not 1 <= created <= last <= facts.revision or not (
        removed is None or created <= removed <= last
    ):
        return (
            f"created at {created}, changed at {last}, removed at {removed}: impossible in a "
            f"space at {facts.revision}"
        )
    if "hidden_from" in row:
        hidden = (row["hidden_from"], row["hidden_until"])
        if hidden != (None, None) and not (
            all(map(is_number, hidden)) and created <= hidden[0] <= hidden[1] <= last
        ):
            return (
                f"hidden between revisions {hidden[0]!r:.20} and {hidden[1]!r:.20}: "
                f"impossible when changed last at {last}"
            )
    try:
        when = (
            None
            if row["removed_at"] is None
            else datetime.fromisoformat(as_text(row["removed_at"]) or "")
        )
    except ValueError:
        return f"the time when it was removed is {row['removed_at']!r:.40}"
    if (removed is None) != (when is None):
        return f"removed at revision {removed}, at the time {when}: one of the two is missing"
    return None


def vector_problems(blobs: list[Any], dim: int, *, unit: bool = False) -> dict[int, str]:
    """Position → what is wrong, of stored vectors that should have `dim` finite values, not all 0,
    or (`unit`) the norm 1."""
    found = {}
    whole = []
    for place, blob in enumerate(blobs):
        if isinstance(blob, bytes) and len(blob) == 4 * dim:
            whole.append(place)
        else:
            size = f"{len(blob)} bytes" if isinstance(blob, bytes) else f"{blob!r:.20}"
            found[place] = f"{size}, expected {4 * dim} bytes"
    if not whole:
        return found
    rows = (
        np.frombuffer(b"".join([blobs[place] for place in whole]), "<f4")
        .reshape(-1, dim)
        .astype(np.float64)
    )
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    finite = np.isfinite(rows).all(axis=1)
    wrong = np.abs(norms - 1.0) > _UNIT if unit else norms == 0
    for at in np.flatnonzero(np.logical_or(~finite, wrong)).tolist():
        norm = f"of norm {norms[at]:.6g}, expected {1 if unit else 'another'}"
        found[whole[at]] = norm if bool(np.isfinite(rows[at]).all()) else "not finite"
    return found
