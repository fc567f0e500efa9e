"""What new support images change: the verdicts of their own images, and of images that wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows.review import items
from trustvlm.catalog.rows.review.items import StoredImage
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.service.home.home import Home
from trustvlm.service.query.score import score
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Bools
from trustvlm.types.review import Taught

MOST = 500
"""Images of the queue that are looked at, the oldest that wait."""

_NOTICED = 0.1  # of a probability


@dataclass(frozen=True, eq=False)
class Watched:
    """Images, followed by others that wait, with the verdicts that they got before the first ones
    became support images.

    Attributes:
        images: how many are the first ones.
    """

    space: str
    queries: Queries
    before: Verdicts
    images: int

    def taught(self, home: Home) -> Taught:
        """How the verdict of the first image is now, and those of the images that wait."""
        after = _scored(home, self.space, self.queries)
        first, now = self.before[0], after[0]
        return Taught(
            label_before=first.label,
            decision_before=first.decision,
            probability_before=first.probability,
            label=now.label,
            decision=now.decision,
            probability=now.probability,
            waiting=len(after) - self.images,
            changed=self._changed(after),
        )

    def changed(self, home: Home) -> tuple[int, int]:
        """How many images wait, and how many of them get another answer now."""
        after = _scored(home, self.space, self.queries)
        return len(after) - self.images, self._changed(after)

    def _changed(self, after: Verdicts) -> int:
        before = self.before
        differ = (before.label != after.label) | (before.decision != after.decision)
        differ |= _moved(before, after)
        return int(np.asarray(differ)[self.images :].sum())


def watched(
    home: Home, space: SpaceRecord, first: Sequence[StoredImage] = (), item_id: int = 0
) -> Watched | None:
    """Images, and the open ones of the queue but that of the item `item_id`, as the space judges
    them now; None where there are none."""
    with home.catalog.read() as connection:
        others = items.open_images(connection, space.id, item_id, MOST, space.dims)
    images = [*first, *others]
    if not images:
        return None
    classifier = np.array([one.classifier for one in images])
    verifiers = [one.verifier for one in images]
    separate = None if images[0].verifier is None else np.array(verifiers)
    queries = Queries(classifier=classifier, verifier=separate)
    return Watched(space.name, queries, _scored(home, space.name, queries), len(first))


def _moved(before: Verdicts, after: Verdicts) -> Bools:
    """(n,) which probabilities differ by 0.1 or more."""
    first, now = (np.array(one.probability, dtype=np.float64) for one in (before, after))
    moved: Bools = np.abs(now - first) >= _NOTICED
    return moved


def _scored(home: Home, space_name: str, queries: Queries) -> Verdicts:
    return score(home, space_name, queries, None, 1, None, None)
