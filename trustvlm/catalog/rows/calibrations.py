"""Calibrations of spaces, numbered as they were made. The newest that proved a threshold and was
not removed is in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from trustvlm.catalog.store.backends.database import AUTHOR
from trustvlm.catalog.store.models import CalibrationRow

OBSERVED = "observed"
"""Field of a calibration's content that is the catalog's own."""


CLAIMS = "claims"
"""Field of a calibration's content: True where it is about claimed labels; older ones lack it."""


@dataclass(frozen=True)
class CalibrationRecord:
    """A calibration's row; `content` is what the service stored."""

    id: int
    created_at: datetime
    revision: int
    classifier_identity: str
    verifier_identity: str
    content: dict[str, Any]
    author: str | None = None

    @property
    def observed(self) -> int | None:
        """The newest observation of the space when it was made; None where the program that made it
        did not note that."""
        return self.content.get(OBSERVED)

    @property
    def claims(self) -> bool:
        """It is about claimed labels, not about predicted ones."""
        return bool(self.content.get(CLAIMS, False))


_COLUMNS = [getattr(CalibrationRow, name) for name in CalibrationRecord.__dataclass_fields__]

_EVER = (
    select(*_COLUMNS)
    .where(CalibrationRow.space_id == bindparam("space"))
    .order_by(CalibrationRow.id.desc())
)
_NEWEST_FIRST = _EVER.where(CalibrationRow.removed_at.is_(None))


def create(
    connection: Connection,
    space_id: int,
    revision: int,
    identities: tuple[str, str],
    content: dict[str, Any],
) -> CalibrationRecord:
    """Insert a calibration made at `revision` with the encoders of these identities (classifier,
    verifier)."""
    values = {
        "space_id": space_id, "created_at": datetime.now(UTC), "revision": revision,
        "classifier_identity": identities[0],
        "verifier_identity": identities[1], "content": content, "removed_at": None,
        "author": connection.get_execution_options().get(AUTHOR),
    }  # fmt: skip
    row = connection.execute(insert(CalibrationRow).values(**values).returning(*_COLUMNS)).one()
    return CalibrationRecord(*row)


def current(
    connection: Connection, space_id: int, *, claims: bool = False
) -> CalibrationRecord | None:
    """The calibration in force, if there is one: of predicted labels, or of claimed ones."""
    # Not by SQLite's JSON functions: they do not read JSON in which an older program stored NaN.
    with connection.execute(_NEWEST_FIRST, {"space": space_id}) as rows:
        records = (CalibrationRecord(*row) for row in rows)
        return next(
            (
                record
                for record in records
                if record.content.get("threshold") is not None and record.claims == claims
            ),
            None,
        )


def list_rows(
    connection: Connection, space_id: int, *, removed: bool = False
) -> list[CalibrationRecord]:
    """The calibrations of a space, newest first; with `removed`, also those taken back."""
    query = _EVER if removed else _NEWEST_FIRST
    return [CalibrationRecord(*row) for row in connection.execute(query, {"space": space_id})]


def remove(connection: Connection, space_id: int, calibration_id: int) -> bool:
    """Take a calibration back, so that the one before it that proved a threshold is in force;
    whether it existed."""
    removal = update(CalibrationRow).where(
        CalibrationRow.id == calibration_id,
        CalibrationRow.space_id == space_id,
        CalibrationRow.removed_at.is_(None),
    )
    return bool(connection.execute(removal.values(removed_at=datetime.now(UTC))).rowcount)
