"""From queries to candidate labels with exact numbers: text leaders and nearest prototypes, in
float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.index.rows import RowView
from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.scoring.rules import Candidates
from trustvlm.service.memory.aliases import missing_members, pooled
from trustvlm.service.memory.label_subset import Subset
from trustvlm.service.memory.passes import (
    SHORT_SLACK,
    in_exact_order,
    leaders_pass,
    rows_pass,
    similarities,
)
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.softmax.softmax import refined
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Bools, Float64s, Int64s

__all__ = ["CANDIDATES", "Found", "find_candidates"]

CANDIDATES = 64
"""K, the number of text leaders and of nearest prototypes (docs/rules.md, "Candidates")."""

_WALKED = 4  # queries of which each may have a walk over all prototypes of its own
_TIE = 1e-6  # similarities nearer than this may be equal, after float32 rounding of the pass


@dataclass(frozen=True, eq=False)
class Found:
    """n queries' candidates: text leaders first, then the nearest prototypes that are not among
    them.

    Attributes:
        slots: (n, m) text slots, −1 where padded. Behind the candidates come further text leaders
            that were only asked to be listed; they are not `valid` candidates.
        candidates: logits and similarities of all of them.
        outside: (n,) upper bound of p of any label that is not a candidate.
        nearest_complete: (n,) the nearest prototype is surely among the candidates.
        image_outside: (n,) upper bound of softmax(c/T) of any label that is not a candidate (0
            without a temperature).
        tied: (n,) equals of the best may have been cut off: the smallest name is sure only among
            more candidates.
    """

    slots: Int64s
    candidates: Candidates
    outside: Float64s
    nearest_complete: Bools
    image_outside: Float64s
    tied: Bools


def find_candidates(
    view: SpaceView,
    classifier: Float64s,
    verifier: Float64s | None,
    subset: Subset,
    *,
    leaders: int,
    listed: int,
    temperature: float | None,
    evidence: ImageEvidence,
    background: Float64s,
) -> Found:
    """Candidates of unit queries (n, d_t) and, where given, (n, d_v).

    Args:
        leaders: K, of each side. listed: how many text leaders to return at least.
        temperature: T of the softmax over prototypes, for a rule that asks for it.
        evidence: what the support images say. background: (a, d_v) the sample of prototypes for
            labels without them.
    """
    aliases = view.aliases
    listed *= aliases.largest  # so many labels are left when further names are taken together
    scale = view.space.logit_scale
    with stage("text pass"):
        text = rows_pass(
            view.text, classifier, scale, max(leaders, listed), view.kernels, subset.text
        )
        text, leading = in_exact_order(view.text, text, classifier, scale)
    if verifier is None or not len(view.prototypes):
        near, known = np.empty((len(classifier), 0), np.int64), None
        complete, image_log_z = (
            np.ones(len(classifier), np.bool_),
            np.full(len(classifier), -np.inf),
        )
        image_outside, image_tied = np.zeros(len(classifier)), np.zeros(len(classifier), np.bool_)
    else:
        with stage("image pass"):
            nearest = _nearest(view, verifier, subset, leaders, temperature)
        near, known, complete, image_log_z, image_outside, image_tied = nearest
    first, further = text.slots[:, :leaders], text.slots[:, leaders:]
    near = _unless(near, first)
    near = np.concatenate(
        [near, missing_members(aliases, view.text, np.concatenate([first, near], axis=1))], axis=1
    )
    moments, outside, rest = refined(text, leading, subset.rows, _slack(view.text, scale))
    text_tied = (outside > 0) & _cut_through_equals(leading, listed, _TIE * scale)
    further = _unless(further, near)
    slots = np.concatenate([first, near, further], axis=1)
    others = missing_members(aliases, view.text, slots)
    logits = np.concatenate(
        [
            leading[:, : first.shape[1]],
            scale * similarities(view.text, near, classifier),
            leading[:, first.shape[1] :],
            scale * similarities(view.text, others, classifier),
        ],
        axis=1,
    )
    slots = np.concatenate([slots, others], axis=1)
    candidates_end = first.shape[1] + near.shape[1]
    logits = np.where(slots < 0, -np.inf, logits)
    p = np.exp(logits - moments.log_z[:, np.newaxis])
    outside_leaders = np.where(
        _unless(near, text.slots) >= 0, p[:, first.shape[1] : candidates_end], 0.0
    )
    only_listed = p[:, candidates_end : candidates_end + further.shape[1]]
    rest = np.maximum(rest - outside_leaders.sum(axis=1) + only_listed.sum(axis=1), 0.0)
    slots, logits, moments = pooled(aliases, view.text, slots, logits, moments)
    similarity = np.full(slots.shape, np.nan)
    if verifier is not None and len(view.prototypes):
        rows = view.prototypes.slots(view.text.ids[np.maximum(slots, 0)].ravel()).reshape(
            slots.shape
        )
        rows[slots < 0] = -1
        rows[:, candidates_end:] = -1  # only listed
        if known is not None and not aliases.canonical:  # else columns may have been taken together
            rows[:, first.shape[1] : first.shape[1] + known.shape[1]] = -1
        similarity = similarities(view.prototypes, rows, verifier)
        if known is not None and not aliases.canonical:
            columns = slice(first.shape[1], first.shape[1] + known.shape[1])
            similarity[:, columns] = np.where(slots[:, columns] >= 0, known, np.nan)
    candidates = Candidates(
        logit=logits,
        moments=moments,
        similarity=similarity,
        imputed=evidence.imputed,
        image_log_z=image_log_z if temperature is not None else None,
        valid=(slots >= 0) & (np.arange(slots.shape[1]) < candidates_end),
        rest=rest,
        labels=subset.labels,
        prototypes=len(view.prototypes)
        if subset.prototypes is None
        else int(subset.prototypes.sum()),
        evidence=evidence,
        background=None if verifier is None else verifier @ background.T,
    )
    return Found(
        slots,
        candidates,
        outside * aliases.largest,
        complete,
        image_outside,
        text_tied | image_tied,
    )


def _unless(slots: Int64s, known: Int64s) -> Int64s:
    """`slots` with −1 in place of those that their row of `known` has."""
    if not slots.size or not known.size:
        return slots
    row = np.arange(len(slots))[:, np.newaxis] * (max(int(slots.max()), int(known.max())) + 2)
    return np.where(np.isin(row + slots, row + known), -1, slots)


def _cut_through_equals(leading: Float64s, needed: int, tolerance: float) -> Bools:
    """(n,) whether the last leader is as good as the one behind the `needed` best: then others just
    as good are missing."""
    ordered = -np.sort(-leading, axis=1)
    return ordered[:, min(needed, leading.shape[1] - 1)] - ordered[:, -1] <= tolerance


def _slack(table: RowView, scale: float) -> float:
    """By how much a row that was left out may be better than the last leader."""
    return 0.0 if table.base is None else scale * SHORT_SLACK


def _better_passed(view: SpaceView, queries: int) -> bool:
    """Whether so many queries are better served by a pass over the prototypes than by FAISS.

    A flat index on a CPU walks the rows anew for every query of a small batch, which is best for a
    few only.
    """
    index = view.index
    return index is not None and not index.on_gpu and view.cache.recipe.exact and queries > _WALKED


def _nearest(
    view: SpaceView, verifier: Float64s, subset: Subset, k: int, temperature: float | None
) -> tuple[Int64s, Float64s | None, Bools, Float64s, Float64s, Bools]:
    """(text slots of the k nearest prototypes, their similarities if they are known exactly, surely
    complete, log Σ e^(c/T), bound of softmax(c/T) outside, tied)."""
    count = len(verifier)
    if (
        temperature is None
        and subset.prototypes is None
        and view.index is not None
        and not _better_passed(view, count)
    ):
        ids, similarity = view.index.search(verifier.astype(np.float32), min(k, len(view.index)))
        slots = view.text.slots(np.maximum(ids, 0).ravel()).reshape(ids.shape)
        slots[ids < 0] = -1
        # Whatever was left out looked no better than the last one returned; both may be off by
        # `max_error`.
        margin = similarity[:, 0] - similarity[:, -1]
        sure = view.cache.recipe.exact or k >= len(view.index)
        complete = np.full(count, view.index.exhaustive) & (
            sure | (margin >= 2 * view.index.max_error)
        )
        tied = (margin <= _TIE) & (k < len(view.index))
        return slots, None, complete, np.full(count, -np.inf), np.zeros(count), tied
    asked = len(view.prototypes) if subset.prototypes is None else int(subset.prototypes.sum())
    scale = 1.0 if temperature is None else 1.0 / temperature
    slack = _slack(view.prototypes, scale)
    if temperature is None:
        found, exact = leaders_pass(
            view.prototypes, verifier, scale, k, view.kernels, subset.prototypes
        )
        image_log_z, outside = np.full(count, -np.inf), np.zeros(count)
    else:
        image = rows_pass(view.prototypes, verifier, scale, k, view.kernels, subset.prototypes)
        image, exact = in_exact_order(view.prototypes, image, verifier, scale)
        moments, outside, _ = refined(image, exact, asked, slack)
        found, image_log_z = image.slots, moments.log_z
    slots = view.text.slots(view.prototypes.ids[np.maximum(found, 0)].ravel()).reshape(found.shape)
    slots[found < 0] = -1
    surely = (found.shape[1] >= asked) | (
        np.nanmax(exact, axis=1) - np.nanmin(exact, axis=1) >= slack
    )
    tied = (found.shape[1] < asked) & _cut_through_equals(exact, 0, _TIE * scale)
    return slots[:, :k], exact[:, :k] / scale, surely, image_log_z, outside, tied
