"""Stored images of known label, one by one, as the server shows them."""

from __future__ import annotations

from typing import Any

import numpy as np
from sqlalchemy import Connection, Select, select

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.models import Observation
from trustvlm.catalog.store.vectors import unpack, verified
from trustvlm.errors import NotFound
from trustvlm.types.arrays import Float32s
from trustvlm.types.rows import ObservationRow

_NEWEST = 2_000
_SHOWN = ("id", "source", "truth", "origin", "sampling", "created_at")
_PICTURED = Observation.thumbnail.is_not(None)


def _rows(space: SpaceRecord, *more: Any) -> Select[Any]:
    columns = [getattr(Observation, name) for name in _SHOWN]
    shown = select(*columns, _PICTURED.label("pictured"), *more)
    return shown.where(Observation.space_id == space.id)


def _row(row: Any) -> ObservationRow:
    shown = {name: getattr(row, name) for name in _SHOWN}
    return ObservationRow(**shown, pictured=bool(row.pictured))


def find(
    connection: Connection, space: SpaceRecord, observation_id: int
) -> tuple[ObservationRow, Float32s | None, Float32s | None]:
    """(a stored image, its (1, d) classifier embedding, its (1, d) verifier embedding): None where
    it has none. Its embeddings are deleted with the support image that was made of it.

    Raises:
        NotFound: there is no such image in the space. Damaged: an embedding does not match its
            checksum.
    """
    embeddings = Observation.classifier_embedding, Observation.verifier_embedding
    query = _rows(space, *embeddings, Observation.checksum)
    row = connection.execute(query.where(Observation.id == observation_id)).one_or_none()
    if row is None:
        raise NotFound(f"no stored image {observation_id} in space {space.name!r}")
    verified("observation", [row])
    blobs = row.classifier_embedding, row.verifier_embedding
    classifier, verifier = (
        unpack([blob], dim) if blob else None for blob, dim in zip(blobs, space.dims, strict=True)
    )
    return _row(row), classifier, verifier


def pictured(connection: Connection, space: SpaceRecord, limit: int) -> list[ObservationRow]:
    """Up to `limit` stored images that have a thumbnail, oldest first: of the newest ones, evenly
    spread, since images of one label often come one after the other."""
    ids = select(Observation.id).where(Observation.space_id == space.id, _PICTURED)
    newest = connection.scalars(ids.order_by(Observation.id.desc()).limit(_NEWEST)).all()
    places = np.linspace(0, max(len(newest) - 1, 0), min(limit, len(newest))).round()
    chosen = [newest[place] for place in places.astype(int)]
    rows = _rows(space).where(Observation.id.in_(chosen)).order_by(Observation.id)
    return [_row(row) for row in connection.execute(rows).all()][:limit]
