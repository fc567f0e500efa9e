"""16-bit rows: how they are stored, and what is known of the error that they bring.

A segment of 16-bit rows holds bfloat16(row − centre). A bfloat16 has 8 significant bits, so that a logit of 100 · cosine is
off by some hundredths. The errors of rows are independent, so they cancel in a sum over many; those of the few leading
rows do not, and their logits are computed anew from float32 rows (:func:`trustvlm.scoring.text.refined`). A kernel that
rounds the query as well moves similar rows by the same amount; :func:`correction` and :func:`drift` take that out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt

from trustvlm.types import Float32s, Float64s, Int64s

__all__ = ["Segment", "Uint16s", "correction", "drift", "shortened", "to_bfloat16", "widened"]

Uint16s = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows `start` … of a matrix, in one piece.

    Attributes:
        start: the slot of its first row.
        rows: (m, d) float32, or uint16: the bits of bfloat16(row − centre).
        centre: (d,) float32 that was subtracted; None for float32 rows.
        covariance: (d, d) float64 of the rows, about the centre; None for float32 rows.
    """

    start: int
    rows: Float32s | Uint16s
    centre: Float32s | None = None
    covariance: Float64s | None = None


def shortened(rows: Float32s, centre: Float32s) -> Uint16s:
    """(n, d) rows as a 16-bit segment holds them."""
    return to_bfloat16(rows - centre)


def to_bfloat16(values: Float32s | Float64s) -> Uint16s:
    """The bits of the nearest bfloat16 of finite values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def widened(rows: Uint16s) -> Float32s:
    """bfloat16 bits as float32."""
    wide = rows.astype(np.uint32)
    wide <<= 16
    return wide.view(np.float32)


def correction(segment: Segment, scaled: Float64s, *, rounded: bool) -> tuple[Float64s, Float64s]:
    """(slope, offset), each (n,): exact logit ≈ slope · computed + offset, for (n, d) queries times the scale.

    The offset is what the centre contributes. Where the query q was rounded too, to b, the errors (q − b)·t of the rows t
    are not independent: rows that lie in the direction of q err together. Over rows of covariance H the regression of q·t
    on b·t has the slope qᵀHb / bᵀHb.
    """
    if segment.centre is None:
        return np.ones(len(scaled)), np.zeros(len(scaled))
    offset = scaled @ segment.centre.astype(np.float64)
    if not rounded or segment.covariance is None:
        return np.ones(len(scaled)), offset
    short = widened(to_bfloat16(scaled)).astype(np.float64)
    spread = short @ segment.covariance
    across, along = np.sum(spread * scaled, axis=1), np.sum(spread * short, axis=1)
    return np.divide(across, along, out=np.ones(len(scaled)), where=along > 0), offset


def drift(segment: Segment, scaled: Float64s, slope: Float64s, offset: Float64s, slots: Int64s, logits: Float32s) -> Float64s:
    """(n, k) what to add to the `logits`, corrected as above, of rows of this segment, so that no error of the query is left.

    0 for `slots` of other segments.
    """
    left = (scaled - widened(to_bfloat16(scaled))).astype(np.float32)
    found = np.zeros(slots.shape)
    here = (slots >= segment.start) & (slots < segment.start + len(segment.rows))
    for query in np.flatnonzero(here.any(axis=1)).tolist():
        own = here[query]
        rows = widened(cast(Uint16s, segment.rows)[slots[query, own] - segment.start])
        computed = (logits[query, own] - offset[query]) / slope[query]
        found[query, own] = computed + rows @ left[query] + offset[query] - logits[query, own]
    return found
