"""What a space's support images say, one row for each space: computed by the service, and
computable again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, insert, select, update

from trustvlm.catalog.store.models import Fit

__all__ = ["FitRecord", "find", "store"]


@dataclass(frozen=True)
class FitRecord:
    """A fit, and the space's revision that it belongs to."""

    revision: int
    content: dict[str, Any]


def find(connection: Connection, space_id: int) -> FitRecord | None:
    """The stored fit of a space, if there is one."""
    columns = select(Fit.revision, Fit.content).where(Fit.space_id == space_id)
    row = connection.execute(columns).first()
    return None if row is None else FitRecord(row.revision, row.content)


def store(connection: Connection, space_id: int, revision: int, content: dict[str, Any]) -> None:
    """Store the fit of a revision, unless that of a later one is stored."""
    values = {"revision": revision, "content": content}
    stored = connection.scalar(select(Fit.revision).where(Fit.space_id == space_id))
    if stored is None:
        connection.execute(insert(Fit).values(space_id=space_id, **values))
    elif stored <= revision:
        connection.execute(update(Fit).where(Fit.space_id == space_id).values(**values))
