"""Verdicts as people look at them: the decision first, then the probability."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from trustvlm.types.tables.glance import HTML_ROWS, Chance, Decision, Glance, Picture, Place
from trustvlm.types.tables.probability import probability_line

if TYPE_CHECKING:
    from trustvlm.types.verdicts import Verdicts

_COLUMNS = (
    "label", "reason_code", "rival", "trust", "text_confidence", "image_similarity",
)  # fmt: skip


def _name(source: str | None) -> Place | None:
    return None if source is None else Place(source)


_PICTURES = 20
"""Rows that are shown with a picture."""


def verdicts_glance(verdicts: Verdicts, *, pictures: bool = False) -> Glance:
    """How many there are of each decision, what the probability is, and the first rows; with
    `pictures` of the images."""
    counts = Counter(verdicts.decision.tolist())
    decided = " · ".join(f"{counts[one]:,} {one}" for one in ("accept", "review", "unknown"))
    source = () if verdicts.source is None else ("source",)
    image = ("image",) if pictures else ()
    shown = min(_PICTURES, len(verdicts)) if pictures else 0
    thumbnails = [Picture(verdicts.thumbnail(i) or b"") for i in range(shown)]
    rows = [
        (
            *([thumbnails[i] if i < shown else Picture()] if pictures else ()),
            *(_name(one.source) for _ in source),
            Decision(one.decision),
            None if one.probability is None else Chance(one.probability),
            *(getattr(one, name) for name in _COLUMNS),
        )
        for i, one in enumerate(verdicts[:HTML_ROWS])
    ]
    number = f"{len(verdicts):,} verdict{'' if len(verdicts) == 1 else 's'}"
    lines: tuple[str, ...] = (
        f"{number}: {decided}",
        probability_line(
            verdicts.probability_source,
            verdicts.rule,
            verdicts.calibration_id,
            verdicts.stale_since,
        ),
        f"rule {verdicts.rule} at revision {verdicts.revision} of the space",
    )
    if (unread := len(verdicts.failures)) > 0:
        lines += (f"{unread:,} image{'s' if unread > 1 else ''} could not be read: see failures",)
    return Glance(
        lines, (*image, *source, "decision", "probability", *_COLUMNS), rows, len(verdicts)
    )
