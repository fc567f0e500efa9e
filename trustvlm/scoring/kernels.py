"""How logits of one block of rows are computed: the kernels of the text pass, and which of them is fastest here.

Rows are float32, or bfloat16 of the row minus a centre that all rows of the segment share (s·q·centre is added to every
logit again, exactly). Four ways lead from 16-bit rows to logits:

- *scan* (numkong): every query is a walk over the 16-bit rows, which accumulates in float32: limited by memory, best for
  one or two queries;
- *widen*: a block of rows becomes float32 in the processor's cache, then a float32 matrix product: no other rounding than
  that of the stored rows; *torch*: the same with torch's product, which is faster for batches;
- *bfloat16*: a 16-bit matrix product (torch), whose output is rounded as well: several times faster than float32 on
  processors with matrix units (AMX), and without them only for a few queries.

Which is fastest depends on the processor alone: :func:`measure` finds out, once; callers store what it says.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from trustvlm.scoring.rounding import Segment, Uint16s, correction, to_bfloat16
from trustvlm.types import Float32s, Float64s

if TYPE_CHECKING:
    import torch

__all__ = ["DEVICE", "EXACT", "KERNELS", "Kernels", "Prepared", "block_logits", "blocks", "measure", "prepare"]

KERNELS = ("scan", "widen", "torch", "bfloat16")
DEVICE = "device"
"""Not a kernel of blocks: the whole pass is made elsewhere."""

_WIDEN_ROWS = 512
"""Rows that are made float32 at a time: 1 MB at 512 dimensions, half of the second-level cache of one core."""


@dataclass(frozen=True)
class Kernels:
    """Which kernel serves 16-bit rows: (up to so many queries, kernel) in ascending order; beyond the last, "widen".

    With a `device` of torch's, the rows lie there and are passed over there (:mod:`trustvlm.scoring.device`).
    """

    steps: tuple[tuple[int, str], ...] = ()
    device: str | None = None

    def of(self, queries: int) -> str:
        """The kernel for so many queries."""
        if self.device is not None:
            return DEVICE
        return next((kernel for most, kernel in self.steps if queries <= most), "widen")

    def rounds(self, queries: int) -> bool:
        """Whether that kernel rounds the queries too."""
        return self.of(queries) in ("scan", "bfloat16")


EXACT = Kernels()
"""No rounding beyond that of the stored rows; needs nothing but NumPy."""


@dataclass(frozen=True, eq=False)
class Prepared:
    """n queries, times the scale, as one segment takes them: exact logit ≈ slope · computed + offset.

    Attributes:
        segment: the rows. kernel: what computes. scaled: (n, d) float64. slope, offset: (n,) float64, see
            :func:`trustvlm.scoring.rounding.correction`. rounded: whether the kernel rounds the queries.
    """

    segment: Segment
    kernel: str
    scaled: Float64s
    slope: Float64s
    offset: Float64s
    rounded: bool


def prepare(segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels) -> list[Prepared]:
    """(n, d) unit queries for each of the segments."""
    scaled = queries.astype(np.float64) * scale
    kernel = kernels.of(len(queries))
    found = []
    for segment in segments:
        rounded = segment.centre is not None and kernels.rounds(len(queries))
        slope, offset = correction(segment, scaled, rounded=rounded)
        found.append(Prepared(segment, kernel, scaled, slope, offset, rounded))
    return found


def blocks(prepared: Sequence[Prepared], block_rows: int) -> Iterator[tuple[int, Float32s, Float64s]]:
    """(first slot, (n, b) logits, (n,) offset to add to them) of one block after the other, b ≤ `block_rows`.

    The array is used again for the next block, and may be written to until then.
    """
    count = len(prepared[0].scaled) if prepared else 0
    buffer = np.empty((count, block_rows), np.float32)
    for part in prepared:
        fill = _fill(part)
        rows = part.segment.rows
        for start in range(0, len(rows), block_rows):
            stop = min(start + block_rows, len(rows))
            logits = buffer if stop - start == block_rows else np.empty((count, stop - start), np.float32)
            fill(start, stop, logits)
            yield part.segment.start + start, logits, part.offset


def block_logits(
    segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels, block_rows: int
) -> Iterator[tuple[int, Float32s]]:
    """(first slot, (n, b) logits) of one block after the other, b ≤ `block_rows`; the array is used again for the next."""
    for start, logits, offset in blocks(prepare(segments, queries, scale, kernels), block_rows):
        logits += offset[:, np.newaxis].astype(np.float32)
        yield start, logits


def _fill(part: Prepared) -> Callable[[int, int, Float32s], None]:
    """What writes slope · product of queries and rows start … stop into an array."""
    queries = part.scaled.astype(np.float32)
    if part.segment.centre is None:
        return _float32(cast(Float32s, part.segment.rows), queries)
    rows, slope = cast(Uint16s, part.segment.rows), part.slope[:, np.newaxis].astype(np.float32)
    return {"scan": _scan, "widen": _widen, "torch": _torch, "bfloat16": _bfloat16}[part.kernel](rows, queries, slope)


def _float32(rows: Float32s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    def fill(start: int, stop: int, out: Float32s) -> None:
        np.matmul(queries, rows[start:stop].T, out=out)

    return fill


def _scan(rows: Uint16s, queries: Float32s, slope: Float32s) -> Callable[[int, int, Float32s], None]:
    from numkong import cdist

    short = to_bfloat16(queries)

    def fill(start: int, stop: int, out: Float32s) -> None:
        products = np.asarray(cdist(short, rows[start:stop], metric="dot", dtype="bfloat16"))
        np.multiply(products, slope, out=out, casting="same_kind")

    return fill


def _widen(rows: Uint16s, queries: Float32s, slope: Float32s) -> Callable[[int, int, Float32s], None]:
    wide = np.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]), np.uint32)

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            np.copyto(part, rows[first:last])
            np.left_shift(part, 16, out=part)
            np.matmul(queries, part.view(np.float32).T, out=out[:, first - start : last - start])

    return fill


def _torch(rows: Uint16s, queries: Float32s, slope: Float32s) -> Callable[[int, int, Float32s], None]:
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


def _bfloat16(rows: Uint16s, queries: Float32s, slope: Float32s) -> Callable[[int, int, Float32s], None]:
    import torch

    matrix, factor = _as_tensor(rows), torch.from_numpy(slope)
    short = torch.from_numpy(to_bfloat16(queries).view(np.int16)).view(torch.bfloat16)

    def fill(start: int, stop: int, out: Float32s) -> None:
        torch.mul(torch.mm(short, matrix[start:stop].T), factor, out=torch.from_numpy(out))
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


def _as_tensor(rows: Uint16s) -> torch.Tensor:
    """bfloat16 bits as a tensor over the same memory. torch warns of read-only memory, which mapped rows are; nobody writes."""
    import torch

    values = np.ctypeslib.as_array((ctypes.c_int16 * rows.size).from_address(rows.ctypes.data)).reshape(rows.shape)
    return torch.from_numpy(values).view(torch.bfloat16)


_PROBE_ROWS, _PROBE_DIM = 8_192, 512
_PROBE_QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SCAN_MOST = 16  # its time grows with every query
_WORTH = 1.2  # so much faster must a kernel be that rounds more


def measure() -> Kernels:
    """The kernels to use on this machine, at its present number of threads: measured in half a second."""
    rng = np.random.default_rng(0)
    rows = to_bfloat16(rng.standard_normal((_PROBE_ROWS, _PROBE_DIM), dtype=np.float32))
    segments = [Segment(0, rows, np.zeros(_PROBE_DIM, np.float32), np.eye(_PROBE_DIM, dtype=np.float32))]
    queries = rng.standard_normal((_PROBE_QUERIES[-1], _PROBE_DIM), dtype=np.float32)

    def seconds(count: int, kernel: str) -> float:
        taken = []
        for _ in range(3):
            begin = time.perf_counter()
            for _ in block_logits(segments, queries[:count], 1.0, Kernels(((count, kernel),)), 2048):
                pass
            taken.append(time.perf_counter() - begin)
        return min(taken)

    steps: list[tuple[int, str]] = []
    for count in _PROBE_QUERIES:
        best, least = "widen", seconds(count, "widen")
        for kernel in ("torch", "scan", "bfloat16"):  # from the one that rounds least to the one that rounds most
            if kernel == "scan" and count > _SCAN_MOST:
                continue
            taken = seconds(count, kernel)
            if taken * (1.0 if kernel == "torch" else _WORTH) < least:
                best, least = kernel, taken
        steps.append((count, best))
    return Kernels(tuple(steps[at] for at in range(len(steps)) if at + 1 == len(steps) or steps[at + 1][1] != steps[at][1]))
