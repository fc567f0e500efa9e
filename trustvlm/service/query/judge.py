"""From candidates to verdict columns: what a rule predicts, how far it trusts it, and what else
speaks for or against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows import supports
from trustvlm.index.string_table import NameTable
from trustvlm.scoring.closeness import close_calls
from trustvlm.scoring.rules import NEIGHBOURS, Judgement, Neighbours, Rule
from trustvlm.service.query.candidates import CANDIDATES, Found, find_candidates
from trustvlm.service.query.context import Context
from trustvlm.system.stopping import may_stop
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects

__all__ = ["Columns", "judge", "judge_all"]

Columns = dict[str, npt.NDArray[np.generic]]

BATCH_ROWS = 256


@dataclass(frozen=True, eq=False)
class Queries:
    """Unit vectors of a batch: (n, d_t) and, where given, (n, d_v)."""

    classifier: Float64s
    verifier: Float64s | None

    def __getitem__(self, rows: Int64s | slice) -> Queries:
        return Queries(
            self.classifier[rows], None if self.verifier is None else self.verifier[rows]
        )


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
    """The same under several rules: the passes over all labels are made once for those that ask for
    the same."""
    queries = Queries(classifier, verifier)
    pieces: list[list[Columns]] = [[] for _ in rules]
    for start in range(0, max(len(classifier), 1), BATCH_ROWS):
        batch = _Batch(
            context, queries[start : start + BATCH_ROWS], min(top_k, context.subset.labels)
        )
        for piece, (rule, parameters) in zip(pieces, rules, strict=True):
            may_stop()
            piece.append(batch.judged(rule, parameters))
    return [
        {key: np.concatenate([part[key] for part in piece]) for key in piece[0]} for piece in pieces
    ]


@dataclass(frozen=True, eq=False)
class _Names:
    """Names of (n, m) text slots, looked up where they are asked for; the empty string where
    padded."""

    names: NameTable
    slots: Int64s

    def __getitem__(self, at: tuple[int, int]) -> str:
        slot = int(self.slots[at])
        return self.names[slot] if slot >= 0 else ""

    def of(self, columns: Int64s) -> Objects:
        """The names in (n,) or (n, k) columns of the n rows."""
        chosen = np.take_along_axis(
            self.slots, columns if columns.ndim == 2 else columns[:, np.newaxis], axis=1
        ).ravel()
        found = np.empty(len(chosen), dtype=object)
        found[:] = [self.names[slot] if slot >= 0 else "" for slot in chosen.tolist()]
        return found.reshape(columns.shape)


@dataclass(eq=False)
class _Batch:
    """A few hundred queries; remembers what it found for a (number of candidates, temperature,
    neighbours or not)."""

    context: Context
    queries: Queries
    top_k: int
    found: dict[tuple[int, float | None, bool], Found] = field(default_factory=dict)

    def judged(
        self, rule: Rule, parameters: Mapping[str, float | None], leaders: int = CANDIDATES
    ) -> Columns:
        found = self._find(rule, parameters, leaders)
        with stage("fuse"):
            judgement = rule.judge(found.candidates, parameters)
        columns = self._columns(found, rule, judgement)
        short = np.flatnonzero(_unsure(found, rule, parameters, judgement))
        if len(short) and leaders < self.context.view.text.n:
            further = _Batch(self.context, self.queries[short], self.top_k).judged(
                rule, parameters, 8 * leaders
            )
            for name, column in further.items():
                columns[name][short] = column
        return columns

    def _find(self, rule: Rule, parameters: Mapping[str, float | None], leaders: int) -> Found:
        temperature = parameters["temperature"] if rule.beyond else None
        key = (leaders, temperature, rule.neighbours)
        if key not in self.found:
            plain = self.found.get((leaders, temperature, False))
            found = plain or find_candidates(
                self.context.view,
                self.queries.classifier,
                self.queries.verifier,
                self.context.subset,
                leaders=leaders,
                listed=self.top_k,
                temperature=temperature,
                evidence=self.context.fit.evidence,
                background=self.context.background,
            )
            self.found[key] = self._with_neighbours(found) if rule.neighbours else found
        return self.found[key]

    def _with_neighbours(self, found: Found) -> Found:
        """`found` with the nearest support images of all labels."""
        context = self.context
        assert self.queries.verifier is not None
        index = context.home.caches.support_view(context.connection, context.view, classifier=False)
        ids, similarity = index.search(
            self.queries.verifier.astype(np.float32), max(1, min(NEIGHBOURS, len(index)))
        )
        owners = supports.find_alive(
            context.connection, context.view.space.id, np.unique(ids[ids >= 0]).tolist()
        )
        label_ids = np.array([owners.get(i, -1) for i in ids.ravel().tolist()], dtype=np.int64)
        labels = context.view.aliases.of(label_ids)
        slots = context.view.text.slots(np.maximum(labels, 0)).reshape(ids.shape)
        column = np.full(ids.shape, -1, dtype=np.int64)
        for rank in range(ids.shape[1]):
            same = (found.slots == slots[:, rank : rank + 1]) & (slots[:, rank : rank + 1] >= 0)
            column[:, rank] = np.where(same.any(axis=1), same.argmax(axis=1), -1)
        near = Neighbours(similarity.astype(np.float64), column)
        return replace(found, candidates=replace(found.candidates, neighbours=near))

    def _columns(self, found: Found, rule: Rule, judgement: Judgement) -> Columns:
        candidates, valid = found.candidates, found.candidates.valid
        p = candidates.p
        by_text = np.where(found.slots >= 0, p, -np.inf)
        by_rule = np.where(valid, judgement.quantity, -np.inf)
        names = _Names(self.context.view.names, found.slots)
        at = np.arange(len(p))
        by_classifier = _best(by_text, names)
        chosen = _best(by_rule, names) if rule.relabels else by_classifier
        others = by_rule.copy()
        others[at, chosen] = -np.inf
        rival = _best(others, names)
        has_rival = ~np.isneginf(others[at, rival])
        similarity = candidates.similarity
        nearest = _best(np.where(np.isnan(similarity), -np.inf, similarity), names)
        has_nearest = ~np.isnan(similarity[at, nearest])
        order = _order(by_text, names, self.top_k)
        ids = self.context.view.text.ids
        return {
            "label": names.of(chosen),
            "label_id": ids[found.slots[at, chosen]],
            "corrected_from": _or_none(names.of(by_classifier), chosen != by_classifier),
            "text_confidence": p[at, chosen],
            "image_similarity": similarity[at, chosen],
            "trust": judgement.trust[at, chosen],
            "nearest_prototype": _or_none(names.of(nearest), has_nearest),
            "nearest_similarity": similarity[at, nearest],
            "agrees": has_nearest & (nearest == chosen),
            "rival": _or_none(names.of(rival), has_rival),
            "rival_id": np.where(has_rival, ids[found.slots[at, rival]], -1),
            "rival_trust": np.where(has_rival, judgement.trust[at, rival], np.nan),
            "rival_confidence": np.where(has_rival, p[at, rival], np.nan),
            "close": has_rival & close_calls(rule, judgement, p, chosen, rival),
            "ahead": has_rival & (by_rule[at, rival] > by_rule[at, chosen]),
            "unverified": self._unverified(found.slots[at, chosen]),
            "top_labels": names.of(order),
            "top_confidence": np.take_along_axis(p, order, axis=1),
            "exact": found.nearest_complete,
        }

    def _unverified(self, slots: Int64s) -> Bools:
        """(n,) whether the labels in these text slots have no prototype."""
        view = self.context.view
        bare: Bools = view.prototypes.slots(view.text.ids[slots]) < 0
        return bare


def _unsure(
    found: Found, rule: Rule, parameters: Mapping[str, float | None], judgement: Judgement
) -> Bools:
    """(n,) where a label outside of the candidates could still be the answer: where it may win a
    rule that relabels by a sum over all labels, or where equals of the best were cut off and one of
    them may have a smaller name."""
    if not rule.beyond:
        return found.tied
    weight = parameters["lambda"]
    assert weight is not None
    best = np.where(found.candidates.valid, judgement.quantity, -np.inf).max(axis=1)
    unsure: Bools = found.tied | (
        (found.outside > 0) & (best <= found.outside + weight * found.image_outside)
    )
    return unsure


def _or_none(names: Objects, there: Bools) -> Objects:
    """`names` with None where there is nothing."""
    found = names.copy()
    found[~there] = None
    return found


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
