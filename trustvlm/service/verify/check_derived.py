"""Checks of calibrations, of the fit of a space, of its taxonomy, of the change log, and of the
verdict log."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.calibrations import CalibrationRecord
from trustvlm.catalog.rows.evidence_fits import FitRecord
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.names import brief
from trustvlm.catalog.upkeep import stored_rows
from trustvlm.errors import TrustVLMError
from trustvlm.scoring.rules import RULES
from trustvlm.service.home.calibrations import loaded
from trustvlm.service.memory.support_fit import disagreement
from trustvlm.service.verify.space_facts import Problem, Row, SpaceFacts, for_quarantine
from trustvlm.types.bounds import DECISIONS
from trustvlm.types.verification import Damage

_NO_SENSE = (ValueError, KeyError, TypeError, AttributeError)


def check_calibrations(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with calibrations: each must say what it promises, and of which revision and
    labels."""
    return for_quarantine(rows, lambda row: _calibration_problem(facts, row))


def _calibration_problem(facts: SpaceFacts, row: Row) -> str | None:
    try:
        return _promise_problem(facts, row)
    except _NO_SENSE as error:
        return f"its content makes no sense: {type(error).__name__}: {error}"


def _promise_problem(facts: SpaceFacts, row: Row) -> str | None:
    if not 0 <= row["revision"] <= facts.revision:
        return f"it was made at revision {row['revision']} of a space at {facts.revision}"
    record = CalibrationRecord(
        row["id"], row["created_at"], row["revision"], "", "", row["content"]
    )
    made = loaded(record, facts.name, other_encoders=False, changed=0)
    numbers = [made.max_risk, made.confidence, made.coverage, made.risk_bound]
    numbers += [made.threshold or 0.0, *(value for knot in made.knots for value in knot)]
    if made.rule not in RULES:
        return f"its rule is {made.rule!r:.40}, which is none"
    if not all(isinstance(value, float | int) and math.isfinite(value) for value in numbers):
        return "it holds numbers that are not finite"
    if not made.knots or not all(isinstance(label, int) and label > 0 for label in made.predicted):
        return "it lacks its curve, or names labels by what are no numbers"
    return None


def check_fits(connection: Connection, facts: SpaceFacts, rows: Sequence[Row]) -> Iterator[Problem]:
    """Whether the fit of a space is what its support images give, where these have not changed
    since."""
    for row in rows if not facts.purging else ():
        problem = None
        if not 0 <= row["revision"] <= facts.revision:
            problem = f"it belongs to revision {row['revision']} of a space at {facts.revision}"
        else:
            try:
                record = FitRecord(row["revision"], row["content"])
                problem = disagreement(connection, spaces.find_by_id(connection, facts.id), record)
            except _NO_SENSE as error:
                problem = f"its content makes no sense: {type(error).__name__}: {error}"
            except TrustVLMError:
                continue  # a support image or label is damaged, and reported as such
        if problem is not None:
            yield row["space_id"], problem, "fit"


def check_changes(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with the log of purged rows: what it names must be gone, and have existed."""
    alive = set()
    for kind in ("label", "support"):
        named = sorted({row["row_id"] for row in rows if row["kind"] == kind})
        alive |= {(kind, row["id"]) for row in stored_rows.by_ids(connection, kind, named)}

    def problem_of(row: Row) -> str | None:
        kind, row_id, created = row["kind"], row["row_id"], row["created_revision"]
        if kind not in ("label", "support"):
            return f"it is of kind {kind!r:.20}, expected label or support"
        if (kind, row_id) in alive:
            return f"it says that {kind} {row_id} was purged: it exists"
        if 0 <= created <= row["revision"] <= facts.revision:
            return None
        return f"created at {created}, removed at {row['revision']}: impossible at {facts.revision}"

    return for_quarantine(rows, problem_of)


def check_verdicts(
    connection: Connection, facts: SpaceFacts, rows: Sequence[Row]
) -> Iterator[Problem]:
    """What is wrong with rows of the verdict log."""

    def problem_of(row: Row) -> str | None:
        chances = [row["probability"], row["claimed_probability"], row["node_probability"]]
        if row["decision"] not in DECISIONS:
            return f"its decision is {row['decision']!r:.40}"
        sound = all(one is None or 0 <= one <= 1.000001 for one in chances)
        return None if sound else "it holds probabilities that are none"

    return for_quarantine(rows, problem_of)


def check_tree(connection: Connection, facts: SpaceFacts) -> Iterator[Damage]:
    """What is wrong with the taxonomy of a space."""
    for child, problem in bad_edges(connection, facts).items():
        what = f"the place of {brief(child)} in the taxonomy"
        yield Damage(facts.name, facts.id, "tree", None, what, problem, "tree")


def bad_edges(connection: Connection, facts: SpaceFacts) -> dict[str, str]:
    """Name → what is wrong with its standing under its parent; without these edges it is a tree."""
    bad = _circles(dict(edges.edges(connection, facts.id)))
    for child, revision in edges.revisions_beyond(connection, facts.id, facts.revision):
        bad.setdefault(child, f"changed at revision {revision} of a space at {facts.revision}")
    return bad


def _circles(parents: Mapping[str, str]) -> dict[str, str]:
    """The first name of each circle, with the circle in words."""
    circles: dict[str, str] = {}
    seen: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        name: str | None = start
        while name is not None and name not in seen and name not in path:
            path[name] = None
            name = parents.get(name)
        if name is not None and name in path:
            members = [*path][[*path].index(name) :]
            first = min(members)
            place = members.index(first)
            around = " → ".join(brief(one) for one in [*members[place:], *members[:place], first])
            circles[first] = f"it stands under itself: {around:.300}"
        seen.update(path)
    return circles
