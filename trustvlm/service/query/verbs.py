"""The verbs that embed, score and search queries."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.inputs.encode import embed, reading
from trustvlm.service.query.score import score
from trustvlm.service.query.search import search
from trustvlm.types import Embedded, Hits, Queries, Verdicts
from trustvlm.types.arrays import sources

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["QueryVerbs"]


class QueryVerbs(OpenHome):
    """Embedding, scoring and searching."""

    def embed(
        self,
        space: str,
        images: Sequence[ImageSource],
        *,
        progress: Callable[[int], None] | None = None,
        image_range: tuple[float, float] | None = None,
        accept_truncated: bool = False,
    ) -> Embedded:
        """Encode images once as queries of this space; unreadable ones are reported and left out.

        `image_range` and `accept_truncated`: how they are read, see :class:`Queries`.
        """
        home = self._ready()
        row = home.space(space)
        limits = reading(home, row, image_range, accept_truncated)
        return embed(home, row, sources(images, "images"), progress, limits)

    def score(
        self,
        space: str,
        queries: Queries,
        *,
        rule: str | None = None,
        top_k: int = 5,
        labels: Sequence[str] | npt.NDArray[np.bool_] | None = None,
        params: Mapping[str, float | None] | None = None,
        revision: int | None = None,
    ) -> Verdicts:
        """Label and trust of every query, with evidence, at one revision of the space.

        Args:
            queries: embeddings or images.
            rule: one of :data:`trustvlm.RULES`; None: that of the calibration in force, else
                :data:`trustvlm.DEFAULT_RULE`.
            top_k: number of labels of largest text confidence to list.
            labels: only these labels take part, as names or as a mask in the order of
                :meth:`list_labels`.
            params: the rule's parameters, e.g. {"lambda": 1.0, "temperature": 0.01}.
            revision: the revision that the space must have, e.g. that of a mask of labels.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes, NaN, unknown rule or
            parameter, verifier embeddings missing, or a space without labels. Conflict: the space
            is at another revision.
        """
        return score(self._ready(), space, queries, rule, top_k, labels, params, revision)

    def search(
        self,
        space: str,
        queries: Queries,
        *,
        kind: str = "support",
        k: int = 10,
        revision: int | None = None,
    ) -> Hits:
        """The k nearest support images, prototypes or text prototypes of every query.

        Args:
            kind: "support" or "prototype" (verifier embeddings are compared; support images also by
                classifier embedding or text, where theirs are stored) or "text" (classifier
                embeddings against text prototypes).
            revision: the revision that the space must have.

        Raises:
            NotFound: unknown space. InvalidInput: wrong shapes, unknown kind, or embeddings of the
                wrong encoder.
            Conflict: the space is at another revision.
        """
        return search(self._ready(), space, queries, kind, k, revision)
