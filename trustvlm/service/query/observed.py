"""A stored image of known label, and the verdict that it gets now."""

from __future__ import annotations

import numpy as np

from trustvlm.catalog.server import stored_images
from trustvlm.errors import NotFound
from trustvlm.scoring.rules import resolve_parameters
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import unit_queries
from trustvlm.service.memory.reading import Reading
from trustvlm.service.query.score import verdicts_of
from trustvlm.types import Queries, Verdicts
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import identifier, whole
from trustvlm.types.rows import ObservationRow


def get_observation(home: Home, space_name: str, observation_id: int) -> ObservationRow:
    """A stored image of known label. Raises NotFound."""
    number = identifier("observation_id", observation_id)
    with home.read(space_name) as (connection, space):
        return stored_images.find(connection, space, number)[0]


def pictured_observations(home: Home, space_name: str, limit: int) -> list[ObservationRow]:
    """Up to `limit` stored images that have a thumbnail. Raises NotFound: no such space."""
    with home.read(space_name) as (connection, space):
        return stored_images.pictured(connection, space, limit)


def score_observation(
    home: Home,
    space_name: str,
    observation_id: int,
    rule: str | None,
    top_k: int,
    labels: Filter | None = None,
) -> Verdicts:
    """The verdict that a stored image gets now, from its stored embeddings: one row.

    Args:
        rule, top_k, labels: as for :meth:`TrustService.score`.

    Raises:
        NotFound: unknown space, no such image, or its embeddings were deleted.
        InvalidInput: unknown rule, or one that needs verifier embeddings where none are stored; a
            filter that fits no label.
    """
    number, top_k = identifier("observation_id", observation_id), whole("top_k", top_k)
    if rule is not None:
        resolve_parameters(rule, None)  # a wrong rule is refused first

    def verdicts(reading: Reading) -> Verdicts:
        space = reading.view.space
        row, classifier, verifier = stored_images.find(reading.connection, space, number)
        if classifier is None:
            raise NotFound(
                f"no embeddings of stored image {number}: they were deleted with the support "
                f"image that was made of it"
            )
        unit = Queries(*unit_queries(home, space, Queries(classifier, verifier)))
        about = {"source": np.array([row.source], dtype=object)}
        return verdicts_of(
            home, reading, space, unit, rule, top_k=top_k, labels=labels, about=about
        )

    return home.answer(space_name, verdicts)
