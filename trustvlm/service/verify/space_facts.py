"""What rows of a label space are compared with: the space's own row, as far as it can be used."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.store.models import PURGING
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import load_recipe
from trustvlm.types.verification import Damage

Row = dict[str, Any]
Problem = tuple[int, str, str]
"""The key of a damaged row, what is wrong with it, and the remedy."""

_REVISIONS = 2**40
"""No space has as many revisions: a higher number is damage, and proves nothing of the space."""
_UNIT = 1e-5
_WHAT = {
    "support": "support image {}",
    "thumbnail": "thumbnail of support image {}",
    "review": "review item {}",
    "fit": "the fit of the support images",
    "change": "entry {} of the change log",
    "label data": "attributes of label {}",
    "support data": "attributes of support image {}",
}


@dataclass(frozen=True)
class SpaceFacts:
    """A label space as its rows are compared with it.

    Attributes:
        revision: the highest that any row may have.
        purging: a purge has begun to delete all of it, so rows may be missing.
    """

    id: int
    name: str
    removed: bool
    purging: bool
    revision: int
    log_start: int
    classifier_dim: int
    verifier_dim: int

    def damage(self, kind: str, row_id: int, problem: str, remedy: str) -> Damage:
        """Damage of a row of this space."""
        what = _WHAT.get(kind, f"{kind} {{}}").format(row_id)
        return Damage(self.name, self.id, kind, row_id, what, problem, remedy)


def check_space(connection: Connection, space_id: int) -> tuple[SpaceFacts | None, list[Damage]]:
    """The facts of a space, None where its row does not give them, and what is wrong with that
    row."""
    row, problems = stored_rows.decode(
        "space", stored_rows.by_ids(connection, "space", [space_id])[0]
    )
    name = f"number {space_id}" if row["name"] is None else row["name"]

    def damage(problem: str, remedy: str = "backup") -> Damage:
        return Damage(name, space_id, "space", space_id, f"space {name!r}", problem, remedy)

    numbers: list[Any] = [
        row[key] for key in ("revision", "log_start", "classifier_dim", "verifier_dim")
    ]
    usable = all(value is not None and 0 <= value < _REVISIONS for value in numbers)
    if row["name"] is None or not usable:
        return None, [damage("; ".join(problems) or f"expected numbers from 0, got {numbers}")]
    damages = [damage(problem) for problem in (*problems, *_content_problems(row))]
    revision, log_start, *_ = numbers
    highest = max(revision, stored_rows.highest_revision(connection, space_id, _REVISIONS))
    if highest > revision:
        problem = f"it is at revision {revision}, but has rows of revision {highest}"
        damages.append(damage(problem, "space"))
    if log_start > highest:
        problem = f"its change log begins at revision {log_start}, but it is at {revision}"
        damages.append(damage(problem, "space"))
    marks = [row["verdicts_revision"], row["nodes_revision"]]
    if any(mark is not None and not 0 <= mark <= highest for mark in marks):
        problem = f"it is at revision {revision}, but its verdicts changed at {marks}"
        damages.append(damage(problem, "space"))
    removed = row["removed_at"]
    purging = removed == PURGING.replace(tzinfo=None)
    numbers[0] = highest
    return SpaceFacts(space_id, name, removed is not None, purging, *numbers), damages


def _content_problems(row: dict[str, Any]) -> Iterator[str]:
    """What the columns of a space say that cannot be."""
    for side in ("classifier", "verifier"):
        spec, dim, golden = row[side], row[f"{side}_dim"], row[f"{side}_golden"]
        try:
            expected = parse_spec(spec or "").dim
            if dim < 1 or expected not in (None, dim):
                yield f"{side} {spec!r}: expected {expected or 'some'} dimensions, got {dim}"
        except InvalidInput as error:
            yield f"{side}: {error}"
        if golden is not None and (wrong := vector_problems([golden], dim)):
            yield f"{side}: the embedding of the golden image is {wrong[0]}"
    scale, templates, search = row["logit_scale"], row["templates"], row["search"]
    if scale is not None and not 0 < scale < math.inf:
        yield f"logit_scale: expected a number above 0, got {scale!r:.40}"
    texts = isinstance(templates, list) and all(isinstance(text, str) for text in templates)
    if not templates or not texts or not all("{}" in text for text in templates):
        yield f"templates: expected texts with {{}}, got {templates!r:.60}"
    if not isinstance(search, dict | None):
        yield "search: expected parameters by name"
    kept = row["verdict_log"]
    if kept is not None and not (isinstance(kept, dict) and {"logging", "days", "rows"} <= {*kept}):
        yield f"verdict_log: expected what the log keeps, got {kept!r:.60}"
    try:
        load_recipe(row["recipe"] or "")
    except (NotFound, InvalidInput) as error:
        yield str(error)


def for_quarantine(
    rows: Sequence[Row], problem_of: Callable[[Row], str | None], key: str = "id"
) -> Iterator[Problem]:
    """The rows of which `problem_of` says that something is wrong; `key`: their key."""
    for row in rows:
        if (problem := problem_of(row)) is not None:
            yield row[key], problem, "quarantine"


def judged_problem(row: Row, facts: SpaceFacts) -> str | None:
    """What is wrong with the revision at which a row was judged; NULL: it was not."""
    if row["revision"] is None or 0 <= row["revision"] <= facts.revision:
        return None
    return f"it was judged at revision {row['revision']} of a space at {facts.revision}"


def revision_problem(row: dict[str, Any], facts: SpaceFacts) -> str | None:
    """What is wrong with a row's revisions: created ≤ removed ≤ last change ≤ the space's; None
    when all is well."""
    created, last, removed = row["created_revision"], row["revision"], row["removed_revision"]
    if not 1 <= created <= (removed or created) <= last <= facts.revision or removed == 0:
        return (
            f"created at {created}, changed at {last}, removed at {removed}: impossible in a "
            f"space at {facts.revision}"
        )
    hidden = [row[name] or 0 for name in ("hidden_from", "hidden_until") if name in row]
    if any(hidden) and not created <= hidden[0] <= hidden[1] <= last:
        return f"hidden between revisions {hidden}: impossible when changed last at {last}"
    if (removed is None) != (row["removed_at"] is None):
        return f"removed at revision {removed}, at {row['removed_at']}: one of the two is missing"
    return None


def vector_problems(vectors: Sequence[bytes], dim: int, *, unit: bool = False) -> dict[int, str]:
    """Position → what is wrong, of stored vectors that should have `dim` finite values, not all 0,
    or (`unit`) the norm 1."""
    problems = {
        place: f"{len(vector)} bytes, expected {4 * dim} bytes"
        for place, vector in enumerate(vectors)
        if len(vector) != 4 * dim
    }
    places = [place for place in range(len(vectors)) if place not in problems]
    rows = np.frombuffer(b"".join(vectors[place] for place in places), "<f4").astype(np.float64)
    rows = rows.reshape(len(places), dim)
    with np.errstate(over="ignore", invalid="ignore"):
        norms = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    wrong = np.abs(norms - 1.0) > _UNIT if unit else norms == 0
    for at in np.flatnonzero(wrong | ~np.isfinite(norms)).tolist():
        expected = "1" if unit else "another"
        problems[places[at]] = (
            f"of norm {norms[at]:.6g}, expected {expected}"
            if np.isfinite(rows[at]).all()
            else "not finite"
        )
    return problems
