"""How the logits of one block of rows are computed: the kernels of a pass.

Rows are float32, or bfloat16 of the row minus a centre that all rows of the segment share
(s·q·centre is added to every logit again, exactly). Logits are in bits: s is the logit scale times
log₂e. Four ways lead from 16-bit rows to logits:

- *scan* (numkong): every query is a walk over the 16-bit rows, which accumulates in float32:
  limited by memory, best for one or two queries;
- *widen*: a block of rows becomes float32 in the processor's cache, then a float32 matrix product:
  no other rounding than that of the stored rows;
- *bfloat16*: a 16-bit matrix product (torch), whose output is rounded as well: several times faster
  than float32 on processors with matrix units (AMX), twice as fast on others that have bfloat16
  products;
- *int8*: an 8-bit matrix product (torch) with whole-number sums over the 8-bit copy of the rows, in
  their random order: four times as fast as float32 wherever the processor has 8-bit products (VNNI,
  AMX), best for batches.

Which is fastest depends on the processor alone: :mod:`trustvlm.softmax.kernel_speed` measures it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.softmax.quantize import (
    Int8Rows,
    Int8s,
    Segment,
    Uint16s,
    correction,
    from_bfloat16,
    to_bfloat16,
)
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

__all__ = [
    "DEVICE",
    "EXACT",
    "KERNELS",
    "LOG2_E",
    "SCAN_QUERIES",
    "Kernels",
    "Prepared",
    "block_errors",
    "block_logits",
    "blocks",
    "prepare",
]

KERNELS = ("scan", "widen", "bfloat16", "int8")
LOG2_E = math.log2(math.e)
FLOAT32 = "float32"
"""Not a kernel to choose: the product of float32 rows."""

DEVICE = "device"
"""Not a kernel of blocks: the whole pass is made elsewhere."""

SCAN_QUERIES = 16
"""Most queries for which a scan can be fastest: its time grows with every query."""

_WIDEN_ROWS = 512  # made float32 at a time: 1 MB at 512 dimensions, half of a second-level cache

_Fill = Callable[[int, int, Float32s], None]
"""Writes slope · product of queries and rows start … stop into an (n, stop − start) array."""


@dataclass(frozen=True)
class Kernels:
    """Which kernel serves 16-bit rows: (most queries, kernel) in ascending order; beyond the last,
    "widen".

    With a `device` of torch's, the rows lie there and are passed over there
    (:mod:`trustvlm.softmax.on_device`).
    """

    steps: tuple[tuple[int, str], ...] = ()
    device: str | None = None

    def of(self, queries: int) -> str:
        """The kernel for this number of queries."""
        if self.device is not None:
            return DEVICE
        return next((kernel for most, kernel in self.steps if queries <= most), "widen")


EXACT = Kernels()
"""No rounding beyond that of the stored rows; needs nothing but NumPy."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """n queries, times the scale, as one segment takes them: exact logit ≈ slope · computed +
    offset.

    Attributes:
        segment: the rows. kernel: what computes. scaled: (n, d) float64.
        rounded_queries: (n, d) the queries as the kernel rounds them; `scaled` where it does not.
        slope, offset: (n,) float64, see :func:`trustvlm.softmax.quantize.correction`.
        int8_queries: the queries as 8-bit numbers, rotated, and their (n,) steps, for "int8".
    """

    segment: Segment
    kernel: str
    scaled: Float64s
    rounded_queries: Float64s
    slope: Float64s
    offset: Float64s
    int8_queries: tuple[Int8s, Float64s] | None = None

    @property
    def rounds(self) -> bool:
        """Whether the kernel rounds the queries."""
        return self.rounded_queries is not self.scaled

    @property
    def int8(self) -> Int8Rows | None:
        """The 8-bit rows, where the kernel reads these."""
        return self.segment.int8 if self.kernel == "int8" else None

    def in_order(self, keep: Bools | None) -> Bools | None:
        """A mask over all slots as one over the rows in the order of :func:`blocks`."""
        if keep is None:
            return None
        part = keep[self.segment.start : self.segment.start + len(self.segment.rows)]
        return part if self.int8 is None else part[self.int8.order]

    def places(self, positions: Int64s) -> Int64s:
        """Positions in the order of :func:`blocks` as places in the segment's rows; −1 stays."""
        if self.int8 is None:
            return positions
        return np.where(positions >= 0, self.int8.order[np.maximum(positions, 0)], -1)


def prepare(
    segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels
) -> list[Prepared]:
    """(n, d) unit queries for each of the segments, their logits in bits."""
    scaled = queries.astype(np.float64) * (scale * LOG2_E)
    wanted = kernels.of(len(queries))
    prepared = []
    for segment in segments:
        kernel = FLOAT32 if segment.centre is None else wanted
        rounded, int8_queries = scaled, None
        if kernel in ("scan", "bfloat16"):
            rounded = from_bfloat16(to_bfloat16(scaled)).astype(np.float64)
        elif kernel == "int8" and segment.int8 is None:
            kernel = "widen"
        elif kernel == "int8":
            assert segment.int8 is not None
            values, steps = int8_queries = segment.int8.rotated(scaled)
            turned = (values * steps[:, np.newaxis]).astype(np.float32)
            rounded = (turned @ segment.int8.rotation.T).astype(np.float64)
        slope, offset = correction(segment, scaled, None if rounded is scaled else rounded)
        prepared.append(Prepared(segment, kernel, scaled, rounded, slope, offset, int8_queries))
    return prepared


