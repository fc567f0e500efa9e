"""What a space's support images say, one row for each space: computed by the service, and
computable again; and the texts that it is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, func, insert, select, update

from trustvlm.catalog.rows.labels import VECTORS
from trustvlm.catalog.store.models import PROTOTYPED, UNVERIFIED, Fit, Label
from trustvlm.catalog.store.vectors import unpack, verified
from trustvlm.types.arrays import Float32s, Int64s

# Made once: see trustvlm.catalog.rows.labels.
_OF_SPACE = select(Fit.revision, Fit.content).where(Fit.space_id == bindparam("space"))


@dataclass(frozen=True)
class FitRecord:
    """A fit, and the space's revision that it belongs to."""

    revision: int
    content: dict[str, Any]


def find(connection: Connection, space_id: int) -> FitRecord | None:
    """The stored fit of a space, if there is one."""
    row = connection.execute(_OF_SPACE, {"space": space_id}).first()
    return None if row is None else FitRecord(row.revision, row.content)


def store(connection: Connection, space_id: int, revision: int, content: dict[str, Any]) -> None:
    """Store the fit of a revision, unless that of a later one is stored."""
    values = {"revision": revision, "content": content}
    stored = connection.scalar(select(Fit.revision).where(Fit.space_id == space_id))
    if stored is None:
        connection.execute(insert(Fit).values(space_id=space_id, **values))
    elif stored <= revision:
        connection.execute(update(Fit).where(Fit.space_id == space_id).values(**values))


def group_sizes(connection: Connection, space_id: int) -> tuple[int, int]:
    """How many labels have support images, and how many have none."""
    of_space = select(func.count()).select_from(Label).where(Label.space_id == space_id)
    with_images, without = (
        connection.execute(of_space.where(group)).scalar_one() for group in (PROTOTYPED, UNVERIFIED)
    )
    return with_images, without


def bare_texts(
    connection: Connection, space_id: int, limit: int, dim: int
) -> tuple[Int64s, Float32s]:
    """Ids and (n, dim) text prototypes of up to `limit` labels without support images, the first
    ones by name.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    query = VECTORS.where(Label.space_id == space_id, UNVERIFIED).order_by(Label.name).limit(limit)
    rows = verified("label", connection.execute(query).all())
    ids = np.array([row.id for row in rows], dtype=np.int64)
    return ids, unpack([row.text_prototype for row in rows], dim)
