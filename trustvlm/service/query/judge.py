"""From candidates to verdict columns: what a rule predicts, how far it trusts it, and what else
speaks for or against it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from trustvlm.catalog.rows import supports
from trustvlm.scoring.candidates import Neighbours
from trustvlm.scoring.rules import NEIGHBOURS, Judgement, Rule, close_calls
from trustvlm.service.memory.taxonomy.space_tree import SpaceTree
from trustvlm.service.query.back_off.nodes import node_columns
from trustvlm.service.query.candidates import (
    CANDIDATES,
    CandidateSet,
    DenseEngine,
    Request,
    UnitQueries,
    fits_dense,
)
from trustvlm.service.query.claims.judge_claims import claimed_arrays, has_all, with_claimed
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.service.query.ranked.choice import choose
from trustvlm.service.query.ranked.ranking import Ranking
from trustvlm.service.query.streamed import streamed_candidates
from trustvlm.service.query.whitened.values import discriminant_values
from trustvlm.system.stopping import may_stop
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Bools, Floats, Int64s

BATCH_ROWS, BATCH_LOGITS = 256, 2**22
"""Queries of a batch of the streamed engine, and logits of one of the dense engine (16 MB)."""

Parameters = Mapping[str, float | None]


def judge(
    context: Context,
    classifier: Floats,
    verifier: Floats | None,
    rule: Rule,
    parameters: Parameters,
    top_k: int,
    *,
    close: bool = False,
    claimed: Int64s | None = None,
    tree: SpaceTree | None = None,
) -> Columns:
    """The verdict columns of unit queries (n, d_t) and, where given, (n, d_v), under one rule; with
    `close`, whether the rival is close, or even ahead; with `claimed`, the (n,) text slots of
    claimed labels (−1: none), also the columns about these; with a `tree`, and a rule that gives
    probabilities, also those of its nodes."""
    rules = [(rule, parameters)]
    return judge_all(
        context, classifier, verifier, rules, top_k, close=close, claimed=claimed, tree=tree
    )[0]


def judge_all(
    context: Context,
    classifier: Floats,
    verifier: Floats | None,
    rules: Sequence[tuple[Rule, Parameters]],
    top_k: int,
    *,
    close: bool = False,
    claimed: Int64s | None = None,
    tree: SpaceTree | None = None,
) -> list[Columns]:
    """The verdict columns under several rules; passes over all labels are made once for the rules
    that need the same one."""
    queries, top_k = UnitQueries(classifier, verifier), min(top_k, context.subset.labels)
    dense = top_k < CANDIDATES and fits_dense(context)
    rows = _dense_rows(context.view.text.n) if dense else BATCH_ROWS
    pieces: list[list[Columns]] = [[] for _ in rules]
    for start in range(0, max(len(queries), 1), rows):
        part = slice(start, start + rows)
        some = None if claimed is None else claimed[part]
        one = queries if len(classifier) <= rows else queries[part]
        batch = QueryBatch(context, one, top_k, dense, close, some, tree)
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
        dense: the dense engine serves them; else the streamed one, whose numbers are exact.
        claimed: text slots of their claimed labels, −1 without one; None: no query has one.
        tree: the taxonomy whose nodes get probabilities, too.
    """

    context: Context
    queries: UnitQueries
    top_k: int
    dense: bool
    close: bool
    claimed: Int64s | None = None
    tree: SpaceTree | None = None
    candidate_sets: dict[Request, CandidateSet] = field(default_factory=dict)

    @cached_property
    def engine(self) -> DenseEngine:
        """The dense engine, whose products serve all rules."""
        return DenseEngine(self.context, self.queries)

    def judged(self, rule: Rule, parameters: Parameters, leaders: int = CANDIDATES) -> Columns:
        """The verdict columns; rows whose answer may lie outside of the candidates, or nearer to
        another one than the engine tells apart, are judged again among more of them or exactly."""
        candidates = self._candidates(rule, parameters, leaders)
        with stage("fuse"):
            judgement = rule.judge(candidates.candidates, parameters)
        columns, unsure, chosen = _columns(
            self.context, candidates, rule, judgement, self.top_k, close=self.close
        )
        if self.tree is not None:
            columns.arrays |= node_columns(
                self.context, self.tree, self.queries.classifier, candidates, judgement, chosen
            )
        unsure |= _unsure(candidates, rule, parameters, judgement)
        if self.claimed is not None:
            unsure |= self._judge_claims(columns, candidates, rule, parameters, judgement)
        if unsure.any() and (self.dense or leaders < self.context.view.text.n):
            rows = np.flatnonzero(unsure)
            batch = replace(
                self,
                queries=self.queries[rows],
                dense=False,
                claimed=None if self.claimed is None else self.claimed[rows],
                candidate_sets={},
            )
            more = leaders if self.dense else 8 * leaders
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
            reach=rule.reach if self.dense else "candidates",
            weight=parameters.get("lambda") or 0.0 if rule.reach == "sum" else 0.0,
            temperature=parameters["temperature"] if rule.beyond else None,
        )
        if request not in self.candidate_sets:
            if self.dense:
                self.candidate_sets[request] = self.engine.candidates(request)
            else:
                self.candidate_sets[request] = streamed_candidates(
                    self.context, self.queries, request
                )
        candidates = self._completed(self.candidate_sets[request], rule)
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
        index = context.home.caches.support_view(context.reading, classifier=False)
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


def _columns(
    context: Context,
    candidate_set: CandidateSet,
    rule: Rule,
    judgement: Judgement,
    top_k: int,
    *,
    close: bool,
) -> tuple[Columns, Bools, Int64s]:
    """The verdict columns, (n,) where float32 did not surely tell the answer from the next, and
    (n,) the column of the label among the candidates."""
    view, p, slots = context.view, candidate_set.candidates.p, candidate_set.slots
    chosen = choose(context, candidate_set, judgement, top_k, relabels=rule.relabels)
    places, numbers, listed = chosen.places, chosen.numbers, chosen.listed
    label_slot, rival_slot, image_similarity = places[2], places[5], numbers[1]
    has_rival, label_id = rival_slot >= 0, view.text.ids[label_slot]
    unverified = np.isnan(image_similarity)
    if unverified.any():  # perhaps only because no verifier embeddings were given
        unverified = view.prototypes.slots(label_id) < 0
    if listed is None:
        top_slots, top_confidence = slots[:, :top_k].copy(), p[:, :top_k].copy()
    else:
        top_slots = np.take_along_axis(slots, listed, axis=1)
        top_confidence = np.take_along_axis(p, listed, axis=1)
    arrays = {
        "label_slot": label_slot,
        "label_id": label_id,
        "corrected_slot": places[3],
        "text_confidence": numbers[0],
        "image_similarity": image_similarity,
        "trust": numbers[2],
        "nearest_slot": places[4],
        "nearest_similarity": numbers[4],
        "agrees": chosen.agrees,
        "rival_slot": rival_slot,
        "rival_id": np.where(has_rival, view.text.ids[rival_slot], -1),
        "rival_trust": numbers[5],
        "rival_confidence": numbers[6],
        "unverified": unverified,
        "top_slots": top_slots,
        "top_confidence": top_confidence,
        "exact": candidate_set.surely_nearest.copy(),
    }
    if close:
        arrays["close"] = has_rival & close_calls(rule, judgement, p, places[0], places[1])
        arrays["ahead"] = has_rival & (numbers[7] > numbers[3])
    return Columns(view.names, arrays), chosen.unsure, places[0]
