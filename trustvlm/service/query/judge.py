"""From candidates to verdict columns: what a rule predicts, how far it trusts it, and what else
speaks for or against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.scoring.candidates import Neighbours
from trustvlm.scoring.rules import NEIGHBOURS, Judgement, Rule
from trustvlm.service.memory.space_tree import SpaceTree
from trustvlm.service.query.candidates import (
    CANDIDATES,
    CandidateSet,
    DenseEngine,
    Request,
    UnitQueries,
    fits_dense,
)
from trustvlm.service.query.claims.judge_claims import claimed_arrays, has_all, with_claimed
from trustvlm.service.query.columns import Columns, Ranking, verdict_columns
from trustvlm.service.query.context import Context
from trustvlm.service.query.nodes import node_columns
from trustvlm.service.query.streamed import streamed_candidates
from trustvlm.service.query.whitened import discriminant_values
from trustvlm.system.stages import may_stop, stage
from trustvlm.types.arrays import Bools, Int64s

BATCH_ROWS, BATCH_LOGITS = 256, 2**22
"""Queries of a batch of the streamed engine, and logits of one of the dense engine (16 MB)."""

Parameters = Mapping[str, float | None]


def judge(
    context: Context,
    queries: UnitQueries,
    rules: Sequence[tuple[Rule, Parameters]],
    top_k: int,
    *,
    close: bool = False,
    claimed: Int64s | None = None,
    tree: SpaceTree | None = None,
) -> list[Columns]:
    """The verdict columns of n queries under each rule; passes over all labels are made once for
    the rules that need the same one.

    Args:
        close: say, too, whether the rival is close, or even ahead.
        claimed: (n,) text slots of claimed labels, −1: none; add the columns about these.
        tree: a taxonomy; add the columns about its nodes. The rules give probabilities.
    """
    count, top_k = len(queries.classifier), min(top_k, context.subset.labels)
    dense = top_k < CANDIDATES and fits_dense(context)
    rows = _dense_rows(context.view.text.n) if dense else BATCH_ROWS
    pieces: list[list[Columns]] = [[] for _ in rules]
    for start in range(0, max(count, 1), rows):
        part = slice(start, start + rows)
        some = None if claimed is None else claimed[part]
        one = queries if count <= rows else queries[part]
        engine = DenseEngine(context, one) if dense else None
        batch = QueryBatch(context, one, top_k, engine, close, some, tree)
        for piece, (rule, parameters) in zip(pieces, rules, strict=True):
            may_stop()
            piece.append(batch.judged(rule, parameters))
    return [Columns.joined(piece) for piece in pieces]


def _dense_rows(labels: int) -> int:
    """Queries of a batch of the dense engine: a power of two, so that queries that are scored in
    parts of some thousand have the batches, and so the numbers, of one call."""
    most = max(1, min(1024, BATCH_LOGITS // labels))
    return 1 << (most.bit_length() - 1)


@dataclass(eq=False)
class QueryBatch:
    """A few hundred queries, with the candidates of each request.

    Attributes:
        engine: the dense engine, whose products serve all rules; None: the streamed one serves,
            whose numbers are exact.
        claimed: text slots of their claimed labels, −1 without one; None: no query has one.
        tree: the taxonomy whose nodes get probabilities, too.
    """

    context: Context
    queries: UnitQueries
    top_k: int
    engine: DenseEngine | None
    close: bool
    claimed: Int64s | None = None
    tree: SpaceTree | None = None
    candidate_sets: dict[Request, CandidateSet] = field(default_factory=dict)

    def judged(self, rule: Rule, parameters: Parameters, leaders: int = CANDIDATES) -> Columns:
        """The verdict columns; rows whose answer may lie outside of the candidates, or nearer to
        another one than the engine tells apart, are judged again among more of them or exactly."""
        candidates = self._candidates(rule, parameters, leaders)
        with stage("fuse"):
            judgement = rule.judge(candidates.candidates, parameters)
        columns, unsure, chosen = verdict_columns(
            self.context, candidates, rule, judgement, self.top_k, close=self.close
        )
        if self.tree is not None:
            columns.arrays |= node_columns(
                self.context, self.tree, self.queries.classifier, candidates, judgement, chosen
            )
        unsure |= _unsure(candidates, rule, parameters, judgement)
        if self.claimed is not None:
            unsure |= self._judge_claims(columns, candidates, rule, parameters, judgement)
        if unsure.any() and (self.engine or leaders < self.context.view.text.n):
            rows = np.flatnonzero(unsure)
            batch = replace(
                self,
                queries=self.queries[rows],
                engine=None,
                claimed=None if self.claimed is None else self.claimed[rows],
                candidate_sets={},
            )
            more = leaders if self.engine else 8 * leaders
            for name, column in batch.judged(rule, parameters, more).arrays.items():
                columns.arrays[name][rows] = column
        return columns

    def _judge_claims(
        self,
        columns: Columns,
        candidates: CandidateSet,
        rule: Rule,
        parameters: Parameters,
        judgement: Judgement,
    ) -> Bools:
        """Add the columns about the claimed labels; (n,) where float32 did not surely tell whether
        another label fits better."""
        assert self.claimed is not None
        if not has_all(candidates, self.claimed):
            more = with_claimed(self.context, self.queries, candidates, self.claimed)
            candidates = self._completed(more, rule)
            with stage("fuse"):
                judgement = rule.judge(candidates.candidates, parameters)
        view = self.context.view
        ranking = Ranking(view.names, candidates.slots, candidates.rounding)
        best = partial(ranking.best, scale=view.space.logit_scale, relative=True)
        arrays, equal = claimed_arrays(
            self.context, candidates, rule, judgement, self.claimed, best, close=self.close
        )
        columns.arrays.update(arrays)
        return equal | ranking.unsure

    def _candidates(self, rule: Rule, parameters: Parameters, leaders: int) -> CandidateSet:
        request = Request(
            leaders=leaders,
            listed=self.top_k,
            reach=rule.reach if self.engine else "candidates",
            weight=parameters.get("lambda") or 0.0 if rule.reach == "sum" else 0.0,
            temperature=parameters["temperature"] if rule.beyond else None,
        )
        candidates = self.candidate_sets.get(request)
        if candidates is None and self.engine:
            candidates = self.engine.candidates(request)
        elif candidates is None:
            candidates = streamed_candidates(self.context, self.queries, request)
        if rule.neighbours or rule.discriminant:
            candidates = self._completed(candidates, rule)
        self.candidate_sets[request] = candidates
        return candidates

    def _completed(self, candidates: CandidateSet, rule: Rule) -> CandidateSet:
        """The candidates with what the rule asks for besides, if they do not have it."""
        if rule.neighbours and candidates.candidates.neighbours is None:
            neighbours = self._neighbours(candidates.slots)
            with_them = replace(candidates.candidates, neighbours=neighbours)
            candidates = replace(candidates, candidates=with_them)
        if rule.discriminant and candidates.candidates.discriminant is None:
            values = discriminant_values(self.context, self.queries, candidates)
            with_values = replace(candidates.candidates, discriminant=values)
            candidates = replace(candidates, candidates=with_values)
        return candidates

    def _neighbours(self, slots: Int64s) -> Neighbours:
        """The nearest support images of all labels; `slots`: (n, m) of the candidates."""
        context, view, verifier = self.context, self.context.view, self.queries.verifier
        assert verifier is not None
        index = context.home.caches.supports.view(context.reading, classifier=False)
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


def _unsure(
    candidates: CandidateSet, rule: Rule, parameters: Parameters, judgement: Judgement
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
