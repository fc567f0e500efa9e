"""How logits of one block of rows are computed: the kernels of the text pass, and which of them is
fastest here.

Rows are float32, or bfloat16 of the row minus a centre that all rows of the segment share
(s·q·centre is added to every logit again, exactly). Logits are in bits: s is the logit scale times
log₂e. Five ways lead from 16-bit rows to logits:

- *scan* (numkong): every query is a walk over the 16-bit rows, which accumulates in float32:
  limited by memory, best for one or two queries;
- *widen*: a block of rows becomes float32 in the processor's cache, then a float32 matrix product:
  no other rounding than that of the stored rows; *torch*: the same with torch's product, which is
  faster for batches;
- *bfloat16*: a 16-bit matrix product (torch), whose output is rounded as well: several times faster
  than float32 on processors with matrix units (AMX), twice as fast on others that have bfloat16
  products;
- *int8*: an 8-bit matrix product (torch) with whole-number sums over the 8-bit copy of the rows, in
  their random order: four times as fast as float32 wherever the processor has 8-bit products (VNNI,
  AMX), best for batches.

Which is fastest depends on the processor alone: :func:`measure` finds out, once; callers store what
it says.
"""

from __future__ import annotations

import ctypes
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from trustvlm.softmax.quantize import (
    Coarse,
    Int8s,
    Segment,
    Uint16s,
    coarsened,
    correction,
    rotation,
    shuffled,
    stepped,
    to_bfloat16,
    widened,
)
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

if TYPE_CHECKING:
    import torch

__all__ = [
    "DEVICE",
    "EXACT",
    "KERNELS",
    "LOG2_E",
    "Kernels",
    "Prepared",
    "block_logits",
    "blocks",
    "coarse_products",
    "errors_of",
    "measure",
    "prepare",
    "turned",
]

KERNELS = ("scan", "widen", "torch", "bfloat16", "int8")
LOG2_E = math.log2(math.e)
FLOAT32 = "float32"
"""Not a kernel to choose: the product of float32 rows."""

DEVICE = "device"
"""Not a kernel of blocks: the whole pass is made elsewhere."""

_WIDEN_ROWS = 512
"""Rows that are made float32 at a time: 1 MB at 512 dimensions, half of the second-level cache of
one core."""


@dataclass(frozen=True)
class Kernels:
    """Which kernel serves 16-bit rows: (up to so many queries, kernel) in ascending order; beyond
    the last, "widen".

    With a `device` of torch's, the rows lie there and are passed over there
    (:mod:`trustvlm.softmax.on_device`).
    """

    steps: tuple[tuple[int, str], ...] = ()
    device: str | None = None

    def of(self, queries: int) -> str:
        """The kernel for so many queries."""
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
        taken: (n, d) the queries as the kernel rounds them; `scaled` where it does not.
        slope, offset: (n,) float64, see :func:`trustvlm.softmax.quantize.correction`.
        eight: `taken` as 8-bit numbers, rotated, and their (n,) steps, for the kernel "int8".
    """

    segment: Segment
    kernel: str
    scaled: Float64s
    taken: Float64s
    slope: Float64s
    offset: Float64s
    eight: tuple[Int8s, Float64s] | None = None

    @property
    def rounded(self) -> bool:
        """Whether the kernel rounds the queries."""
        return self.taken is not self.scaled

    @property
    def coarse(self) -> Coarse | None:
        """The rows that the kernel reads, where these are the 8-bit ones."""
        return self.segment.coarse if self.kernel == "int8" else None

    def in_order(self, keep: Bools | None) -> Bools | None:
        """A mask over all slots as one over the rows in the order of :func:`blocks`."""
        if keep is None:
            return None
        own = keep[self.segment.start : self.segment.start + len(self.segment.rows)]
        return own if self.coarse is None else own[self.coarse.order]

    def places(self, positions: Int64s) -> Int64s:
        """Positions in the order of :func:`blocks` as places in the segment's rows; −1 stays."""
        if self.coarse is None:
            return positions
        return np.where(positions >= 0, self.coarse.order[np.maximum(positions, 0)], -1)


def prepare(
    segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels
) -> list[Prepared]:
    """(n, d) unit queries for each of the segments, their logits in bits."""
    scaled = queries.astype(np.float64) * (scale * LOG2_E)
    wanted = kernels.of(len(queries))
    found = []
    for segment in segments:
        kernel = FLOAT32 if segment.centre is None else wanted
        if kernel == "int8" and segment.coarse is None:
            kernel = "torch"
        taken, eight = scaled, None
        if kernel in ("scan", "bfloat16"):
            taken = widened(to_bfloat16(scaled)).astype(np.float64)
        elif kernel == "int8":
            assert segment.coarse is not None
            eight = turned(scaled, segment.coarse)
            taken = (
                (eight[0] * eight[1][:, np.newaxis]).astype(np.float32) @ segment.coarse.rotation.T
            ).astype(np.float64)
        slope, offset = correction(segment, scaled, None if taken is scaled else taken)
        found.append(Prepared(segment, kernel, scaled, taken, slope, offset, eight))
    return found


