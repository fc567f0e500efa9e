"""What rounding the queries does to the sums over the rows, taken out again.

A kernel that rounds a query q to b is off by δ = (q − b)·t for a row t, and rows that resemble each
other are off together. The logits of leaders are computed again from their 16-bit rows. Of the
others, too many for that, a random sample of the 8-bit rows tells how much they moved, weighted as
the softmax weighs them: E[2^(l+δ)] / E[2^l].
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trustvlm.softmax.accumulate import State, best_first
from trustvlm.softmax.exp2 import FLOOR, powers_of_two
from trustvlm.softmax.kernels import Prepared, int8_products
from trustvlm.softmax.quantize import leader_errors
from trustvlm.types.arrays import Bools, Float32s, Float64s

__all__ = ["correct_tail"]

_ONE_IN, _LEAST = 64, 4_096  # the sample: one row in so many, and at least so many
_BLOCK = 2**18  # logits at a time


def correct_tail(
    part: Prepared, state: State, keep: Bools | None, factor: Float64s | None, *, sums: bool
) -> State:
    """The state of a pass over a segment whose kernel rounded the queries, as exact queries would
    have left it.

    Args:
        part: the queries and the segment. state: its slots are places in the segment's rows.
        keep: (N,) which rows of all segments took part; None: all.
        factor: (n,) what corrects the sum over the rows that are no leaders; None: it is estimated
            here. sums: whether the state has any; else only the leaders are corrected.
    """
    errors = leader_errors(part.segment, part.scaled, part.offset, state.slots, state.logits)
    logits = np.where(state.slots >= 0, state.logits + errors, -np.inf)
    slots, ordered = best_first(state.slots, logits)
    if sums:
        state = _with_leaders(part, state, logits, keep, factor)
    return replace(state, slots=slots, logits=ordered)


def _with_leaders(
    part: Prepared, state: State, logits: Float64s, keep: Bools | None, factor: Float64s | None
) -> State:
    """The state whose sums have the leaders' corrected `logits`, (n, k) in the order of the state,
    and all other rows corrected by the factor."""
    top = np.where(np.isneginf(state.maximum), 0.0, state.maximum)
    leads = np.isfinite(state.logits)
    before = _leader_sums(state.logits - top[:, np.newaxis], leads)
    after = _leader_sums(logits - top[:, np.newaxis], leads)
    if factor is None:
        lowest = state.logits.min(axis=1, initial=np.inf)
        floor = np.where(leads.all(axis=1), lowest, -np.inf)
        factor = _sampled_factor(part, top, floor, keep)
    others = np.maximum(state.total - before[0], 0.0)
    return replace(
        state,
        total=after[0] + others * factor,
        weighted=after[1] + (state.weighted - before[1] + others * np.log2(factor)) * factor,
        squared=after[2] + np.maximum(state.squared - before[2], 0.0) * factor**2,
    )


def _leader_sums(relative: Float64s, leads: Bools) -> tuple[Float64s, Float64s, Float64s]:
    """(Σ2^x, Σ2^x·x, Σ4^x), each (n,), over the leaders of each query."""
    x = np.where(leads, np.maximum(relative, FLOOR), 0.0)
    powers = np.where(leads, np.exp2(x), 0.0)
    return powers.sum(axis=1), (powers * x).sum(axis=1), (powers**2).sum(axis=1)


def _sampled_factor(
    part: Prepared, maximum: Float64s, floor: Float64s, keep: Bools | None
) -> Float64s:
    """(n,) E[2^(l+δ)] / E[2^l] over a sample of the 8-bit rows below the leaders' `floor`."""
    int8 = part.segment.int8
    assert int8 is not None
    n, rows = len(maximum), len(int8.rows)
    count = min(rows, max(_LEAST, rows // _ONE_IN))
    alive = None if keep is None else keep[part.segment.start : part.segment.start + rows]
    rounded, rounded_steps = int8.rotated(part.rounded_queries)
    missing, missing_steps = int8.rotated(part.scaled - part.rounded_queries)
    both = np.concatenate([rounded, missing])
    slope = part.slope[:, np.newaxis].astype(np.float32)
    below = (floor - part.offset)[:, np.newaxis].astype(np.float32)
    top = (maximum - part.offset)[:, np.newaxis].astype(np.float32)
    sums = np.zeros((2, n))
    step = max(1, _BLOCK // max(2 * n, 1))
    for start in range(0, count, step):
        stop = min(start + step, count)
        products = int8_products(both, int8.rows[start:stop]) * int8.steps[start:stop]
        computed = products[:n] * rounded_steps[:, np.newaxis].astype(np.float32)
        error = products[n:] * missing_steps[:, np.newaxis].astype(np.float32)
        error += computed * (1.0 - slope)  # exact − slope·computed
        computed *= slope
        out = computed >= below
        if alive is not None:
            out |= ~alive[int8.order[start:stop]]
        computed -= top
        sums += _power_sums(computed, error, out)
    factor: Float64s = np.divide(sums[1], sums[0], out=np.ones(n), where=sums[0] > 0)
    return factor


def _power_sums(relative: Float32s, error: Float32s, out: Bools) -> Float64s:
    """(2, n) Σ2^l and Σ2^(l+δ) over the rows that are not `out`."""
    np.maximum(relative, FLOOR, out=relative)
    relative[out] = FLOOR
    powers = np.empty_like(relative)
    powers_of_two(relative, powers)
    before = powers.sum(axis=1, dtype=np.float64)
    powers_of_two(error, error)
    error *= powers
    return np.stack([before, error.sum(axis=1, dtype=np.float64)])
