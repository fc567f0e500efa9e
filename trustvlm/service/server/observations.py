"""The stored images of known label, and the verdicts that they get now."""

from __future__ import annotations

from trustvlm.catalog.server import stored_images
from trustvlm.scoring.rules import resolve_parameters
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.query.stored import stored_verdict
from trustvlm.types import Verdicts
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import identifier, whole
from trustvlm.types.rows import ObservationRow


class Observations(OpenHome):
    """The stored images of known label. Errors of every method: NotFound for an unknown space or
    image."""

    def get_observation(self, space: str, observation_id: int) -> ObservationRow:
        """A stored image."""
        number = identifier("observation_id", observation_id)
        with self._ready().read(space) as (connection, record):
            return stored_images.find(connection, record, number)[0]

    def pictured_observations(self, space: str, limit: int) -> list[ObservationRow]:
        """Up to `limit` stored images that have a thumbnail."""
        with self._ready().read(space) as (connection, record):
            return stored_images.pictured(connection, record, limit)

    def score_observation(
        self,
        space: str,
        observation_id: int,
        *,
        rule: str | None,
        top_k: int,
        labels: Filter | None = None,
    ) -> Verdicts:
        """The verdict that a stored image gets now, from its stored embeddings: one row.

        Args:
            rule, top_k, labels: as for :meth:`TrustService.score`.

        Raises:
            NotFound: also where its embeddings were deleted. InvalidInput: unknown rule, or one
            that needs verifier embeddings where none are stored; a filter that fits no label.
        """
        home = self._ready()
        number, top_k = identifier("observation_id", observation_id), whole("top_k", top_k)
        if rule is not None:
            resolve_parameters(rule, None)  # a wrong rule is refused first
        return home.answer(
            space, lambda reading: stored_verdict(home, reading, number, rule, top_k, labels)
        )