def turned(queries: Float64s, coarse: Coarse) -> tuple[Int8s, Float64s]:
    """(n, d) queries as 8-bit rows meet them, and their (n,) steps."""
    return stepped(queries.astype(np.float32) @ coarse.rotation)


def blocks(part: Prepared, block_rows: int) -> Iterator[tuple[int, Float32s]]:
    """(first position, (n, b) logits without the offset) of one block after the other, b ≤
    `block_rows`.

    The array is used again for the next block, and may be written to until then. Positions: see
    :meth:`Prepared.places`.
    """
    count = len(part.scaled)
    buffer = np.empty((count, min(block_rows, len(part.segment.rows))), np.float32)
    fill = _fill(part)
    rows = len(part.segment.rows)
    for start in range(0, rows, block_rows):
        stop = min(start + block_rows, rows)
        logits = (
            buffer
            if stop - start == buffer.shape[1]
            else np.empty((count, stop - start), np.float32)
        )
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


def _fill(part: Prepared) -> Callable[[int, int, Float32s], None]:
    """What writes slope · product of queries and rows start … stop into an array."""
    queries = part.scaled.astype(np.float32)
    if part.kernel == FLOAT32:
        return _float32(cast(Float32s, part.segment.rows), queries)
    if part.coarse is not None and part.eight is not None:
        return _int8(part.coarse, *part.eight, part.slope)
    rows, slope = cast(Uint16s, part.segment.rows), part.slope[:, np.newaxis].astype(np.float32)
    return {"scan": _scan, "widen": _widen, "torch": _torch, "bfloat16": _bfloat16}[part.kernel](
        rows, queries, slope
    )


def _float32(rows: Float32s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    def fill(start: int, stop: int, out: Float32s) -> None:
        np.matmul(queries, rows[start:stop].T, out=out)

    return fill


def _scan(
    rows: Uint16s, queries: Float32s, slope: Float32s
) -> Callable[[int, int, Float32s], None]:
    from numkong import cdist

    short = to_bfloat16(queries)

    def fill(start: int, stop: int, out: Float32s) -> None:
        products = np.asarray(cdist(short, rows[start:stop], metric="dot", dtype="bfloat16"))
        np.multiply(products, slope, out=out, casting="same_kind")

    return fill


def _widen(
    rows: Uint16s, queries: Float32s, slope: Float32s
) -> Callable[[int, int, Float32s], None]:
    wide = np.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]), np.uint32)

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            np.copyto(part, rows[first:last])
            np.left_shift(part, 16, out=part)
            np.matmul(queries, part.view(np.float32).T, out=out[:, first - start : last - start])

    return fill


def _torch(
    rows: Uint16s, queries: Float32s, slope: Float32s
) -> Callable[[int, int, Float32s], None]:
    import torch

    matrix, asked = _as_tensor(rows), torch.from_numpy(queries)
    wide = torch.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]))

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            part.copy_(matrix[first:last])
            torch.mm(asked, part.T, out=torch.from_numpy(out[:, first - start : last - start]))
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


def _bfloat16(
    rows: Uint16s, queries: Float32s, slope: Float32s
) -> Callable[[int, int, Float32s], None]:
    import torch

    matrix, factor = _as_tensor(rows), torch.from_numpy(slope)
    short = torch.from_numpy(to_bfloat16(queries).view(np.int16)).view(torch.bfloat16)

    def fill(start: int, stop: int, out: Float32s) -> None:
        torch.mul(torch.mm(short, matrix[start:stop].T), factor, out=torch.from_numpy(out))
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


def _int8(
    coarse: Coarse, short: Int8s, steps: Float64s, slope: Float64s
) -> Callable[[int, int, Float32s], None]:
    import torch

    asked, factor = (
        torch.from_numpy(short),
        torch.from_numpy((steps * slope).astype(np.float32)[:, np.newaxis]),
    )
    matrix, each = _as_bytes(coarse.rows), torch.from_numpy(np.array(coarse.steps))

    def fill(start: int, stop: int, out: Float32s) -> None:
        wide = torch.from_numpy(out)
        wide.copy_(torch._int_mm(asked, matrix[start:stop].T)).mul_(each[start:stop]).mul_(factor)
        assert coarse is not None  # keeps alive what `matrix` looks at

    return fill


