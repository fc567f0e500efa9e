"""Verdicts as people look at them: the decision first, then the probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, repeat
from typing import Any

from trustvlm.types.tables.glance import Chance, Decision, Glance, Picture, Place
from trustvlm.types.tables.verdict import Verdict

PICTURES = 20
"""Rows that are shown with a picture."""

_COLUMNS = (
    "label", "reason_code", "rival", "trust", "text_confidence", "image_similarity",
)  # fmt: skip


def verdicts_glance(
    verdicts: Sequence[Verdict],
    counts: Mapping[str, int],
    remarks: Sequence[str],
    thumbnails: Sequence[bytes | None] | None,
) -> Glance:
    """What is shown of a call's verdicts.

    Args:
        verdicts: the first of them. counts: how many there are of each decision. remarks: about all
            of them. thumbnails: of the first images; None: no column of pictures.
    """
    decided = " · ".join(f"{counts.get(one, 0):,} {one}" for one in ("accept", "review", "unknown"))
    total = sum(counts.values())
    columns: tuple[str, ...] = ("decision", "probability", *_COLUMNS)
    rows: list[tuple[Any, ...]] = [
        (*_decided(one), *(getattr(one, name) for name in _COLUMNS)) for one in verdicts
    ]
    if any(one.source is not None for one in verdicts):
        columns = ("source", *columns)
        sources = (None if one.source is None else Place(one.source) for one in verdicts)
        rows = [(source, *row) for source, row in zip(sources, rows, strict=True)]
    if thumbnails is not None:
        columns = ("image", *columns)
        pictures = chain((Picture(one or b"") for one in thumbnails), repeat(Picture()))
        rows = [(picture, *row) for picture, row in zip(pictures, rows, strict=False)]
    number = f"{total:,} verdict{'' if total == 1 else 's'}"
    return Glance((f"{number}: {decided}", *remarks), columns, rows, total)


def _decided(verdict: Verdict) -> tuple[Decision, Chance | None]:
    chance = None if verdict.probability is None else Chance(verdict.probability)
    return Decision(verdict.decision), chance
