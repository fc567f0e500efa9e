"""The exact softmax over millions of rows, block by block: one pass, bounded memory.

The pass keeps, per query, the k largest logits and the sums of exponentials of all others.
Everything that a text rule asks for follows from these.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trustvlm.softmax.leading import LeadingRows, RestSums, similarities, with_moments
from trustvlm.softmax.native import Library, Running, library
from trustvlm.softmax.products import blocks, rounding_pays
from trustvlm.softmax.quantize import Segment
from trustvlm.softmax.state import State, joined, no_rows
from trustvlm.system.stopping import may_stop
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

ROUNDED_SLACK = 2.0**-8
"""Two 16-bit similarities may be in the wrong order only if they are nearer than this: twice what
rounding a row, whose norm behind the centre is at most 1, can add up to."""

_SPARE, _SPARE_ALONE = 16, 24
"""Further leaders of 16-bit rows, as the order among these is not quite right; more where leaders
alone are asked for, because rounded queries err 1.4 times as far."""

_BLOCK_LOGITS = 2**17  # 512 KB of float32: they stay in one core's second-level cache
_LN_2 = math.log(2)


def streamed_rows(
    segments: Sequence[Segment],
    take: Callable[[Int64s], Float32s],
    queries: Floats,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    device: str | None = None,
    block_rows: int | None = None,
    sums: bool = True,
    may_round: bool = True,
) -> LeadingRows:
    """The rows of largest scale · query · row, exactly, and with `sums` the softmax over all rows
    where `keep` is true (None: all): at least min(k, N) leaders, more of rounded rows.

    Args:
        segments: the N rows. take: gives float32 rows of slots. queries: (n, d) unit vectors.
        device: torch's name of the device that passes over 16-bit segments; None: the processor.
        block_rows: rows per block. may_round: without `sums`, 16-bit rows may be multiplied by
            queries that are rounded, too, which can double the slack; queries whose best row is not
            sure then are multiplied again.

    Time O(n·N·d), memory O(n·block_rows).
    """
    total = sum(len(segment.rows) for segment in segments)
    rounded = any(segment.centre is not None for segment in segments)
    may_round &= rounded and not sums and device is None and rounding_pays(len(queries))
    width = min(k + (_SPARE if sums else _SPARE_ALONE) * rounded, total)
    slack = scale * ROUNDED_SLACK * (rounded + may_round)
    in_bits = queries.astype(np.float64) * (scale * math.log2(math.e))
    parts: list[State] = []
    for segment in segments:
        if len(segment.rows) and len(queries):
            stop = segment.start + len(segment.rows)
            alive = None if keep is None else keep[segment.start : stop]
            place = None if segment.centre is None else device
            options = (place, block_rows, sums, may_round)
            parts.append(_segment_state(segment, in_bits, width, alive, *options))
    state = parts[0] if parts else no_rows(len(queries), width)
    for part in parts[1:]:
        state = joined(state, part, width)
    slots = state.slots
    exact = np.where(slots >= 0, scale * similarities(take, slots, queries), -np.inf)
    order = np.argsort(-exact, axis=1, kind="stable")
    slots, leading = np.take_along_axis(slots, order, axis=1), np.take_along_axis(exact, order, 1)
    rows = total if keep is None else int(np.count_nonzero(keep))
    if sums:
        return with_moments(slots, leading, rows, slack, _rest(state, leading, rows, slack))
    none = np.zeros(len(slots))
    leaders = LeadingRows(slots, leading, slots.shape[1] >= rows, slack, None, none, none)
    unsure = np.flatnonzero(~leaders.surely_nearest())
    if not may_round or not len(unsure):
        return leaders
    unrounded = streamed_rows(
        segments, take, queries[unsure], scale, k, keep=keep, block_rows=block_rows, sums=False,
        may_round=False,
    )  # fmt: skip
    slacks = np.full(len(slots), slack)
    slots[unsure], leading[unsure], slacks[unsure] = (
        unrounded.slots,
        unrounded.logits,
        unrounded.slack,
    )
    return replace(leaders, slack=slacks)


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
    may_round: bool,
) -> State:
    """The pass over one segment; its slots are those of all segments."""
    native, queries, k = library(), in_bits.astype(np.float32), min(k, len(segment.rows))
    if native is not None and device is None:
        rows = block_rows or int(np.clip(_BLOCK_LOGITS // max(len(queries), 1), 512, 65_536))
        state = _native_state(native, segment, queries, k, alive, rows, sums, may_round)
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
    may_round: bool,
) -> State:
    """The pass over one segment with the compiled library; slots are places in the segment."""
    running = Running(native, len(queries), k, sums=sums)
    for start, logits in blocks(segment, queries, block_rows, alive, rounded=may_round):
        may_stop()
        some = None if alive is None else alive[start : start + logits.shape[1]]
        running.add(logits, start, some)
    return running.state()
