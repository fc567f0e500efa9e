"""The blocked exact softmax over N rows: one pass, bounded memory.

The pass keeps, per query, the running maximum, the sum of exponentials and the k largest logits, so
that N may be millions while memory stays at one block. Everything a text rule can ask for follows
from what it returns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trustvlm.softmax.accumulate import Running, State, joined, nothing
from trustvlm.softmax.correct_tail import settled
from trustvlm.softmax.exp2 import FLOOR, arithmetic_of, powers_of_two
from trustvlm.softmax.kernels import (
    DEVICE,
    EXACT,
    LOG2_E,
    Kernels,
    Prepared,
    blocks,
    errors_of,
    prepare,
)
from trustvlm.softmax.on_device import device_state
from trustvlm.softmax.quantize import Segment
from trustvlm.system.stopping import may_stop
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

__all__ = ["BLOCK_LOGITS", "Moments", "Partition", "leading_rows", "refined", "softmax_pass"]

BLOCK_LOGITS = 2**17
"""Logits per block: 512 KB of float32, and as much again for their exponentials."""

_FOLLOWED = 256
"""So many leaders are computed anew where a kernel rounds the queries."""

_ONE_IN, _SAMPLE_LEAST = 6, 32_768
"""One in so many of the other 8-bit rows, and at least so many, say by how much they are off (of
few rows, three quarters)."""

_LN_2 = math.log(2)
_Number = TypeVar("_Number", np.int64, np.float64)


@dataclass(frozen=True)
class Partition:
    """The softmax of n queries over the kept rows, without its N probabilities.

    Attributes:
        log_z: (n,) log of the sum of e^logit; −inf when no row was kept.
        sum_p2: (n,) Σ p².
        sum_p_log_p: (n,) Σ p·log p (minus the entropy, in nats).
        slots: (n, k) rows of the largest logits, best first, padded with −1.
        logits: (n, k) their logits, padded with −inf; approximate where the rows are 16-bit.
    """

    log_z: Float64s
    sum_p2: Float64s
    sum_p_log_p: Float64s
    slots: Int64s
    logits: Float64s


@dataclass(frozen=True, eq=False)
class Moments:
    """The softmax of n queries over all labels, as far as rules ask for it.

    Attributes:
        log_z: (n,) log of the sum of e^logit.
        negative_entropy: (n,) Σ p·log p.
        impurity: (n,) Gini impurity 1 − Σp² = Σ p·(1 − p), without cancellation where one label has
            almost everything.
    """

    log_z: Float64s
    negative_entropy: Float64s
    impurity: Float64s


def softmax_pass(
    rows: Float32s | Sequence[Segment],
    queries: Float32s,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    block_rows: int | None = None,
    kernels: Kernels = EXACT,
) -> Partition:
    """softmax(scale · queries · rowsᵀ) over the rows where `keep` is true (all, when None).

    Args:
        rows: (N, d) float32 unit vectors, or their segments, some of which may be 16-bit.
        queries: (n, d) unit vectors; scale: the logit scale s; k: how many leaders to return.
        keep: (N,) mask of rows that take part.
        block_rows: rows per block; the result does not depend on it beyond float32 rounding.
        kernels: which kernel serves 16-bit segments.

    Time O(n·N·d), memory O(n·block_rows). Ties among leaders are in no particular order: callers
    break them.
    """
    found = nothing(len(queries))
    for part in prepare(_segments(rows), queries, scale, kernels):
        found = joined(found, _state(part, k, keep, block_rows, kernels, sums=True), k)
    return _partition(found, k)


def leading_rows(
    rows: Float32s | Sequence[Segment],
    queries: Float32s,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    kernels: Kernels = EXACT,
) -> tuple[Int64s, Float64s]:
    """The (n, k) slots and logits of :func:`softmax_pass` alone, without its sums: a quarter of the
    time."""
    found = nothing(len(queries))
    for part in prepare(_segments(rows), queries, scale, kernels):
        found = joined(found, _state(part, k, keep, None, kernels, sums=False), k)
    return _padded(found.slots, k, -1), _padded(found.logits, k, -np.inf) * _LN_2


def _segments(rows: Float32s | Sequence[Segment]) -> Sequence[Segment]:
    return rows if not isinstance(rows, np.ndarray) else [Segment(0, rows)]


def _state(
    part: Prepared,
    k: int,
    keep: Bools | None,
    block_rows: int | None,
    kernels: Kernels,
    *,
    sums: bool,
) -> State:
    """The pass over one segment."""
    if part.kernel == DEVICE:
        assert kernels.device is not None
        return device_state(part, kernels.device, k, keep)
    own, rows = part.in_order(keep), len(part.segment.rows)
    running = Running(
        len(part.scaled), max(k, _FOLLOWED) if part.rounded else k, arithmetic_of([part]), sums=sums
    )
    errors: Callable[[int, int, Float32s], Float32s] | None = None
    if sums and part.coarse is not None:
        errors = errors_of(part)
    # The last rows are the sample: by then the leaders are nearly known.
    sample = rows - max(rows // _ONE_IN, min(_SAMPLE_LEAST, rows * 3 // 4))
    for start, logits in blocks(part, block_rows or _block_rows(len(part.scaled))):
        may_stop()
        wrong = (
            None
            if errors is None or start < sample
            else errors(start, start + logits.shape[1], logits)
        )
        if own is not None:
            alive = own[start : start + logits.shape[1]]
            if not alive.any():
                continue
            if not alive.all():
                logits[:, ~alive] = -np.inf
        running.update(logits, start, part.offset, wrong)
    state = running.state()
    state = replace(state, slots=part.places(state.slots))
    if part.rounded and part.segment.coarse is not None:
        state = settled(
            part, state, keep, running.factor() if errors is not None else None, sums=sums
        )
    return replace(state, slots=np.where(state.slots >= 0, state.slots + part.segment.start, -1))


def _block_rows(queries: int) -> int:
    """Rows per block: what is looked at again and again stays in the second-level cache of one
    core."""
    return int(np.clip(BLOCK_LOGITS // max(queries, 1), 512, 65_536))


def _partition(state: State, k: int) -> Partition:
    with np.errstate(divide="ignore", invalid="ignore"):
        log_total = np.log(state.total)
        sum_p2 = state.squared / state.total**2
        # log p = (l − m) − log Σe^(l−m)
        sum_p_log_p = state.weighted * _LN_2 / state.total - log_total
        log_z = state.maximum * _LN_2 + log_total
    slots, logits = _padded(state.slots, k, -1), _padded(state.logits, k, -np.inf)
    return Partition(log_z, sum_p2, sum_p_log_p, slots, logits * _LN_2)


def _padded(values: npt.NDArray[_Number], k: int, filling: float) -> npt.NDArray[_Number]:
    """(n, k) with what is missing on the right."""
    return np.pad(values, ((0, 0), (0, k - values.shape[1])), constant_values=filling)


def refined(
    partition: Partition, leading: Float64s, asked: int, slack: float = 0.0
) -> tuple[Moments, Float64s, Float64s]:
    """(moments, outside, rest): the pass with its leaders' logits replaced by exact ones.

    The float32 sums of the pass stay for the rows outside of its leaders; the leaders' share is
    exact, which is all of it when every row is a leader.

    Args:
        leading: (n, k) the leaders' exact logits (anything where the pass has no leader). asked:
            how many rows took part.
        slack: by how much the logit of a row that is no leader may exceed the last leader's, where
            the pass was approximate.

    Returns:
        The moments; `outside` (n,): bound of p of any row that is not a leader; `rest` (n,): their
        probability together.
    """
    there = partition.slots >= 0
    everything = partition.slots.shape[1] >= asked
    exact = np.where(there, leading, -np.inf)
    top = exact.max(axis=1, initial=-np.inf)[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        powers = np.where(there, np.exp(exact - top), 0.0)
        # As the pass rounds: what it summed of the leaders, and nothing else, is taken out of its
        # sum again.
        summit = partition.logits.max(axis=1, initial=-np.inf)
        summed = _as_summed(partition.logits, summit)
        known = np.where(there, summed * np.exp(summit - partition.log_z)[:, np.newaxis], 0.0)
    first = np.arange(powers.shape[1]) == exact.argmax(axis=1)[:, np.newaxis]
    # In units of the leading row's power; what is outside is no larger than its number times the
    # last leader.
    last = powers.min(axis=1, initial=np.inf, where=there) * np.exp(slack)
    bound = np.zeros(len(powers)) if everything else (asked - there.sum(axis=1)) * last
    outside = np.minimum(
        np.clip(1.0 - known.sum(axis=1), 0.0, 1.0) * np.exp(partition.log_z - top[:, 0]), bound
    )
    others = np.where(first, 0.0, powers).sum(axis=1) + outside
    total = 1.0 + others
    p = powers / total[:, np.newaxis]
    log_z = top[:, 0] + np.log1p(others)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(first, -np.log1p(others)[:, np.newaxis], exact - log_z[:, np.newaxis])
        leaders_entropy = np.where(p > 0, p * log_p, 0.0).sum(axis=1)
        known_entropy = np.where(known > 0, known * np.log(known), 0.0).sum(axis=1)
    complement = np.where(first, (others / total)[:, np.newaxis], 1.0 - p)
    rest = outside / total
    if everything:
        rest_entropy, rest_squares = np.zeros(len(p)), np.zeros(len(p))
    else:
        # Where the leaders' logits were only near, the total was too: what is outside is a little
        # more or less of it.
        shift = partition.log_z - log_z
        before = np.clip(1.0 - known.sum(axis=1), 0.0, 1.0)
        rest_entropy = np.minimum(
            np.exp(shift) * (partition.sum_p_log_p - known_entropy + shift * before), 0.0
        )
        rest_squares = np.exp(2 * shift) * (partition.sum_p2 - (known**2).sum(axis=1))
        rest_squares = np.clip(rest_squares, 0.0, rest * last / total)
    moments = Moments(
        log_z, leaders_entropy + rest_entropy, (p * complement).sum(axis=1) + rest - rest_squares
    )
    return moments, np.zeros(len(p)) if everything else last / total, rest


def _as_summed(logits: Float64s, summit: Float64s) -> Float64s:
    """(n, k) e^(logits − summit) with the very float32 numbers that the pass adds up."""
    bits = (logits * LOG2_E).astype(np.float32)
    bits -= (summit * LOG2_E).astype(np.float32)[:, np.newaxis]
    np.maximum(bits, FLOOR, out=bits)
    powers_of_two(bits, bits)
    return bits.astype(np.float64)
