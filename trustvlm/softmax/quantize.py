"""16-bit and 8-bit rows: how they are stored, and what is known of the error that they bring.

A segment of 16-bit rows holds bfloat16(row − centre). A bfloat16 has 8 significant bits, so that a
logit of 100 · cosine is off by some hundredths. The errors of rows are independent, so they cancel
in a sum over many; those of the few leading rows do not, and their logits are computed anew from
float32 rows (:func:`trustvlm.softmax.softmax.refined`). A kernel that rounds the query as well
moves similar rows by the same amount: :func:`correction` takes out what all rows have of it in
common, :func:`drift` what the leaders have, and :mod:`trustvlm.softmax.correct_tail` what is left
of it in the others.

For products of 8-bit numbers a segment also holds its rows in 8 bits. They are rotated first, by a
random rotation: one dimension with much of the energy would take all the steps, and rotated rows
spread theirs evenly, whatever the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt

from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = [
    "Coarse",
    "Int8s",
    "Segment",
    "Uint16s",
    "coarsened",
    "correction",
    "drift",
    "rotation",
    "shortened",
    "shuffled",
    "stepped",
    "to_bfloat16",
    "widened",
]

Uint16s = npt.NDArray[np.uint16]
Int8s = npt.NDArray[np.int8]

_MOST = 127.0


@dataclass(frozen=True, eq=False)
class Coarse:
    """The rows of a segment in 8 bits, in random order, so that any run of them is a sample of all.

    Attributes:
        rows: (m, d) int8, row · rotation / step. steps: (m,) float32. order: (m,) which row of the
            segment each one is.
        rotation: (d, d) float32, orthogonal.
    """

    rows: Int8s
    steps: Float32s
    order: Int64s
    rotation: Float32s


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows `start` … of a matrix, in one piece.

    Attributes:
        start: the slot of its first row.
        rows: (m, d) float32, or uint16: the bits of bfloat16(row − centre).
        centre: (d,) float32 that was subtracted; None for float32 rows.
        covariance: (d, d) float64 of the rows, about the centre; None for float32 rows.
        coarse: the rows in 8 bits, about the centre too; None for float32 rows.
    """

    start: int
    rows: Float32s | Uint16s
    centre: Float32s | None = None
    covariance: Float64s | None = None
    coarse: Coarse | None = None


def shortened(rows: Float32s, centre: Float32s) -> Uint16s:
    """(n, d) rows as a 16-bit segment holds them."""
    return to_bfloat16(rows - centre)


def coarsened(rows: Float32s, centre: Float32s, rotation: Float32s) -> tuple[Int8s, Float32s]:
    """(n, d) rows and their (n,) steps as an 8-bit segment holds them."""
    short, steps = stepped((rows - centre) @ rotation)
    return short, steps.astype(np.float32)


def stepped(values: Float32s | Float64s) -> tuple[Int8s, Float64s]:
    """(n, d) int8 and (n,) step of each row: values ≈ step · int8. A row of zeros has the step
    1."""
    steps = np.abs(values).max(axis=1, initial=0.0).astype(np.float32).astype(np.float64) / _MOST
    steps[steps == 0.0] = 1.0
    short = np.rint(values / steps[:, np.newaxis].astype(values.dtype))
    return np.clip(short, -_MOST, _MOST).astype(np.int8), steps


@cache
def rotation(dim: int) -> Float32s:
    """(dim, dim) float32 rotation, drawn at random: the same in one process, and stored where rows
    depend on it."""
    drawn = np.random.default_rng(dim).standard_normal((dim, dim))
    found: Float32s = np.linalg.qr(drawn)[0].astype(np.float32)
    return found


def shuffled(count: int) -> Int64s:
    """(count,) the order of 8-bit rows."""
    return np.random.default_rng(count).permutation(count)


def to_bfloat16(values: Float32s | Float64s) -> Uint16s:
    """The bits of the nearest bfloat16 of finite values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(rows: Uint16s) -> Float32s:
    """bfloat16 bits as float32."""
    wide = rows.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def correction(
    segment: Segment, scaled: Float64s, taken: Float64s | None
) -> tuple[Float64s, Float64s]:
    """(slope, offset), each (n,): exact logit ≈ slope · computed + offset, for (n, d) queries times
    the scale.

    The offset is what the centre contributes. Where the kernel takes rounded queries b in place of
    q (`taken`; None: the queries as they are), the errors (q − b)·t of the rows t are not
    independent: rows that lie in the direction of q err together. Over rows of covariance H the
    regression of q·t on b·t has the slope qᵀHb / bᵀHb.
    """
    if segment.centre is None:
        return np.ones(len(scaled)), np.zeros(len(scaled))
    offset = scaled @ segment.centre.astype(np.float64)
    if taken is None or segment.covariance is None:
        return np.ones(len(scaled)), offset
    spread = (taken.astype(np.float32) @ segment.covariance.astype(np.float32)).astype(np.float64)
    across, along = np.sum(spread * scaled, axis=1), np.sum(spread * taken, axis=1)
    return np.divide(across, along, out=np.ones(len(scaled)), where=along > 0), offset


def drift(
    segment: Segment, scaled: Float64s, offset: Float64s, places: Int64s, logits: Float64s
) -> Float64s:
    """(n, k) what to add to the `logits` of the segment's rows at `places`, so that no error of the
    query is left in them.

    0 where the place is −1.
    """
    from numkong import cdist

    found = np.zeros(places.shape)
    rows = cast(Uint16s, segment.rows)
    gathered = np.empty((places.shape[1], rows.shape[1]), np.uint16)
    # Two bfloat16 numbers hold 16 bits of a query, and their products need no wider copy of the
    # rows.
    high = to_bfloat16(scaled)
    low = to_bfloat16(scaled - widened(high))
    for query in np.flatnonzero((places >= 0).any(axis=1)).tolist():
        own = places[query] >= 0
        some = gathered[: np.count_nonzero(own)]
        np.take(rows, places[query, own], axis=0, out=some, mode="clip")
        products = cdist(np.stack([high[query], low[query]]), some, metric="dot", dtype="bfloat16")
        found[query, own] = np.asarray(products).sum(axis=0) + offset[query] - logits[query, own]
    return found
