"""The exact softmax over millions of rows, block by block: one pass, bounded memory.

The pass keeps, per query, the running maximum, the sums of exponentials and the k largest logits.
Everything that a text rule asks for follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trustvlm.softmax.accumulate import Running, State, joined, no_rows
from trustvlm.softmax.correct_tail import correct_tail
from trustvlm.softmax.exp2 import FLOOR, Arithmetic, TorchArithmetic, powers_of_two
from trustvlm.softmax.kernels import DEVICE, EXACT, Kernels, Prepared, block_errors, blocks, prepare
from trustvlm.softmax.leading import LeadingRows, RestSums, similarities, with_moments
from trustvlm.softmax.on_device import device_state
from trustvlm.softmax.quantize import Segment
from trustvlm.system.stopping import may_stop
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

__all__ = ["ROUNDED_SLACK", "streamed_rows"]

ROUNDED_SLACK = 2.0**-8
"""Two 16-bit similarities may be in the wrong order only if they are nearer than this: twice what
rounding row (norm of at most 0.6 behind the centre), query and output can add up to."""

_SPARE = 16  # further leaders of 16-bit rows, as the order among these is not quite right
_BLOCK_LOGITS = 2**17  # 512 KB of float32, and as much again for their exponentials
_CORRECTED = 256  # leaders whose logits are computed again where a kernel rounds the queries
# The share and least number of the other 8-bit rows that tell how far these are off (of few
# rows, three quarters).
_SAMPLE_ONE_IN, _SAMPLE_LEAST = 6, 32_768
_LN_2 = math.log(2)


def streamed_rows(
    segments: Sequence[Segment],
    take: Callable[[Int64s], Float32s],
    queries: Float64s,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    kernels: Kernels = EXACT,
    block_rows: int | None = None,
    sums: bool = True,
) -> LeadingRows:
    """The rows of largest scale · query · row, exactly, and with `sums` the softmax over all rows
    where `keep` is true (None: all): at least min(k, N) leaders, more of rounded rows.

    Args:
        segments: the N rows. take: gives float32 rows of slots. queries: (n, d) unit vectors.
        kernels: which serve 16-bit segments. block_rows: rows per block.

    Time O(n·N·d) (a quarter of it without sums), memory O(n·block_rows).
    """
    total = sum(len(segment.rows) for segment in segments)
    rounded = any(segment.centre is not None for segment in segments)
    width, slack = min(k + _SPARE * rounded, total), scale * ROUNDED_SLACK * rounded
    state = no_rows(len(queries))
    for part in prepare(segments, queries.astype(np.float32), scale, kernels):
        state = joined(state, _segment_state(part, width, keep, kernels, block_rows, sums), width)
    slots = state.slots
    exact = np.where(slots >= 0, scale * similarities(take, slots, queries), -np.inf)
    order = np.argsort(-exact, axis=1, kind="stable")
    slots, leading = np.take_along_axis(slots, order, axis=1), np.take_along_axis(exact, order, 1)
    rows = total if keep is None else int(np.count_nonzero(keep))
    if not sums:
        none = np.zeros(len(slots))
        return LeadingRows(slots, leading, slots.shape[1] >= rows, slack, None, none, none)
    return with_moments(slots, leading, rows, slack, _rest(state, leading, rows, slack))


def _rest(state: State, leading: Float64s, rows: int, slack: float) -> RestSums:
    """The pass's sums without its leaders, relative to the best of the (n, k) exact logits."""
    leads = state.slots >= 0
    if leads.shape[1] >= rows:
        return RestSums(*np.zeros((3, len(leads))))
    # With the very float32 numbers that the pass added up.
    bits = state.logits.astype(np.float32) - state.maximum[:, np.newaxis].astype(np.float32)
    np.maximum(bits, FLOOR, out=bits)
    powers = np.empty_like(bits)
    powers_of_two(bits, powers)
    summed, relative = np.where(leads, powers, 0.0).astype(np.float64), bits.astype(np.float64)
    total = np.maximum(state.total - summed.sum(axis=1), 0.0)
    weighted = state.weighted - (summed * relative).sum(axis=1)
    squared = state.squared - (summed**2).sum(axis=1)
    shift, last = state.maximum * _LN_2 - leading[:, 0], np.exp(leading[:, -1] - leading[:, 0])
    most = (rows - leads.shape[1]) * last * np.exp(slack)  # each is no larger than the last
    grown = np.exp(shift)
    bounded = np.minimum(total * grown, most)
    share = np.divide(bounded, total * grown, out=np.zeros(len(total)), where=total > 0)
    weighted = share * grown * (weighted * _LN_2 + shift * total)
    return RestSums(bounded, weighted, grown**2 * squared)


def _segment_state(
    part: Prepared, k: int, keep: Bools | None, kernels: Kernels, block_rows: int | None, sums: bool
) -> State:
    """The pass over one segment; its slots are those of all segments."""
    if part.kernel == DEVICE:
        assert kernels.device is not None
        return device_state(part, kernels.device, k, keep)
    alive, rows, count = part.in_order(keep), len(part.segment.rows), len(part.scaled)
    arithmetic = TorchArithmetic() if part.kernel in ("bfloat16", "int8") else Arithmetic()
    running = Running(count, max(k, _CORRECTED) if part.rounds else k, arithmetic, sums=sums)
    errors = block_errors(part) if sums and part.int8 is not None else None
    # The last rows are the sample: by then the leaders are nearly known.
    sample = rows - max(rows // _SAMPLE_ONE_IN, min(_SAMPLE_LEAST, rows * 3 // 4))
    for start, logits in blocks(part, block_rows or _block_rows(count)):
        may_stop()
        off = None if errors is None or start < sample else errors(start, logits)
        if alive is not None:
            kept = alive[start : start + logits.shape[1]]
            if not kept.any():
                continue
            if not kept.all():
                logits[:, ~kept] = -np.inf
        running.add(logits, start, part.offset)
        if off is not None:
            running.add_errors(off)
    state = running.state()
    state = replace(state, slots=part.places(state.slots))
    if part.rounds and part.segment.int8 is not None:
        state = correct_tail(part, state, running.factor() if sums else None)
    return replace(state, slots=np.where(state.slots >= 0, state.slots + part.segment.start, -1))


def _block_rows(queries: int) -> int:
    """Rows per block: what is looked at again and again stays in one core's second-level cache."""
    return int(np.clip(_BLOCK_LOGITS // max(queries, 1), 512, 65_536))
