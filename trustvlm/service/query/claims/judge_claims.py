"""Claims: from the names that queries are claimed to be to labels of the space, and what a rule
says of these. They join the candidates of their queries with exact numbers, and are judged as if
they were the prediction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels as label_rows
from trustvlm.catalog.rows.likeness import unknown
from trustvlm.catalog.store.names import brief
from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import RULES, Judgement, Rule, close_calls
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.query.candidates import CandidateSet, UnitQueries
from trustvlm.service.query.columns import CLAIMED, Columns
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import similarities
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects

Best = Callable[[Float64s], Int64s]
"""(n,) column of the largest of each row of (n, m) values; of equal ones that with the smallest
name."""

_SUGGESTED = 3
"""Names that are no labels, for which a similar label is looked for."""


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


@dataclass(frozen=True, eq=False)
class Claims:
    """What each of n queries is claimed to be.

    Attributes:
        names: (n,) of the claimed labels; of an alias, that of its label; None: no claim.
        slots: (n,) text slots of these labels; −1: no claim, or no label that takes part.
        problems: name → why it is no label that a verdict can be about, in words.
    """

    names: Objects
    slots: Int64s
    problems: Mapping[str, str]

    @property
    def given(self) -> Bools:
        """(n,) which queries have a claim."""
        return np.array([name is not None for name in self.names.tolist()], dtype=np.bool_)

    def __getitem__(self, rows: Int64s) -> Claims:
        return Claims(self.names[rows], self.slots[rows], self.problems)


def require_claimable(rules: Sequence[str]) -> None:
    """Make sure that each rule has a trust for any label.

    Raises:
        InvalidInput: the trust of one belongs to the query and says nothing of a claimed label.
    """
    if never := [name for name in rules if not RULES[name].of_label]:
        can = ", ".join(name for name, rule in RULES.items() if rule.of_label)
        raise InvalidInput(
            f"rule: the trust of {never[0]!r} is the same for every label, so that it says nothing "
            f"of a claimed one; expected one of {can}"
        )


def claims_of(
    connection: Connection, view: SpaceView, taking: Bools | None, names: Sequence[str | None]
) -> Claims:
    """The labels that these n names claim; `taking`: which text slots take part, None: all.

    A name that is no label, or one that does not take part, is no error: its verdict says so.
    """
    distinct = sorted({name for name in names if name is not None})
    usable = [name for name in distinct if can_be_name(name)]
    records = label_rows.find_many(connection, view.space.id, usable)
    ids = np.array([record.id for record in records.values()], dtype=np.int64)
    slots = view.text.slots(view.aliases.of(ids))
    slot_of = {name: int(slot) for name, slot in zip(records, slots, strict=True) if slot >= 0}
    problems = _no_labels(connection, view, [name for name in distinct if name not in slot_of])
    if taking is not None:
        for name, slot in [*slot_of.items()]:
            if not taking[slot]:
                del slot_of[name]
                problems[name] = f"the claimed {brief(name)} is not among the labels of this call"
    label_of = {name: view.names[slot] for name, slot in slot_of.items()}
    shown: Objects = np.empty(len(names), dtype=object)
    shown[:] = [None if name is None else label_of.get(name, name) for name in names]
    claimed = [-1 if name is None else slot_of.get(name, -1) for name in names]
    return Claims(shown, np.array(claimed, dtype=np.int64), problems)


def can_be_name(name: str) -> bool:
    """Whether the catalog can look the name up: no database stores NUL or half a character."""
    return "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name)


def _no_labels(connection: Connection, view: SpaceView, names: Sequence[str]) -> dict[str, str]:
    """What to say of names that are no labels; of the first ones, with the label that was probably
    meant."""
    usable = [name for name in names if can_be_name(name)][:_SUGGESTED]
    meant = unknown(connection, view.space.id, usable) if usable else {}
    problems = {}
    for name in names:
        guess = meant.get(name)
        hint = "" if guess is None else f"; did you mean {brief(guess)}?"
        problems[name] = f"the claimed {brief(name)} is no label of the space{hint}"
    return problems