def errors_of(part: Prepared) -> Callable[[int, int, Float32s], Float32s]:
    """What says, of the logits of rows start … stop by the kernel "int8", by how much they are too
    small."""
    coarse = part.coarse
    assert coarse is not None
    fill = _int8(coarse, *turned(part.scaled - part.taken, coarse), np.ones(len(part.scaled)))
    missing = (1.0 / part.slope - 1.0).astype(np.float32)[:, np.newaxis]

    def errors(start: int, stop: int, logits: Float32s) -> Float32s:
        found = logits * missing
        left = np.empty_like(logits)
        fill(start, stop, left)
        found += left
        return found

    return errors


def coarse_products(queries: Int8s, rows: Int8s) -> Float32s:
    """(n, m) products of int8 queries and rows: by numkong for a few, as torch takes seconds to
    load, and else by torch."""
    if len(queries) <= _SCAN_MOST:
        from numkong import cdist

        return np.asarray(cdist(queries, rows, metric="dot")).astype(np.float32)
    import torch

    found: Float32s = torch._int_mm(torch.from_numpy(queries), _as_bytes(rows).T).float().numpy()
    return found


def _as_tensor(rows: Uint16s) -> torch.Tensor:
    """bfloat16 bits as a tensor over the same memory."""
    import torch

    return torch.from_numpy(_unprotected(rows, ctypes.c_int16)).view(torch.bfloat16)


def _as_bytes(rows: Int8s) -> torch.Tensor:
    """int8 rows as a tensor over the same memory."""
    import torch

    return torch.from_numpy(_unprotected(rows, ctypes.c_int8))


def _unprotected(
    rows: Uint16s | Int8s, kind: type[ctypes.c_int16 | ctypes.c_int8]
) -> npt.NDArray[np.signedinteger[Any]]:
    """The rows as an array that does not say that it is read-only: torch warns of memory that is,
    as mapped rows are, and nobody writes."""
    if not rows.size:
        return np.empty(rows.shape, kind)
    assert rows.flags.c_contiguous
    return np.ctypeslib.as_array((kind * rows.size).from_address(rows.ctypes.data)).reshape(
        rows.shape
    )


_PROBE_ROWS, _PROBE_DIM = 8_192, 512
_PROBE_QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SCAN_MOST = 16  # its time grows with every query
_WORTH = {"torch": 1.0, "scan": 1.2, "bfloat16": 1.2, "int8": 1.4}
"""So much faster than the one before must a kernel be that rounds more, or whose rounding takes
longer to take out again."""


def measure() -> Kernels:
    """The kernels to use on this machine, at its present number of threads: measured in a
    second."""
    rng = np.random.default_rng(0)
    exact, centre = (
        rng.standard_normal((_PROBE_ROWS, _PROBE_DIM), dtype=np.float32),
        np.zeros(_PROBE_DIM, np.float32),
    )
    matrix = rotation(_PROBE_DIM)
    coarse = Coarse(*coarsened(exact, centre, matrix), shuffled(_PROBE_ROWS), matrix)
    segments = [Segment(0, to_bfloat16(exact), centre, np.eye(_PROBE_DIM), coarse)]
    queries = rng.standard_normal((_PROBE_QUERIES[-1], _PROBE_DIM), dtype=np.float32)

    def seconds(count: int, kernels: Sequence[str]) -> dict[str, float]:
        """The least of several times, taken in turn: others may use the processor too."""
        parts = [
            prepare(segments, queries[:count], 1.0, Kernels(((count, kernel),)))[0]
            for kernel in kernels
        ]
        taken = dict.fromkeys(kernels, math.inf)
        for _ in range(5):
            for part in parts:
                begin = time.perf_counter()
                for _ in blocks(part, int(np.clip(2**17 // count, 512, _PROBE_ROWS))):
                    pass
                taken[part.kernel] = min(taken[part.kernel], time.perf_counter() - begin)
        return taken

    steps: list[tuple[int, str]] = []
    for count in _PROBE_QUERIES:
        kernels = [
            kernel for kernel in ("widen", *_WORTH) if kernel != "scan" or count <= _SCAN_MOST
        ]
        taken = seconds(count, kernels)
        best = "widen"
        for kernel in kernels[1:]:  # from the one that rounds least to the one that rounds most
            if taken[kernel] * _WORTH[kernel] < taken[best]:
                best = kernel
        steps.append((count, best))
    return Kernels(
        tuple(
            steps[at]
            for at in range(len(steps))
            if at + 1 == len(steps) or steps[at + 1][1] != steps[at][1]
        )
    )
