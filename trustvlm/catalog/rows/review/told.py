"""What answers about items of the review queue do to the observations of their images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, select, update

from trustvlm.catalog.rows.observations import GivenVerdict, mark_promoted
from trustvlm.catalog.store.models import Observation


def mark_promoted_as(connection: Connection, observation_id: int, support_id: int) -> None:
    """Store that the image of an observation has become a support image; see
    :func:`mark_promoted`."""
    columns = select(Observation.space_id, Observation.content_hash)
    row = connection.execute(columns.where(Observation.id == observation_id)).first()
    if row is not None:
        mark_promoted(connection, row.space_id, {row.content_hash: support_id})


_KEPT_ON_ANSWER = (
    "origin", "truth_id", "truth", "source", "support_id", *GivenVerdict.__dataclass_fields__,
)  # fmt: skip


def before_answer(
    connection: Connection, space_id: int, content_hash: bytes, sampling: str
) -> dict[str, Any] | None:
    """What an answer about an image is about to change of its observation; None: it has none."""
    columns = [getattr(Observation, name) for name in _KEPT_ON_ANSWER]
    query = select(*columns).where(
        Observation.space_id == space_id,
        Observation.content_hash == content_hash,
        Observation.sampling == sampling,
    )
    row = connection.execute(query).first()
    return None if row is None else row._asdict()


def take_back(
    connection: Connection,
    observation_id: int,
    truth_id: int | None,
    earlier: Mapping[str, Any] | None,
) -> None:
    """Undo an answer: give its observation the values of :func:`before_answer`, or delete it where
    there was none. One that has got another truth since stays as it is."""
    same = (Observation.id == observation_id, Observation.truth_id.is_not_distinct_from(truth_id))
    if earlier is None:
        connection.execute(delete(Observation).where(*same))
    else:
        connection.execute(update(Observation).where(*same).values(**earlier))
