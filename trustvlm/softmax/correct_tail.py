"""What rounding the queries does to the sums over the rows, taken out again.

A kernel that rounds a query q to b is off by δ = (q − b)·t for a row t, and rows that resemble each
other are off together. The logits of leaders are computed again from their 16-bit rows. The sum
over the others, too many for that, is multiplied by a factor: E[2^(l+δ)] / E[2^l] over a sample of
them, weighted as the softmax weighs them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from trustvlm.softmax.accumulate import State, best_first
from trustvlm.softmax.exp2 import FLOOR
from trustvlm.softmax.kernels import Prepared
from trustvlm.softmax.quantize import leader_errors
from trustvlm.types.arrays import Bools, Float64s

__all__ = ["correct_tail"]


def correct_tail(part: Prepared, state: State, factor: Float64s | None) -> State:
    """The state of a pass over a segment whose kernel rounded the queries, as exact queries would
    have left it.

    Args:
        part: the queries and the segment. state: its slots are places in the segment's rows.
        factor: (n,) what corrects the sum over the rows that are no leaders; None: the state has no
            sums.
    """
    errors = leader_errors(part.segment, part.scaled, part.offset, state.slots, state.logits)
    logits = np.where(state.slots >= 0, state.logits + errors, -np.inf)
    slots, ordered = best_first(state.slots, logits)
    if factor is not None:
        state = _with_leaders(state, logits, factor)
    return replace(state, slots=slots, logits=ordered)


def _with_leaders(state: State, logits: Float64s, factor: Float64s) -> State:
    """The state whose sums have the leaders' corrected `logits`, (n, k) in the order of the state,
    and all other rows corrected by the factor."""
    top = np.where(np.isneginf(state.maximum), 0.0, state.maximum)
    leads = np.isfinite(state.logits)
    before = _leader_sums(state.logits - top[:, np.newaxis], leads)
    after = _leader_sums(logits - top[:, np.newaxis], leads)
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
