"""The exact softmax over millions of rows, block by block: one pass, bounded memory.

The pass keeps, per query, the k largest logits and the sums of exponentials of all others.
Everything that a text rule asks for follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from trustvlm.softmax.leading import ExactRows, LeadingRows, RestSums, similarities, with_moments
from trustvlm.softmax.native import Library, Running, library
from trustvlm.softmax.products import blocks, whole_number_error
from trustvlm.softmax.quantize import Segment
from trustvlm.softmax.state import State, joined, no_rows
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats

_ROUNDING = 2.0**-9  # of a row whose norm behind the centre is at most 1, at most
_SPARE = 16  # further leaders of 16-bit rows, as the order among these is not quite right

_BLOCK_LOGITS = 2**17  # 512 KB of float32: they stay in one core's second-level cache
_LN_2 = math.log(2)


def streamed_rows(
    segments: Sequence[Segment],
    exact_rows: ExactRows,
    queries: Floats,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    device: str | None = None,
    block_rows: int | None = None,
    sums: bool = True,
) -> LeadingRows:
    """The rows of largest scale · query · row, exactly, and with `sums` the softmax over all rows
    where `keep` is true (None: all): at least min(k, N) leaders, more of rounded rows.

    Args:
        segments: the N rows. exact_rows: these in float32. queries: (n, d) unit vectors.
        device: torch's name of the device that passes over 16-bit segments; None: the processor.
        block_rows: rows per block.

    Time O(n·N·d), memory O(n·block_rows).
    """
    total = sum(len(segment.rows) for segment in segments)
    rounded = any(segment.centre is not None for segment in segments)
    width = min(k + _SPARE * rounded, total)
    slack = scale * rounded_slack(*queries.shape, device=device) if rounded else 0.0
    in_bits = queries.astype(np.float64) * (scale * math.log2(math.e))
    parts: list[State] = []
    for segment in segments:
        if len(segment.rows) and len(queries):
            stop = segment.start + len(segment.rows)
            alive = None if keep is None else keep[segment.start : stop]
            place = None if segment.centre is None else device
            options = (place, block_rows, sums)
            parts.append(_segment_state(segment, in_bits, width, alive, *options))
    state = parts[0] if parts else no_rows(len(queries), width)
    for part in parts[1:]:
        state = joined(state, part, width)
    slots = state.slots
    exact = np.where(slots >= 0, scale * similarities(exact_rows, slots, queries), -np.inf)
    order = np.argsort(-exact, axis=1, kind="stable")
    slots, leading = np.take_along_axis(slots, order, axis=1), np.take_along_axis(exact, order, 1)
    rows = total if keep is None else int(np.count_nonzero(keep))
    if sums:
        return with_moments(slots, leading, rows, slack, _rest(state, leading, rows, slack))
    none = np.zeros(len(slots))
    return LeadingRows(slots, leading, slots.shape[1] >= rows, slack, None, none, none)


def rounded_slack(count: int, dim: int, *, device: str | None = None) -> float:
    """Two products of `count` unit queries and 16-bit rows may be in the wrong order only if they
    are nearer than this: twice what rounding can add up to."""
    return 2 * (_ROUNDING + (0.0 if device else whole_number_error(count, dim)))


def _rest(state: State, leading: Float64s, rows: int, slack: float) -> RestSums:
    """The pass's sums, relative to the best of the (n, k) exact logits."""
    total, weighted, squared = state.sums.T
    if leading.shape[1] >= rows:
        return RestSums(*np.zeros((3, len(leading))))
    shift, last = state.top * _LN_2 - leading[:, 0], np.exp(leading[:, -1] - leading[:, 0])
    most = (rows - leading.shape[1]) * last * np.exp(slack)  # each is no larger than the last
    grown = np.exp(shift)
    bounded = np.minimum(total * grown, most)
    share = np.divide(bounded, total * grown, out=np.zeros(len(total)), where=total > 0)
    weighted = share * grown * (weighted * _LN_2 + shift * total)
    return RestSums(bounded, weighted, grown**2 * squared)


def _segment_state(
    segment: Segment,
    in_bits: Float64s,
    k: int,
    alive: Bools | None,
    device: str | None,
    block_rows: int | None,
    sums: bool,
) -> State:
    """The pass over one segment; its slots are those of all segments."""
    native, queries, k = library(), in_bits.astype(np.float32), min(k, len(segment.rows))
    if native is not None and device is None:
        rows = block_rows or int(np.clip(_BLOCK_LOGITS // max(len(queries), 1), 512, 65_536))
        state = _native_state(native, segment, queries, k, alive, rows, sums)
    else:
        from trustvlm.softmax.torch_pass import torch_state

        state = torch_state(segment, queries, device or "cpu", k, alive, sums=sums)
    offsets = segment.offsets(in_bits)
    return replace(
        state,
        slots=np.where(state.slots >= 0, state.slots + segment.start, -1),
        logits=state.logits + offsets[:, np.newaxis],
        top=state.top + offsets,
    )


def _native_state(
    native: Library,
    segment: Segment,
    queries: Float32s,
    k: int,
    alive: Bools | None,
    block_rows: int,
    sums: bool,
) -> State:
    """The pass over one segment with the compiled library; slots are places in the segment."""
    running = Running(native, len(queries), k, sums=sums)
    for start, logits in blocks(segment, queries, block_rows, alive):
        may_stop()
        some = None if alive is None else alive[start : start + logits.shape[1]]
        running.add(logits, start, some)
    return running.state()
