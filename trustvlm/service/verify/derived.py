"""Calibrations, fits and the change log looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.calibrations import CalibrationRecord
from trustvlm.catalog.rows.evidence_fits import FitRecord
from trustvlm.catalog.upkeep import raw
from trustvlm.catalog.upkeep.raw import Raw, Unreadable
from trustvlm.errors import TrustVLMError
from trustvlm.scoring.rules import RULES
from trustvlm.service.home.calibrations import loaded
from trustvlm.service.memory.evidence_fit import disagreement
from trustvlm.service.verify.facts import Facts, as_text, is_number
from trustvlm.types.verification import Damage

__all__ = ["check_calibrations", "check_changes", "check_fits"]


def check_calibrations(
    connection: Connection, facts: Facts, rows: Sequence[Raw]
) -> Iterator[Damage]:
    """What is wrong with calibrations of a space: they must say what they promise, and of which
    revision and labels."""
    for row in rows:
        if isinstance(row, Unreadable):
            problem: str | None = "its row cannot be read"
        else:
            problem = _calibration_problem(facts, row)
        if problem is not None:
            remedy = "backup" if isinstance(row, Unreadable) else "quarantine"
            yield facts.damage(
                "calibration", row["id"], f"calibration {row['id']}", problem, remedy
            )


def _calibration_problem(facts: Facts, row: Raw) -> str | None:
    identities = [as_text(row[f"{side}_identity"]) for side in ("classifier", "verifier")]
    if None in identities:
        return "the identity of an encoder is no text"
    if not is_number(row["revision"]) or not 0 <= row["revision"] <= facts.revision:
        return f"it was made at revision {row['revision']!r:.20} of a space at {facts.revision}"
    try:
        content = json.loads(row["content"])
        record = CalibrationRecord(row["id"], row["created_at"], row["revision"], "", "", content)
        found = loaded(record, facts.name, other_encoders=False)
        numbers = [
            found.max_risk,
            found.confidence,
            found.coverage,
            found.risk_bound,
            *(x for knot in found.knots for x in knot),
        ]
        if found.rule not in RULES:
            return f"its rule is {found.rule!r:.40}, which is none"
        if not all(
            isinstance(x, float | int) and math.isfinite(x)
            for x in [*numbers, found.threshold or 0.0]
        ):
            return "it holds numbers that are not finite"
        if not found.knots or not all(is_number(label) and label > 0 for label in found.predicted):
            return "it lacks its curve, or names labels by what are no numbers"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its content makes no sense: {type(error).__name__}: {error}"
    return None


def check_fits(connection: Connection, facts: Facts, rows: Sequence[Raw]) -> Iterator[Damage]:
    """Whether the fit of a space can be read, and is what its support images say where these have
    not changed since."""
    for row in rows:
        if isinstance(row, Unreadable):
            yield facts.damage(
                "fit",
                row["space_id"],
                "the fit of its support images",
                "its row cannot be read",
                "backup",
            )
        elif not facts.purging and (problem := _fit_problem(connection, facts, row)) is not None:
            yield facts.damage(
                "fit", row["space_id"], "the fit of its support images", problem, "fit"
            )


def _fit_problem(connection: Connection, facts: Facts, row: Raw) -> str | None:
    if not is_number(row["revision"]) or not 0 <= row["revision"] <= facts.revision:
        return f"it belongs to revision {row['revision']!r:.20} of a space at {facts.revision}"
    try:
        record = FitRecord(row["revision"], json.loads(row["content"]))
        return disagreement(connection, spaces.find_by_id(connection, facts.id), record)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"its content makes no sense: {type(error).__name__}: {error}"
    except TrustVLMError:
        return None  # a support image or label that it looks at is damaged, and reported as such


def check_changes(connection: Connection, facts: Facts, rows: Sequence[Raw]) -> Iterator[Damage]:
    """What is wrong with the log of purged rows: what it names must be gone, and have been
    there."""
    there = {
        kind: {row["id"] for row in raw.by_ids(connection, kind, _named(rows,
        kind))} for kind in ("label", "support")
    }  # fmt: skip
    for row in rows:
        what, problem = f"entry {row['id']} of the change log", None
        if isinstance(row, Unreadable):
            yield facts.damage("change", row["id"], what, "its row cannot be read", "backup")
            continue
        kind = as_text(row["kind"])
        if kind not in there:
            problem = f"it is of kind {row['kind']!r:.20}, expected label or support"
        elif row["row_id"] in there[kind]:
            problem = f"it says that {kind} {row['row_id']} was purged, which is there"
        elif not all(
            is_number(row[name]) for name in ("row_id", "label_id", "created_revision", "revision")
        ):
            problem = "it holds what is no number"
        elif not 0 <= row["created_revision"] <= row["revision"] <= facts.revision:
            problem = (
                f"created at {row['created_revision']}, removed at {row['revision']}: "
                f"impossible at {facts.revision}"
            )
        if problem is not None:
            yield facts.damage("change", row["id"], what, problem, "quarantine")


def _named(rows: Sequence[Raw], kind: str) -> list[int]:
    named: list[Any] = [row.get("row_id") for row in rows if row.get("kind") == kind.encode()]
    return sorted({row_id for row_id in named if is_number(row_id)})
