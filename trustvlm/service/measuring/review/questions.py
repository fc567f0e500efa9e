"""What helps a person to answer an item: likely labels, and support images to compare with."""

from __future__ import annotations

from collections.abc import Sequence

from trustvlm.catalog.rows import labels
from trustvlm.service.home.home import Home
from trustvlm.service.measuring.review.answers import image_of, queries_of
from trustvlm.service.query.score import score
from trustvlm.types.review import ReviewQuestion
from trustvlm.types.tables.verdict import Verdict

CHOICES = 5
NEAREST = 3


def question_of(home: Home, space_name: str, item_id: int) -> ReviewQuestion:
    """See :meth:`ReviewQueue.question`."""
    space, item, image = image_of(home, space_name, item_id)
    verdict = score(home, space_name, queries_of(space, image), None, CHOICES, None, None)[0]
    with home.catalog.read() as connection:
        exists = labels.find_many(connection, space.id, [item.predicted])
    likely = _likely(verdict, [item.predicted] if item.predicted in exists else [])
    return ReviewQuestion(item, likely, verdict.label, verdict.rival, verdict.evidence(NEAREST))


def _likely(verdict: Verdict, first: Sequence[str]) -> tuple[str, ...]:
    """Up to five labels, each once: the predicted one first, then those that speak against it."""
    others = (verdict.label, verdict.rival, verdict.nearest_prototype, *verdict.top_labels)
    names = dict.fromkeys(name for name in (*first, *others) if name is not None)
    return tuple(names)[:CHOICES]
