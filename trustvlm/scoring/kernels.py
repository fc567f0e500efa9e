"""How logits of one block of rows are computed: the kernels of the text pass, and which of them is fastest here.

Rows are float32, or bfloat16 of the row minus a centre that all rows of the segment share (s·q·centre is added to every
logit again, exactly). Three ways lead from 16-bit rows to logits:

- *scan* (numkong): every query is a walk over the 16-bit rows, which accumulates in float32: limited by memory, best for
  one or two queries;
- *widen*: a block of rows becomes float32 in the processor's cache, then a float32 matrix product: no other rounding than
  that of the stored rows;
- *bfloat16*: a 16-bit matrix product (torch), whose output is rounded as well: several times faster than float32 on
  processors with matrix units (AMX), and without them only for a few queries.

Which is fastest depends on the processor alone: :func:`measure` finds out, once; callers store what it says.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from trustvlm.scoring.rounding import Segment, Uint16s, correction, to_bfloat16
from trustvlm.types import Float32s

__all__ = ["EXACT", "KERNELS", "Kernels", "block_logits", "measure"]

KERNELS = ("scan", "widen", "bfloat16")

_WIDEN_ROWS = 1024
"""Rows that are made float32 at a time: 2 MB at 512 dimensions, the second-level cache of one core."""


@dataclass(frozen=True)
class Kernels:
    """Which kernel serves 16-bit rows: (up to so many queries, kernel) in ascending order; beyond the last, "widen"."""

    steps: tuple[tuple[int, str], ...] = ()

    def of(self, queries: int) -> str:
        """The kernel for so many queries."""
        return next((kernel for most, kernel in self.steps if queries <= most), "widen")

    def rounds(self, queries: int) -> bool:
        """Whether that kernel rounds the queries too."""
        return self.of(queries) != "widen"


EXACT = Kernels()
"""No rounding beyond that of the stored rows; needs nothing but NumPy."""


def block_logits(
    segments: Sequence[Segment], queries: Float32s, scale: float, kernels: Kernels, block_rows: int
) -> Iterator[tuple[int, Float32s]]:
    """(first slot, (n, b) logits) of one block after the other; the array is used again for the next block.

    b is at most `block_rows`. Queries are (n, d) unit vectors.
    """
    scaled = queries.astype(np.float64) * scale
    buffer = np.empty((len(queries), block_rows), np.float32)
    for segment in segments:
        kernel = kernels.of(len(queries))
        fill = _fill(segment.rows, scaled.astype(np.float32), kernel)
        slope, offset = correction(segment, scaled, rounded=kernels.rounds(len(queries)))
        for start in range(0, len(segment.rows), block_rows):
            stop = min(start + block_rows, len(segment.rows))
            logits = buffer if stop - start == block_rows else np.empty((len(queries), stop - start), np.float32)
            fill(start, stop, logits)
            if segment.centre is not None:
                logits *= slope
                logits += offset
            yield segment.start + start, logits


def _fill(rows: Float32s | Uint16s, queries: Float32s, kernel: str) -> Callable[[int, int, Float32s], None]:
    """What writes the products of queries and rows start … stop into an array."""
    if rows.dtype == np.float32:
        return _float32(cast(Float32s, rows), queries)
    return {"scan": _scan, "widen": _widen, "bfloat16": _bfloat16}[kernel](cast(Uint16s, rows), queries)


def _float32(rows: Float32s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    def fill(start: int, stop: int, out: Float32s) -> None:
        np.matmul(queries, rows[start:stop].T, out=out)

    return fill


def _scan(rows: Uint16s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    from numkong import cdist

    short = to_bfloat16(queries)

    def fill(start: int, stop: int, out: Float32s) -> None:
        out[:] = np.asarray(cdist(short, rows[start:stop], metric="dot", dtype="bfloat16"))

    return fill


def _widen(rows: Uint16s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    wide = np.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]), np.uint32)

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            np.copyto(part, rows[first:last])
            np.left_shift(part, 16, out=part)
            np.matmul(queries, part.view(np.float32).T, out=out[:, first - start : last - start])

    return fill


def _bfloat16(rows: Uint16s, queries: Float32s) -> Callable[[int, int, Float32s], None]:
    import torch

    # torch warns of read-only memory, which mapped rows are; it is only read here.
    values = np.ctypeslib.as_array((ctypes.c_int16 * rows.size).from_address(rows.ctypes.data)).reshape(rows.shape)
    matrix = torch.from_numpy(values).view(torch.bfloat16)
    short = torch.from_numpy(to_bfloat16(queries).view(np.int16)).view(torch.bfloat16)

    def fill(start: int, stop: int, out: Float32s) -> None:
        torch.from_numpy(out).copy_(torch.mm(short, matrix[start:stop].T))
        assert rows is not None  # keeps alive what `matrix` looks at

    return fill


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
        for kernel in ("scan", "bfloat16"):  # from the one that rounds least to the one that rounds most
            if kernel == "scan" and count > _SCAN_MOST:
                continue
            taken = seconds(count, kernel)
            if taken * _WORTH < least:
                best, least = kernel, taken
        steps.append((count, best))
    return Kernels(tuple(steps[at] for at in range(len(steps)) if at + 1 == len(steps) or steps[at + 1][1] != steps[at][1]))
