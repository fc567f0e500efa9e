"""What a space's support images say, one row for each space: computed by the service, and
computable anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select, update

from trustvlm.catalog.store.models import Fit

__all__ = ["FitRecord", "find", "revision_of", "store"]

_REVISION = select(Fit.revision).where(Fit.space_id == bindparam("space"))


@dataclass(frozen=True)
class FitRecord:
    """A fit, and the space's revision that it belongs to."""

    revision: int
    content: dict[str, Any]


def find(connection: Connection, space_id: int) -> FitRecord | None:
    """The stored fit of a space, if there is one."""
    row = connection.execute(
        select(Fit.revision, Fit.content).where(Fit.space_id == space_id)
    ).first()
    return None if row is None else FitRecord(row.revision, row.content)


def revision_of(connection: Connection, space_id: int) -> int | None:
    """The revision of the stored fit of a space, if there is one."""
    return connection.scalar(_REVISION, {"space": space_id})


def store(connection: Connection, space_id: int, revision: int, content: dict[str, Any]) -> None:
    """Store the fit of a revision, unless that of a later one is there."""
    known = connection.scalar(select(Fit.revision).where(Fit.space_id == space_id))
    if known is None:
        connection.execute(
            insert(Fit).values(space_id=space_id, revision=revision, content=content)
        )
    elif known <= revision:
        connection.execute(
            update(Fit).where(Fit.space_id == space_id).values(revision=revision, content=content)
        )
