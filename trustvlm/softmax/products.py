"""The logits of one block of rows after the other.

Float32 rows are multiplied by NumPy. 16-bit rows are multiplied in one of four ways; each keeps at
least 15 bits of the queries:

- a few queries walk over the rows, limited by reading them;
- more queries use the matrix units of a processor (AMX, several times as fast as float32), with
  each query as the sum of two bfloat16 numbers;
- or its products of 16-bit whole numbers (AVX512-VNNI, twice as fast as float32): rows become
  multiples of 2^−14 and queries multiples of about 2^−16 of their norm, sums are exact;
- without these units, rows become float32 in the processor's cache, block by block, for NumPy's
  product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import numpy as np

from trustvlm.softmax.native import NARROW, PAIRS, TILES, WIDE, library
from trustvlm.softmax.quantize import Segment, Uint16s
from trustvlm.types.arrays import Bools, Float32s

_FEW = {NARROW: 8, WIDE: 24, PAIRS: 6, TILES: 3}  # most queries for a walk over the rows
_WIDEN_ROWS = 512  # made float32 at a time: 1 MB at 512 dimensions, half of a second-level cache

_Fill = Callable[[int, int, Float32s], None]
"""Writes the products of queries and rows start … stop into an (n, stop − start) array."""


def whole_number_error(count: int, dim: int) -> float:
    """The largest error of the product of a unit query and a 16-bit row, of norm 1 at most, that
    comes of making both whole numbers: each number of them is off by half a unit at most. 0 where
    `count` queries are multiplied in another way."""
    native = library()
    multiplied_as_whole = native is not None and native.units == PAIRS and count > _FEW[PAIRS]
    return math.sqrt(dim) * (2.0**-15 + 2.0**-16) if multiplied_as_whole else 0.0


def blocks(
    segment: Segment, queries: Float32s, block_rows: int, alive: Bools | None = None
) -> Iterator[tuple[int, Float32s]]:
    """(first place in the segment, (n, b) products with queries (n, d)) of one block after the
    other, b ≤ `block_rows`, without what the centre adds.

    The next block overwrites the array; the caller may write to it. Blocks without a row that is
    `alive` are left out.
    """
    rows, fill = len(segment.rows), _fill(segment, queries)
    buffer = np.empty((len(queries), min(block_rows, rows)), np.float32)
    for start in range(0, rows, block_rows):
        stop = min(start + block_rows, rows)
        if alive is None or alive[start:stop].any():
            fill(start, stop, buffer[:, : stop - start])
            yield start, buffer[:, : stop - start]


def block_logits(
    segments: Sequence[Segment], queries: Float32s, block_rows: int
) -> Iterator[tuple[int, Float32s]]:
    """(first slot, (n, b) products of queries (n, d) and rows) of all blocks; the next block
    overwrites the array."""
    for segment in segments:
        offsets = segment.offsets(queries.astype(np.float64)).astype(np.float32)
        for start, logits in blocks(segment, queries, block_rows):
            logits += offsets[:, np.newaxis]
            yield segment.start + start, logits


def _fill(segment: Segment, queries: Float32s) -> _Fill:
    if segment.centre is None:
        exact = cast(Float32s, segment.rows)
        return lambda start, stop, out: _multiply(queries, exact[start:stop], out)
    rows, native = cast(Uint16s, segment.rows), library()
    if native is not None and len(queries) <= _FEW[native.units]:
        apart = native.apart(queries)
        return lambda start, stop, out: native.few(rows[start:stop], apart, out)
    if native is not None and native.units >= PAIRS:
        tiles = native.tiles(queries)
        return lambda start, stop, out: native.many(rows[start:stop], tiles, out)
    return _widen(rows, queries)


def _multiply(queries: Float32s, rows: Float32s, out: Float32s) -> None:
    np.matmul(queries, rows.T, out=out)


def _widen(rows: Uint16s, queries: Float32s) -> _Fill:
    wide = np.empty((min(_WIDEN_ROWS, len(rows)), rows.shape[1]), np.uint32)

    def fill(start: int, stop: int, out: Float32s) -> None:
        for first in range(start, stop, len(wide)):
            last = min(first + len(wide), stop)
            part = wide[: last - first]
            np.copyto(part, rows[first:last])
            np.left_shift(part, 16, out=part)
            _multiply(queries, part.view(np.float32), out[:, first - start : last - start])

    return fill
