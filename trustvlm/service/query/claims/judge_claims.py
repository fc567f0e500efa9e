"""What a rule says of claimed labels: they join the candidates of their queries with exact numbers,
and are judged as if they were the prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.scoring.rules import Judgement, Rule, close_calls
from trustvlm.service.query.candidates import CandidateSet, UnitQueries
from trustvlm.service.query.columns import CLAIMED, Columns
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import similarities
from trustvlm.types.arrays import Bools, Float64s, Int64s

Best = Callable[[Float64s], Int64s]
"""(n,) column of the largest of each row of (n, m) values; of equal ones that with the smallest
name."""


def has_all(candidate_set: CandidateSet, claimed: Int64s) -> bool:
    """Whether each claimed label, given by its text slot (n,), is a candidate already; −1 stands
    for no claim."""
    at = (candidate_set.slots == claimed[:, np.newaxis]) & candidate_set.candidates.valid
    return bool((at.any(axis=1) | (claimed < 0)).all())


def with_claimed(
    context: Context, queries: UnitQueries, candidate_set: CandidateSet, claimed: Int64s
) -> CandidateSet:
    """The candidates, and the claimed labels (n,) that are none of them, in a column of their own.

    A claimed label's logit, with that of its further names, and its similarity are exact: float64
    products of the stored vectors. Its probability is taken off that of all other labels.
    """
    candidates, slots = candidate_set.candidates, candidate_set.slots
    at = (slots == claimed[:, np.newaxis]) & (claimed >= 0)[:, np.newaxis]
    new = (claimed >= 0) & ~(at & candidates.valid).any(axis=1)
    listed = new & at.any(axis=1)
    wanted = np.where(new, claimed, -1)
    logit, similarity = _exact_numbers(context, queries, wanted)
    valid, logits, similarities_to = (
        column.copy() for column in (candidates.valid, candidates.logit, candidates.similarity)
    )
    rows, columns = np.flatnonzero(listed), at.argmax(axis=1)[listed]
    valid[rows, columns] = True
    logits[rows, columns], similarities_to[rows, columns] = logit[rows], similarity[rows]
    added = np.where(listed, -1, wanted)
    p = np.where(new, np.exp(logit - candidates.moments.log_z), 0.0)
    return replace(
        candidate_set,
        slots=_beside(slots, added),
        ordered=0,
        block=None,
        candidates=replace(
            candidates,
            logit=_beside(logits, np.where(added >= 0, logit, -np.inf)),
            similarity=_beside(similarities_to, np.where(added >= 0, similarity, np.nan)),
            valid=_beside(valid, added >= 0),
            rest=np.maximum(candidates.rest - p, 0.0),
            neighbours=None,
            discriminant=None,
            known_p=None,
        ),
    )


def _beside(values: npt.NDArray[Any], column: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """(n, m + 1) the values with a column behind them."""
    return np.concatenate([values, column[:, np.newaxis]], axis=1)


def _exact_numbers(
    context: Context, queries: UnitQueries, wanted: Int64s
) -> tuple[Float64s, Float64s]:
    """(n,) logit and similarity of the labels in these text slots; −inf and NaN for −1."""
    view, exact = context.view, queries.exact()
    ids = np.where(wanted >= 0, view.text.ids[np.maximum(wanted, 0)], -1)
    groups = [view.aliases.groups.get(label, ()) for label in ids.tolist()]
    names = np.full((len(wanted), 1 + max(map(len, groups), default=0)), -1, dtype=np.int64)
    names[:, 0] = wanted
    for row, further in enumerate(groups):
        names[row, 1 : 1 + len(further)] = view.text.slots(np.array(further, dtype=np.int64))
    products = view.space.logit_scale * similarities(view.text.exact, names, exact.classifier)
    logit = np.logaddexp.reduce(np.where(names >= 0, products, -np.inf), axis=1)
    if exact.verifier is None or not len(view.prototypes):
        return logit, np.full(len(wanted), np.nan)
    rows = np.where(wanted >= 0, view.prototypes.slots(ids), -1)[:, np.newaxis]
    return logit, similarities(view.prototypes.exact, rows, exact.verifier)[:, 0]


def claimed_arrays(
    context: Context,
    candidate_set: CandidateSet,
    rule: Rule,
    judgement: Judgement,
    claimed: Int64s,
    best: Best,
    *,
    close: bool,
) -> tuple[dict[str, npt.NDArray[np.generic]], Bools]:
    """The verdict columns of the claimed labels, each named as that of the prediction behind
    "claimed_"; and (n,) where float32 does not surely tell whether another label fits better.

    Rows without a claimed label have −1, NaN and False. "ahead" is whether the rival, the label of
    the largest quantity of all others, has more than the claimed one.
    """
    candidates, slots, at = candidate_set.candidates, candidate_set.slots, np.arange(len(claimed))
    has = claimed >= 0
    chosen = ((slots == claimed[:, np.newaxis]) & candidates.valid).argmax(axis=1)
    by_rule = np.where(candidates.valid, judgement.quantity, -np.inf)
    others = by_rule.copy()
    others[at, chosen] = -np.inf
    rival = best(others)
    has_rival = has & (others[at, rival] > -np.inf)
    mine, theirs = by_rule[at, chosen], by_rule[at, rival]
    similarity = np.where(has, candidates.similarity[at, chosen], np.nan)
    ids = np.where(has, context.view.text.ids[np.maximum(claimed, 0)], -1)
    rival_slot = np.where(has_rival, slots[at, rival], -1)
    nearest = np.where(np.isnan(candidates.similarity), -np.inf, candidates.similarity)
    largest = nearest.max(axis=1, initial=-np.inf)
    arrays: dict[str, npt.NDArray[np.generic]] = {
        "label_slot": claimed,
        "label_id": ids,
        "corrected_slot": np.full(len(claimed), -1, dtype=np.int64),
        "text_confidence": np.where(has, candidates.p[at, chosen], np.nan),
        "image_similarity": similarity,
        "trust": np.where(has, judgement.trust[at, chosen], np.nan),
        "agrees": has & (similarity >= largest),
        "rival_slot": rival_slot,
        "rival_id": np.where(has_rival, context.view.text.ids[rival_slot], -1),
        "rival_trust": np.where(has_rival, judgement.trust[at, rival], np.nan),
        "rival_confidence": np.where(has_rival, candidates.p[at, rival], np.nan),
        "unverified": has & (context.view.prototypes.slots(np.maximum(ids, 0)) < 0),
        "ahead": has_rival & (theirs > mine),
    }
    if close:
        closeness = close_calls(rule, judgement, candidates.p, chosen, rival)
        arrays["close"] = has_rival & closeness
    margin = candidate_set.rounding * context.view.space.logit_scale
    with np.errstate(invalid="ignore"):  # −inf − −inf, without a rival
        equal = has_rival & (np.abs(theirs - mine) <= margin * np.abs(mine)) & (mine != 0)
    return {CLAIMED + name: array for name, array in arrays.items()}, equal & (margin > 0)


def about_claims(columns: Columns) -> Columns:
    """The columns of the verdicts as they are about the claimed labels: label, trust, rival and the
    rest are those of the claim."""
    others = {name: one for name, one in columns.arrays.items() if not name.startswith(CLAIMED)}
    claimed = {
        name.removeprefix(CLAIMED): one
        for name, one in columns.arrays.items()
        if name.startswith(CLAIMED)
    }
    return columns.with_arrays(others | claimed)
