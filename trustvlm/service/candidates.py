"""From queries to candidate labels with exact numbers: text leaders and nearest prototypes, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.rules import Candidates
from trustvlm.scoring.text import Partition, softmax_pass
from trustvlm.service.cache import SpaceView
from trustvlm.types import Bools, Float32s, Float64s, Int64s

__all__ = ["CANDIDATES", "Found", "Subset", "find_candidates"]

CANDIDATES = 64
"""K: so many text leaders and so many nearest prototypes are looked at (SCIENCE §2)."""

_TIE = 1e-6  # similarities nearer than this may be equal, after float32 rounding of the pass
_GATHER_ROWS = 32  # queries per gather of candidate rows: 32 × 128 × 512 float64 is 16 MB


@dataclass(frozen=True, eq=False)
class Subset:
    """The labels that a call asks about, as masks over the view's slots; None for all."""

    text: Bools | None
    prototypes: Bools | None


@dataclass(frozen=True, eq=False)
class Found:
    """n queries' candidates: text leaders first, then the nearest prototypes that are not among them.

    Attributes:
        slots: (n, m) text slots, −1 where padded. Behind the candidates come further text leaders that were only asked
            to be listed; they are not `valid` candidates.
        candidates: probabilities and similarities of all of them.
        outside: (n,) upper bound of p of any label that is not a candidate.
        nearest_complete: (n,) the nearest prototype is surely among the candidates.
        image_outside: (n,) upper bound of softmax(c/T) of any label that is not a candidate (0 without a temperature).
        tied: (n,) equals of the best may have been cut off: the smallest name is sure only among more candidates.
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
    imputed: float,
) -> Found:
    """Candidates of unit queries (n, d_t) and, where given, (n, d_v).

    Args:
        leaders: K, of each side. listed: how many text leaders to return at least.
        temperature: T of the softmax over prototypes, for a rule that asks for it.
        imputed: c̃.
    """
    text_keep = _keep(view.text.alive, view.text.live, subset.text)
    text = softmax_pass(
        view.text.rows,
        classifier.astype(np.float32),
        view.space.logit_scale,
        min(max(leaders, listed), view.text.n),
        keep=text_keep,
    )
    if verifier is None or not len(view.prototypes):
        near = np.empty((len(classifier), 0), np.int64)
        complete, image_log_z = np.ones(len(classifier), np.bool_), np.full(len(classifier), -np.inf)
        image_outside, image_tied = np.zeros(len(classifier)), np.zeros(len(classifier), np.bool_)
    else:
        near, complete, image_log_z, image_outside, image_tied = _nearest(view, verifier, subset, leaders, temperature)
    first, further = text.slots[:, :leaders], text.slots[:, leaders:]
    slots = np.concatenate([first, _unless(near, first), _unless(further, near)], axis=1)
    valid = slots >= 0
    valid[:, slots.shape[1] - further.shape[1] :] = False
    logits = view.space.logit_scale * _similarities(view.text.rows, slots, classifier)
    leading = view.space.logit_scale * _similarities(view.text.rows, text.slots, classifier) if further.size else logits
    asked = view.text.live if subset.text is None else int(subset.text.sum())
    p, outside = _probabilities(logits, leading, text, asked)
    text_tied = (outside > 0) & _cut_through_equals(leading[:, : text.slots.shape[1]], listed, _TIE * view.space.logit_scale)
    similarity = np.full(slots.shape, np.nan)
    if verifier is not None and len(view.prototypes):
        rows = view.prototypes.slots(view.text.ids[np.maximum(slots, 0)].ravel()).reshape(slots.shape)
        rows[slots < 0] = -1
        similarity = _similarities(view.prototypes.rows, rows, verifier)
    candidates = Candidates(p, similarity, imputed, image_log_z if temperature is not None else None, valid)
    return Found(slots, candidates, outside, complete, image_outside, text_tied | image_tied)


def _unless(slots: Int64s, known: Int64s) -> Int64s:
    """`slots` with −1 in place of those that their row of `known` has."""
    if not slots.size or not known.size:
        return slots
    row = np.arange(len(slots))[:, np.newaxis] * (max(int(slots.max()), int(known.max())) + 2)
    return np.where(np.isin(row + slots, row + known), -1, slots)


def _cut_through_equals(leading: Float64s, needed: int, tolerance: float) -> Bools:
    """(n,) whether the last leader is as good as the one behind the `needed` best: then others just as good are missing."""
    ordered = -np.sort(-leading, axis=1)
    return ordered[:, min(needed, leading.shape[1] - 1)] - ordered[:, -1] <= tolerance


def _keep(alive: Bools, live: int, subset: Bools | None) -> Bools | None:
    """The mask of rows that take part, or None when all do."""
    if subset is not None:
        return subset
    return None if live == len(alive) else alive


def _nearest(
    view: SpaceView, verifier: Float64s, subset: Subset, k: int, temperature: float | None
) -> tuple[Int64s, Bools, Float64s, Float64s, Bools]:
    """(text slots of the k nearest prototypes, surely complete, log Σ e^(c/T), bound of softmax(c/T) outside, tied)."""
    queries = verifier.astype(np.float32)
    count = len(queries)
    if temperature is None and subset.prototypes is None:
        ids, similarity = view.index.search(queries, min(k, len(view.index)))
        slots = view.text.slots(np.maximum(ids, 0).ravel()).reshape(ids.shape)
        slots[ids < 0] = -1
        recipe = view.cache.recipe
        # Whatever was left out looked no better than the last one returned; both may be off by `max_error`.
        margin = similarity[:, 0] - similarity[:, -1]
        complete = np.full(count, recipe.exact or k >= len(view.index)) | (margin >= 2 * recipe.max_error)
        tied = (margin <= _TIE) & (k < len(view.index))
        return slots, complete, np.full(count, -np.inf), np.zeros(count), tied
    keep = _keep(view.prototypes.alive, view.prototypes.live, subset.prototypes)
    scale = 1.0 if temperature is None else 1.0 / temperature
    image = softmax_pass(view.prototypes.rows, queries, scale, min(k, view.prototypes.n), keep=keep)
    slots = view.text.slots(view.prototypes.ids[np.maximum(image.slots, 0)].ravel()).reshape(image.slots.shape)
    slots[image.slots < 0] = -1
    exact = scale * _similarities(view.prototypes.rows, image.slots, verifier)
    asked = len(view.prototypes) if subset.prototypes is None else int(subset.prototypes.sum())
    p, outside = _probabilities(exact, exact, image, asked)
    leading = np.where(image.slots >= 0, exact, -np.inf)
    # p = e^(l − log Z): any leader gives back the log partition that belongs to the float64 similarities.
    best = leading.argmax(axis=1)
    at = np.arange(count)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_z = np.where(image.slots[at, best] >= 0, leading[at, best] - np.log(p[at, best]), -np.inf)
    tied = (outside > 0) & _cut_through_equals(exact, 0, _TIE * scale)
    return slots, np.ones(count, np.bool_), log_z, outside, tied


def _similarities(rows: Float32s, slots: Int64s, queries: Float64s) -> Float64s:
    """(n, m) inner products in float64 of each query with its own candidate rows; NaN where the slot is −1.

    Each is summed alone, so that equal rows give equal bits: ties are ties.
    """
    found = np.full(slots.shape, np.nan)
    for start in range(0, len(slots), _GATHER_ROWS):
        part = slice(start, start + _GATHER_ROWS)
        gathered = rows[np.maximum(slots[part], 0)].astype(np.float64)
        found[part] = np.einsum("nmd,nd->nm", gathered, queries[part])
    found[slots < 0] = np.nan
    return found


def _probabilities(logits: Float64s, leading: Float64s, partition: Partition, asked: int) -> tuple[Float64s, Float64s]:
    """Softmax probabilities of exact logits, and the bound for every row that is not a leader.

    `leading` are the exact logits of the partition's leaders (further columns are not looked at), out of `asked` rows.

    The pass's float32 log-partition is kept for the rows outside its leaders; the leaders' share is replaced by the exact
    one, which is all of it when every row is a leader.
    """
    k = partition.slots.shape[1]
    exact = np.where(partition.slots >= 0, leading[:, :k], -np.inf)
    known = np.exp(partition.logits.astype(np.float64) - partition.log_z[:, np.newaxis]).sum(axis=1)
    everything = np.full(len(logits), k >= asked)
    rest = np.where(everything, 0.0, np.clip(1.0 - known, 0.0, 1.0))
    top = exact.max(axis=1, initial=-np.inf)
    total = np.exp(exact - top[:, np.newaxis]).sum(axis=1) + rest * np.exp(partition.log_z - top)
    log_z = top + np.log(total)
    p = np.exp(logits - log_z[:, np.newaxis])
    last = np.exp(exact.min(axis=1, initial=np.inf) - log_z)
    return np.where(np.isnan(p), 0.0, p), np.where(everything, 0.0, last)
