"""16-bit and 8-bit rows: how they are stored, and how the error that rounding brings is corrected.

A segment of 16-bit rows holds bfloat16(row − centre). A bfloat16 has 8 significant bits, so that a
logit of 100 · cosine is off by some hundredths. The errors of rows are independent and cancel in a
sum over many; those of the few leading rows do not, and their logits are computed again from
float32 rows. A kernel that rounds the query as well shifts similar rows by the same amount:
:func:`correction` takes out what all rows have of it in common, :func:`leader_errors` what the
leaders have, and :mod:`trustvlm.softmax.correct_tail` what is left of it in the others.

For products of 8-bit numbers a segment also holds its rows in 8 bits. They are rotated first, by a
random rotation: one dimension with much of the energy would take all the steps, and rotated rows
spread theirs evenly for any encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import cast

import numpy as np
import numpy.typing as npt

from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = [
    "Int8Rows",
    "Int8s",
    "Segment",
    "Uint16s",
    "correction",
    "from_bfloat16",
    "leader_errors",
    "quantize",
    "random_order",
    "rotation",
    "to_bfloat16",
    "to_int8",
]

Uint16s = npt.NDArray[np.uint16]
Int8s = npt.NDArray[np.int8]

_LARGEST = 127.0


@dataclass(frozen=True, eq=False)
class Int8Rows:
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

    def rotated(self, queries: Float64s) -> tuple[Int8s, Float64s]:
        """(n, d) queries as 8-bit numbers in the rows' coordinates, and their (n,) steps."""
        return quantize(queries.astype(np.float32) @ self.rotation)


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows `start` … of a matrix, in one piece.

    Attributes:
        start: the slot of its first row.
        rows: (m, d) float32, or uint16: the bits of bfloat16(row − centre).
        centre: (d,) float32 that was subtracted; None for float32 rows.
        covariance: (d, d) float64 of the rows, about the centre; None for float32 rows.
        int8: the rows in 8 bits, about the centre too; None for float32 rows.
    """

    start: int
    rows: Float32s | Uint16s
    centre: Float32s | None = None
    covariance: Float64s | None = None
    int8: Int8Rows | None = None


def to_int8(rows: Float32s, centre: Float32s, rotation: Float32s) -> tuple[Int8s, Float32s]:
    """(n, d) rows and their (n,) steps as a segment's 8-bit copy holds them."""
    quantized, steps = quantize((rows - centre) @ rotation)
    return quantized, steps.astype(np.float32)


def quantize(values: Float32s | Float64s) -> tuple[Int8s, Float64s]:
    """(n, d) int8 and (n,) step of each row: values ≈ step · int8. A row of zeros has step 1."""
    steps = np.abs(values).max(axis=1, initial=0.0).astype(np.float32).astype(np.float64) / _LARGEST
    steps[steps == 0.0] = 1.0
    rounded = np.rint(values / steps[:, np.newaxis].astype(values.dtype))
    return np.clip(rounded, -_LARGEST, _LARGEST).astype(np.int8), steps


@cache
def rotation(dim: int) -> Float32s:
    """(dim, dim) float32 random rotation, the same within a process; it is stored beside the rows
    that depend on it."""
    drawn = np.random.default_rng(dim).standard_normal((dim, dim))
    orthogonal: Float32s = np.linalg.qr(drawn)[0].astype(np.float32)
    return orthogonal


def random_order(count: int) -> Int64s:
    """(count,) the order of 8-bit rows."""
    return np.random.default_rng(count).permutation(count)


def to_bfloat16(values: Float32s | Float64s) -> Uint16s:
    """The bits of the nearest bfloat16 of finite values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(rows: Uint16s) -> Float32s:
    """bfloat16 bits as float32."""
    wide = rows.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def correction(
    segment: Segment, scaled: Float64s, rounded: Float64s | None
) -> tuple[Float64s, Float64s]:
    """(slope, offset), each (n,): exact logit ≈ slope · computed + offset, for (n, d) queries times
    the scale.

    The offset is what the centre contributes. Where the kernel rounds the queries q to b
    (`rounded`; None: it does not), the errors (q − b)·t of the rows t are not independent: rows
    that lie in the direction of q err together. Over rows of covariance H the regression of q·t on
    b·t has the slope qᵀHb / bᵀHb.
    """
    slope = np.ones(len(scaled))
    if segment.centre is None:
        return slope, np.zeros(len(scaled))
    offset = scaled @ segment.centre.astype(np.float64)
    if rounded is None or segment.covariance is None:
        return slope, offset
    spread = (rounded.astype(np.float32) @ segment.covariance.astype(np.float32)).astype(np.float64)
    across, along = np.sum(spread * scaled, axis=1), np.sum(spread * rounded, axis=1)
    return np.divide(across, along, out=slope, where=along > 0), offset


def leader_errors(
    segment: Segment, scaled: Float64s, offset: Float64s, places: Int64s, logits: Float64s
) -> Float64s:
    """(n, k) what to add to the `logits` of the segment's rows at `places`, so that no rounding of
    the query is left in them; 0 where the place is −1."""
    from numkong import cdist

    errors = np.zeros(places.shape)
    rows = cast(Uint16s, segment.rows)
    gathered = np.empty((places.shape[1], rows.shape[1]), np.uint16)
    # Two bfloat16 numbers hold 16 bits of a query, and their products need no wider rows.
    high = to_bfloat16(scaled)
    low = to_bfloat16(scaled - from_bfloat16(high))
    for query in np.flatnonzero((places >= 0).any(axis=1)).tolist():
        columns = places[query] >= 0
        taken = gathered[: np.count_nonzero(columns)]
        np.take(rows, places[query, columns], axis=0, out=taken, mode="clip")
        products = cdist(np.stack([high[query], low[query]]), taken, metric="dot", dtype="bfloat16")
        exact = np.asarray(products).sum(axis=0) + offset[query]
        errors[query, columns] = exact - logits[query, columns]
    return errors
