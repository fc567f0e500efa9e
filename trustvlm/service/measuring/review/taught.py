"""What a new support image changes: the verdict of its own image, and those of images that wait."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows.review import items
from trustvlm.catalog.rows.review.items import StoredImage
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.service.home.home import Home
from trustvlm.service.query.score import score
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Bools
from trustvlm.types.review import ReviewItem, Taught

__all__ = ["Watched", "watched"]

MOST = 500
"""Images of the queue that are looked at, the oldest that wait."""

_NOTICED = 0.1  # of a probability


@dataclass(frozen=True, eq=False)
class Watched:
    """An image, followed by others that wait, with the verdicts that they got before it became a
    support image."""

    space: str
    queries: Queries
    before: Verdicts

    def taught(self, home: Home) -> Taught:
        """How the verdicts are now."""
        before, after = self.before, _scored(home, self.space, self.queries)
        differ = (before.label != after.label) | (before.decision != after.decision)
        differ |= _moved(before, after)
        first, now = before[0], after[0]
        return Taught(
            label_before=first.label,
            decision_before=first.decision,
            probability_before=first.probability,
            label=now.label,
            decision=now.decision,
            probability=now.probability,
            waiting=len(after) - 1,
            changed=int(np.asarray(differ)[1:].sum()),
        )


def watched(home: Home, space: SpaceRecord, item: ReviewItem, image: StoredImage) -> Watched:
    """The image of an item and the open ones of the queue, as the space judges them now."""
    with home.catalog.read() as connection:
        dims = (space.classifier_dim, space.verifier_dim)
        others = items.open_images(connection, space.id, item.id, MOST, dims)
    images = [image, *others]
    classifier = np.array([one.classifier for one in images])
    verifiers = [one.verifier for one in images]
    separate = None if image.verifier is None else np.array(verifiers)
    queries = Queries(classifier=classifier, verifier=separate)
    return Watched(space.name, queries, _scored(home, space.name, queries))


def _moved(before: Verdicts, after: Verdicts) -> Bools:
    """(n,) which probabilities differ by 0.1 or more."""
    first, now = (np.array(one.probability, dtype=np.float64) for one in (before, after))
    moved: Bools = np.abs(now - first) >= _NOTICED
    return moved


def _scored(home: Home, space_name: str, queries: Queries) -> Verdicts:
    return score(home, space_name, queries, None, 1, None, None)
