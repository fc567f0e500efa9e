"""What is chosen among the candidates of each query: the label, its rival, the nearest label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.rules import Judgement
from trustvlm.service.query.candidates import CandidateSet
from trustvlm.service.query.context import Context
from trustvlm.service.query.ranked.ranking import Ranking
from trustvlm.softmax.native import Rounding, library
from trustvlm.types.arrays import Bools, Float64s, Int64s


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is chosen for n queries.

    Attributes:
        places: (6, n) columns of label and rival among the candidates; slots of the label, of the
            classifier's own label where that is another one, of the nearest label, and of the
            rival; −1 where there is none.
        numbers: (8, n) p, similarity, trust and quantity of the label; similarity of the nearest
            label; trust, p and quantity of the rival. NaN where there is none; quantity: −∞.
        agrees: (n,) the label is the nearest one.
        unsure: (n,) float32 did not surely tell the answer from the next one.
        listed: (n, k) columns of the text leaders, best first; None: the first columns.
    """

    places: Int64s
    numbers: Float64s
    agrees: Bools
    unsure: Bools
    listed: Int64s | None = None


def choose(
    context: Context,
    candidate_set: CandidateSet,
    judgement: Judgement,
    top_k: int,
    *,
    relabels: bool,
) -> Chosen:
    """Choose by the quantity of a rule that `relabels`, else the first text leader; equals go by
    name, and are `unsure` where numbers are rounded."""
    native, block, rounding = library(), candidate_set.block, candidate_set.rounding
    scale = context.view.space.logit_scale
    if native is not None and block is not None and block.size:
        margins = Rounding(rounding * scale, rounding * scale, rounding)
        quantity, trust = judgement.quantity, judgement.trust
        made = native.choose(block, quantity, trust, top_k, margins, relabels=relabels)
        if made is not None:
            places, numbers, flags = made
            return Chosen(places, numbers, flags[0], flags[1])
    return _by_name(context, candidate_set, judgement, top_k, relabels=relabels)


def _by_name(
    context: Context,
    candidate_set: CandidateSet,
    judgement: Judgement,
    top_k: int,
    *,
    relabels: bool,
) -> Chosen:
    candidates, slots = candidate_set.candidates, candidate_set.slots
    p, similarity, trust = candidates.p, candidates.similarity, judgement.trust
    scale = context.view.space.logit_scale
    ranking = Ranking(context.view.names, slots, candidate_set.rounding)
    listed = ranking.order(candidates.logit, scale, top_k, candidate_set.ordered)
    by_rule = np.where(candidates.valid, judgement.quantity, -np.inf)
    label = ranking.best(by_rule, scale, relative=True) if relabels else listed[:, 0]
    of_label = ranking.first + label
    largest = by_rule.take(of_label)
    by_rule.put(of_label, -np.inf)
    rival = ranking.best(by_rule, scale, relative=True)
    of_rival = ranking.first + rival
    largest_other = by_rule.take(of_rival)
    has_rival = largest_other > -np.inf
    nearest = ranking.best(np.where(np.isnan(similarity), -np.inf, similarity), 1.0)
    of_nearest = ranking.first + nearest
    nearest_similarity = similarity.take(of_nearest)
    has_nearest = ~np.isnan(nearest_similarity)
    label_slot, own = slots.take(of_label), slots.take(ranking.first + listed[:, 0])
    places = [
        label,
        rival,
        label_slot,
        np.where(own == label_slot, -1, own),
        np.where(has_nearest, slots.take(of_nearest), -1),
        np.where(has_rival, slots.take(of_rival), -1),
    ]
    numbers = [p.take(of_label), similarity.take(of_label), trust.take(of_label), largest]
    numbers += [nearest_similarity]
    numbers += [np.where(has_rival, values.take(of_rival), np.nan) for values in (trust, p)]
    agrees = has_nearest & (nearest == label)
    made = np.stack(places), np.stack([*numbers, largest_other])
    return Chosen(*made, agrees, ranking.unsure, listed)
