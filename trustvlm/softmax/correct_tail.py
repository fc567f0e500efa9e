"""What rounding a query does to the sums over the rows, taken out again.

A kernel that rounds a query q to b is off by δ = (q − b)·t for a row t, and rows that resemble each
other are off together. Leaders are computed anew from their 16-bit rows. Of the others, too many
for that, a random sample of the 8-bit rows tells by how much they moved, weighted as the softmax
weighs them: E[2^(l+δ)] / E[2^l].
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trustvlm.softmax.accumulate import State
from trustvlm.softmax.exp2 import FLOOR, powers_of_two
from trustvlm.softmax.kernels import Prepared, coarse_products, turned
from trustvlm.softmax.quantize import drift
from trustvlm.types.arrays import Bools, Float32s, Float64s

__all__ = ["settled"]

_ONE_IN, _LEAST = 64, 4_096  # one row in so many, and at least so many
_BLOCK = 2**18  # logits at a time


def settled(
    part: Prepared, state: State, keep: Bools | None, factor: Float64s | None, *, sums: bool
) -> State:
    """The state of a pass over the segment whose kernel rounded the queries, as exact queries would
    have left it.

    Args:
        part: the queries and the segment. state: its slots are places in the segment's rows. keep:
            (N,) which rows of all segments took part; None: all. factor: (n,) by what the sum over
            the rows that are no leaders is to be multiplied; None: to be found here. sums: whether
            the state has any; else it is about the leaders alone.
    """
    moved = drift(part.segment, part.scaled, part.offset, state.slots, state.logits)
    there = state.slots >= 0
    logits = np.where(there, state.logits + moved, -np.inf)
    order = np.argsort(-logits, axis=1, kind="stable")
    state = replace(state, slots=np.take_along_axis(state.slots, order, axis=1))
    return replace(
        _settled_sums(part, state, logits, keep, factor) if sums else state,
        logits=np.take_along_axis(logits, order, axis=1),
    )


def _settled_sums(
    part: Prepared, state: State, logits: Float64s, keep: Bools | None, factor: Float64s | None
) -> State:
    """The same with the sums that the leaders' logits in their old order, `logits` now, and the
    others' shift make."""
    top = np.where(np.isneginf(state.maximum), 0.0, state.maximum)
    there = np.isfinite(state.logits)
    floor = np.where(there.all(axis=1), state.logits.min(axis=1, initial=np.inf), -np.inf)
    before = _terms(state.logits - top[:, np.newaxis], there)
    after = _terms(logits - top[:, np.newaxis], there)
    if factor is None:
        factor = _moved_by(part, top, floor, keep)
    others = np.maximum(state.total - before[0], 0.0)
    return replace(
        state,
        total=after[0] + others * factor,
        weighted=after[1] + (state.weighted - before[1] + others * np.log2(factor)) * factor,
        squared=after[2] + np.maximum(state.squared - before[2], 0.0) * factor**2,
    )


def _terms(relative: Float64s, there: Bools) -> tuple[Float64s, Float64s, Float64s]:
    """(Σ2^x, Σ2^x·x, Σ4^x) of each query's own."""
    x = np.where(there, np.maximum(relative, FLOOR), 0.0)
    powers = np.where(there, np.exp2(x), 0.0)
    return powers.sum(axis=1), (powers * x).sum(axis=1), (powers**2).sum(axis=1)


def _moved_by(part: Prepared, maximum: Float64s, floor: Float64s, keep: Bools | None) -> Float64s:
    """(n,) by what the sum over the rows that are no leaders is to be multiplied."""
    coarse = part.segment.coarse
    assert coarse is not None
    count = min(len(coarse.rows), max(_LEAST, len(coarse.rows) // _ONE_IN))
    own = None if keep is None else keep[part.segment.start : part.segment.start + len(coarse.rows)]
    taken, taken_steps = turned(part.taken, coarse)
    left, left_steps = turned(part.scaled - part.taken, coarse)
    both = np.concatenate([taken, left])
    slope = part.slope[:, np.newaxis].astype(np.float32)
    sums = np.zeros((2, len(maximum)))
    step = max(1, _BLOCK // max(2 * len(maximum), 1))
    for start in range(0, count, step):
        stop = min(start + step, count)
        products = coarse_products(both, coarse.rows[start:stop]) * coarse.steps[start:stop]
        computed = products[: len(maximum)] * taken_steps[:, np.newaxis].astype(np.float32)
        error = products[len(maximum) :] * left_steps[:, np.newaxis].astype(np.float32)
        error += computed * (1.0 - slope)  # exact − slope·computed
        computed *= slope
        out = computed >= (floor - part.offset)[:, np.newaxis].astype(np.float32)
        if own is not None:
            out |= ~own[coarse.order[start:stop]]
        computed -= (maximum - part.offset)[:, np.newaxis].astype(np.float32)
        sums += _sums(computed, error, out)
    factor: Float64s = np.divide(sums[1], sums[0], out=np.ones(len(maximum)), where=sums[0] > 0)
    return factor


def _sums(relative: Float32s, error: Float32s, out: Bools) -> Float64s:
    """(2, n) Σ2^l and Σ2^(l+δ) over the rows that are not left out."""
    np.maximum(relative, FLOOR, out=relative)
    relative[out] = FLOOR
    powers = np.empty_like(relative)
    powers_of_two(relative, powers)
    before = powers.sum(axis=1, dtype=np.float64)
    powers_of_two(error, error)
    error *= powers
    return np.stack([before, error.sum(axis=1, dtype=np.float64)])
