"""From candidates to verdict columns: what a rule predicts, how far it trusts it, and what else
speaks for or against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows import supports
from trustvlm.index.string_table import NameTable
from trustvlm.scoring.rules import NEIGHBOURS, Judgement, Neighbours, Rule, close_calls
from trustvlm.service.query.candidates import CANDIDATES, CandidateSet, UnitQueries, find_candidates
from trustvlm.service.query.context import Context
from trustvlm.system.stopping import may_stop
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects

__all__ = ["Columns", "judge", "judge_all"]

Columns = dict[str, npt.NDArray[np.generic]]

BATCH_ROWS = 256


def judge(
    context: Context,
    classifier: Float64s,
    verifier: Float64s | None,
    rule: Rule,
    parameters: Mapping[str, float | None],
    top_k: int,
) -> Columns:
    """The verdict columns of unit queries (n, d_t) and, where given, (n, d_v), under one rule."""
    return judge_all(context, classifier, verifier, [(rule, parameters)], top_k)[0]


def judge_all(
    context: Context,
    classifier: Float64s,
    verifier: Float64s | None,
    rules: Sequence[tuple[Rule, Mapping[str, float | None]]],
    top_k: int,
) -> list[Columns]:
    """The verdict columns under several rules; passes over all labels are made once for the rules
    that need the same one."""
    queries, top_k = UnitQueries(classifier, verifier), min(top_k, context.subset.labels)
    pieces: list[list[Columns]] = [[] for _ in rules]
    for start in range(0, max(len(queries), 1), BATCH_ROWS):
        batch = QueryBatch(context, queries[start : start + BATCH_ROWS], top_k)
        for piece, (rule, parameters) in zip(pieces, rules, strict=True):
            may_stop()
            piece.append(batch.judged(rule, parameters))
    return [_concatenated(piece) for piece in pieces]


def _concatenated(piece: list[Columns]) -> Columns:
    if len(piece) == 1:
        return piece[0]
    return {name: np.concatenate([part[name] for part in piece]) for name in piece[0]}


@dataclass(frozen=True, eq=False)
class _Names:
    """Names of (n, m) text slots, looked up when they are needed; the empty string where padded."""

    names: NameTable
    slots: Int64s

    def __getitem__(self, at: tuple[int, int]) -> str:
        slot = int(self.slots[at])
        return self.names[slot] if slot >= 0 else ""

    def of(self, columns: Int64s, present: Bools | None = None) -> Objects:
        """The names in (n,) or (n, k) columns of the n rows; None where not `present`."""
        wide = columns if columns.ndim == 2 else columns[:, np.newaxis]
        slots = np.take_along_axis(self.slots, wide, axis=1).ravel()
        listed = np.empty(len(slots), dtype=object)
        listed[:] = [self.names[slot] if slot >= 0 else "" for slot in slots.tolist()]
        names: Objects = listed.reshape(columns.shape)
        if present is not None:
            names[~present] = None
        return names


@dataclass(eq=False)
class QueryBatch:
    """A few hundred queries, with the candidates of each (number of them, temperature)."""

    context: Context
    queries: UnitQueries
    top_k: int
    candidate_sets: dict[tuple[int, float | None], CandidateSet] = field(default_factory=dict)

    def judged(
        self, rule: Rule, parameters: Mapping[str, float | None], leaders: int = CANDIDATES
    ) -> Columns:
        """The verdict columns; rows whose answer may lie outside of the candidates are judged again
        among more of them."""
        candidates = self._candidates(rule, parameters, leaders)
        with stage("fuse"):
            judgement = rule.judge(candidates.candidates, parameters)
        columns = _columns(self.context, candidates, rule, judgement, self.top_k)
        unsure = np.flatnonzero(_unsure(candidates, rule, parameters, judgement))
        if len(unsure) and leaders < self.context.view.text.n:
            batch = QueryBatch(self.context, self.queries[unsure], self.top_k)
            for name, column in batch.judged(rule, parameters, 8 * leaders).items():
                columns[name][unsure] = column
        return columns

    def _candidates(
        self, rule: Rule, parameters: Mapping[str, float | None], leaders: int
    ) -> CandidateSet:
        temperature = parameters["temperature"] if rule.beyond else None
        key = (leaders, temperature)
        if key not in self.candidate_sets:
            self.candidate_sets[key] = find_candidates(
                self.context, self.queries, leaders, self.top_k, temperature
            )
        candidates = self.candidate_sets[key]
        if rule.neighbours and candidates.candidates.neighbours is None:
            neighbours = self._neighbours(candidates.slots)
            with_them = replace(candidates.candidates, neighbours=neighbours)
            candidates = self.candidate_sets[key] = replace(candidates, candidates=with_them)
        return candidates

    def _neighbours(self, slots: Int64s) -> Neighbours:
        """The nearest support images of all labels; `slots`: (n, m) of the candidates."""
        context, view, verifier = self.context, self.context.view, self.queries.verifier
        assert verifier is not None
        index = context.home.caches.support_view(context.connection, view, classifier=False)
        k = max(1, min(NEIGHBOURS, len(index)))
        ids, similarity = index.search(verifier.astype(np.float32), k)
        live = np.unique(ids[ids >= 0]).tolist()
        owner_of = supports.find_alive(context.connection, view.space.id, live)
        owners = np.array([owner_of.get(i, -1) for i in ids.ravel().tolist()], dtype=np.int64)
        labels = view.aliases.of(owners)
        owned = view.text.slots(np.maximum(labels, 0)).reshape(ids.shape)
        column = np.full(ids.shape, -1, dtype=np.int64)
        for rank in range(ids.shape[1]):
            slot = owned[:, rank : rank + 1]
            same = (slots == slot) & (slot >= 0)
            column[:, rank] = np.where(same.any(axis=1), same.argmax(axis=1), -1)
        return Neighbours(similarity.astype(np.float64), column)


def _columns(
    context: Context, candidate_set: CandidateSet, rule: Rule, judgement: Judgement, top_k: int
) -> Columns:
    view, slots, candidates = context.view, candidate_set.slots, candidate_set.candidates
    p, similarity, names = candidates.p, candidates.similarity, _Names(view.names, slots)
    at = np.arange(len(p))
    by_text = np.where(slots >= 0, p, -np.inf)
    by_rule = np.where(candidates.valid, judgement.quantity, -np.inf)
    by_classifier = _best(by_text, names)
    chosen = _best(by_rule, names) if rule.relabels else by_classifier
    others = by_rule.copy()
    others[at, chosen] = -np.inf
    rival = _best(others, names)
    has_rival = ~np.isneginf(others[at, rival])
    nearest = _best(np.where(np.isnan(similarity), -np.inf, similarity), names)
    has_nearest = ~np.isnan(similarity[at, nearest])
    order = _order(by_text, names, top_k)
    label_id = view.text.ids[slots[at, chosen]]
    close = close_calls(rule, judgement, p, chosen, rival)
    return {
        "label": names.of(chosen),
        "label_id": label_id,
        "corrected_from": names.of(by_classifier, chosen != by_classifier),
        "text_confidence": p[at, chosen],
        "image_similarity": similarity[at, chosen],
        "trust": judgement.trust[at, chosen],
        "nearest_prototype": names.of(nearest, has_nearest),
        "nearest_similarity": similarity[at, nearest],
        "agrees": has_nearest & (nearest == chosen),
        "rival": names.of(rival, has_rival),
        "rival_id": np.where(has_rival, view.text.ids[slots[at, rival]], -1),
        "rival_trust": np.where(has_rival, judgement.trust[at, rival], np.nan),
        "rival_confidence": np.where(has_rival, p[at, rival], np.nan),
        "close": has_rival & close,
        "ahead": has_rival & (by_rule[at, rival] > by_rule[at, chosen]),
        "unverified": view.prototypes.slots(label_id) < 0,
        "top_labels": names.of(order),
        "top_confidence": np.take_along_axis(p, order, axis=1),
        "exact": candidate_set.surely_nearest,
    }


def _unsure(
    candidates: CandidateSet,
    rule: Rule,
    parameters: Mapping[str, float | None],
    judgement: Judgement,
) -> Bools:
    """(n,) where a label outside of the candidates could still be the answer: where it may win a
    rule that relabels by a sum over all labels, or where equals of the best were cut off and one of
    them may have a smaller name."""
    if not rule.beyond:
        return candidates.tied
    weight = parameters["lambda"]
    assert weight is not None
    best = np.where(candidates.candidates.valid, judgement.quantity, -np.inf).max(axis=1)
    highest = candidates.outside + weight * candidates.image_outside
    unsure: Bools = candidates.tied | ((candidates.outside > 0) & (best <= highest))
    return unsure


def _best(values: Float64s, names: _Names) -> Int64s:
    """(n,) column of the largest value of each row; of several, the one with the smallest name."""
    best: Int64s = values.argmax(axis=1)
    tied = values == values[np.arange(len(values)), best][:, np.newaxis]
    for row in np.flatnonzero(tied.sum(axis=1) > 1).tolist():
        columns = np.flatnonzero(tied[row])
        if not np.isneginf(values[row, columns[0]]):
            best[row] = min(columns.tolist(), key=lambda column: names[row, column])
    return best


def _order(values: Float64s, names: _Names, k: int) -> Int64s:
    """(n, k) columns of the k largest values, best first; ties in order of name."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)[:, : k + 1]
    tied = (ordered[:, 1:] == ordered[:, :-1]) & ~np.isneginf(ordered[:, 1:])
    for row in np.flatnonzero(tied.any(axis=1)).tolist():
        order[row] = sorted(
            order[row].tolist(), key=lambda column: (-values[row, column], names[row, column])
        )
    return order[:, :k]
