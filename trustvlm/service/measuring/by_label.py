"""How the labels do, one by one, on labelled images: who is right, and who is given in place of
whom."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import numpy as np

from trustvlm.catalog.rows import labels
from trustvlm.scoring.rules import RULES
from trustvlm.selective.advice import state_of
from trustvlm.selective.metrics import aurc
from trustvlm.service.measuring.usable import label_names, right_rows
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.evaluation import Confusion, LabelOutcome

Judged = Mapping[str, Columns]
Sides = tuple[str | None, str | None, str | None]
"""The rules that stand for text only, image only and both."""

_PROFITS = 0.8
_POOR = 0.5


def by_label(
    context: Context, judged: Judged, sides: Sides, truth: Int64s, risk: float
) -> tuple[tuple[LabelOutcome, ...], tuple[Confusion, ...]]:
    """The labels that the images have or are given, most errors first; and the labels that are
    given in place of others, most images first. Nothing where only rules that correct labels were
    compared."""
    plain = next((name for name in sides if name is not None and not RULES[name].relabels), None)
    if plain is None:
        return (), ()
    outcomes = _per_label(context, judged, sides, judged[plain], truth, risk)
    return outcomes, _confusions(context, judged[plain], truth)


def _per_label(
    context: Context, judged: Judged, sides: Sides, columns: Columns, truth: Int64s, risk: float
) -> tuple[LabelOutcome, ...]:
    view = context.view
    given, right = cast(Int64s, columns["label_id"]), right_rows(columns, truth)
    ids = np.unique(np.concatenate([given, truth[truth >= 0]])).tolist()
    counts = labels.support_counts(context.connection, ids)
    outcomes = []
    for label in ids:
        supports_of_label = counts[label]
        may_stop()
        mine = np.flatnonzero(given == label)
        text, image, fused = (_area(judged, name, mine, right) for name in sides)
        correct, images = int(right[mine].sum()), int((truth == label).sum())
        ideal = aurc(right[mine], right[mine]) if len(mine) else math.nan
        outcomes.append(
            LabelOutcome(
                label=view.names[int(view.text.slots(np.array([label]))[0])],
                images=images,
                predicted=len(mine),
                right=correct,
                support_count=supports_of_label,
                text=text,
                image=image,
                fused=fused,
                standing=_standing(
                    supports_of_label, len(mine) - correct, text - ideal, fused - ideal, ideal
                ),
                error_share=1 - correct / len(mine) if len(mine) else math.nan,
                state=state_of(images, len(mine), correct, risk),
            )
        )
    return tuple(sorted(outcomes, key=lambda one: (one.right - one.predicted, one.label)))


def _area(judged: Judged, rule: str | None, rows: Int64s, right: Bools) -> float:
    if rule is None or not len(rows):
        return math.nan
    return aurc(cast(Float64s, judged[rule]["trust"])[rows], right[rows])


def _standing(supports: int, wrong: int, text: float, fused: float, ideal: float) -> str:
    """In words; `text` and `fused` are AURC above the ideal order's."""
    if not supports:
        return "no support images"
    if not wrong:
        return "no errors"
    if fused < _PROFITS * text:
        return "profits"
    return "stays untrustworthy" if fused > _POOR * ideal else "as before"


def _confusions(context: Context, columns: Columns, truth: Int64s) -> tuple[Confusion, ...]:
    """Each pair of a true label and another one that its images were given."""
    given = cast(Int64s, columns["label_id"])
    nearest = _nearest(context, cast(Int64s, columns["nearest_slot"]))
    rows = np.flatnonzero(given != truth)
    pairs, which = np.unique(
        np.stack([truth[rows], given[rows]], axis=1), axis=0, return_inverse=True
    )
    counts = np.bincount(which, minlength=len(pairs)).tolist()
    hits = np.bincount(which, weights=nearest[rows] == truth[rows], minlength=len(pairs)).tolist()
    names = zip(label_names(context, pairs[:, 0]), label_names(context, pairs[:, 1]), strict=True)
    compared = bool((nearest >= 0).any())
    confusions = [
        Confusion(
            truth=true,
            label=str(label),
            count=count,
            share=count / int((truth == pair[0]).sum()),
            nearest_right=int(hit) if compared and true is not None else None,
        )
        for (true, label), pair, count, hit in zip(names, pairs, counts, hits, strict=True)
    ]
    return tuple(sorted(confusions, key=lambda one: (-one.count, one.truth or "", one.label)))


def _nearest(context: Context, slots: Int64s) -> Int64s:
    """The ids of labels whose prototype is nearest; −2 where there is none."""
    ids = context.view.aliases.of(context.view.text.ids[np.maximum(slots, 0)])
    return np.where(slots >= 0, ids, -2)