def blocks(part: Prepared, block_rows: int) -> Iterator[tuple[int, Float32s]]:
    """(first position, (n, b) logits without the offset) of one block after the other, b ≤
    `block_rows`.

    The array is used again for the next block, and may be written to until then. Positions: see
    :meth:`Prepared.places`.
    """
    count, rows, fill = len(part.scaled), len(part.segment.rows), _fill(part)
    buffer = np.empty((count, min(block_rows, rows)), np.float32)
    for start in range(0, rows, block_rows):
        stop = min(start + block_rows, rows)
        last = np.empty((count, stop - start), np.float32)
        logits = buffer if stop - start == buffer.shape[1] else last
        fill(start, stop, logits)
        yield start, logits


def block_logits(
    segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels, block_rows: int
) -> Iterator[tuple[int, Float32s]]:
    """(first slot, (n, b) logits) of one block after the other, b ≤ `block_rows`; the array is used
    again for the next.

    These are scale · queries · rowsᵀ, not in bits, in the order of slots: for kernels other than
    "int8".
    """
    for part in prepare(segments, queries, scale / LOG2_E, kernels):
        for start, logits in blocks(part, block_rows):
            logits += part.offset[:, np.newaxis].astype(np.float32)
            yield part.segment.start + start, logits


def _fill(part: Prepared) -> _Fill:
    queries = part.scaled.astype(np.float32)
    if part.kernel == FLOAT32:
        return _float32(cast(Float32s, part.segment.rows), queries)
    if part.int8 is not None and part.int8_queries is not None:
        return _int8(part.int8, *part.int8_queries, part.slope)
    rows, slope = cast(Uint16s, part.segment.rows), part.slope[:, np.newaxis].astype(np.float32)
    if part.kernel == "widen":
        return _widen(rows, queries)
    return {"scan": _scan, "bfloat16": _bfloat16}[part.kernel](rows, queries, slope)


def _float32(rows: Float32s, queries: Float32s) -> _Fill:
    def fill(start: int, stop: int, out: Float32s) -> None:
        np.matmul(queries, rows[start:stop].T, out=out)

    return fill


def _scan(rows: Uint16s, queries: Float32s, slope: Float32s) -> _Fill:
    from numkong import cdist

    short = to_bfloat16(queries)

    def fill(start: int, stop: int, out: Float32s) -> None:
        products = np.asarray(cdist(short, rows[start:stop], metric="dot", dtype="bfloat16"))
        np.multiply(products, slope, out=out, casting="same_kind")

    return fill


def _widen(rows: Uint16s, queries: Float32s) -> _Fill:
    wide = np.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]), np.uint32)

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            np.copyto(part, rows[first:last])
            np.left_shift(part, 16, out=part)
            np.matmul(queries, part.view(np.float32).T, out=out[:, first - start : last - start])

    return fill


def _bfloat16(rows: Uint16s, queries: Float32s, slope: Float32s) -> _Fill:
    import torch

    matrix = torch.from_numpy(_writable(rows, ctypes.c_int16)).view(torch.bfloat16)
    factor = torch.from_numpy(slope)
    short = torch.from_numpy(to_bfloat16(queries).view(np.int16)).view(torch.bfloat16)

    def fill(start: int, stop: int, out: Float32s) -> None:
        torch.mul(torch.mm(short, matrix[start:stop].T), factor, out=torch.from_numpy(out))
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


def _int8(rows: Int8Rows, queries: Int8s, steps: Float64s, slope: Float64s) -> _Fill:
    import torch

    short = torch.from_numpy(queries)
    factor = torch.from_numpy((steps * slope).astype(np.float32)[:, np.newaxis])
    matrix = torch.from_numpy(_writable(rows.rows, ctypes.c_int8))
    row_steps = torch.from_numpy(np.array(rows.steps))

    def fill(start: int, stop: int, out: Float32s) -> None:
        wide = torch.from_numpy(out)
        products = torch._int_mm(short, matrix[start:stop].T)
        wide.copy_(products).mul_(row_steps[start:stop]).mul_(factor)
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


def block_errors(part: Prepared) -> Callable[[int, Float32s], Float32s]:
    """A function (start, logits of a block there) → by how much they are too small, (n, b), where
    the kernel is "int8"."""
    int8 = part.int8
    assert int8 is not None
    fill = _int8(int8, *int8.rotated(part.scaled - part.rounded_queries), np.ones(len(part.scaled)))
    missing = (1.0 / part.slope - 1.0).astype(np.float32)[:, np.newaxis]

    def errors(start: int, logits: Float32s) -> Float32s:
        total, rounding = logits * missing, np.empty_like(logits)
        fill(start, start + logits.shape[1], rounding)
        total += rounding
        return total

    return errors


def _writable(
    rows: Uint16s | Int8s, kind: type[ctypes.c_int16 | ctypes.c_int8]
) -> npt.NDArray[np.signedinteger[Any]]:
    """The rows as an array that claims to be writable: torch warns of memory that is not, as mapped
    rows are, and nobody writes."""
    if not rows.size:
        return np.empty(rows.shape, kind)
    assert rows.flags.c_contiguous
    pointer = (kind * rows.size).from_address(rows.ctypes.data)
    return np.ctypeslib.as_array(pointer).reshape(rows.shape)
