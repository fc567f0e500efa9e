"""Passes over all rows of a space, whatever they are stored as, and the float32 rows of those that
matter."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from trustvlm.index.rows import RowView
from trustvlm.softmax.kernels import Kernels
from trustvlm.softmax.softmax import Partition, leading_rows, softmax_pass
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

__all__ = [
    "SHORT_ERROR",
    "SHORT_SLACK",
    "in_exact_order",
    "leaders_pass",
    "nearest_rows",
    "rows_pass",
    "similarities",
]

SHORT_ERROR = 1e-3
"""Largest error of a probability that passes over 16-bit rows leave (measured: 3e-4,
benchmarks/labels.py)."""

SHORT_SLACK = 2.0**-8
"""Two 16-bit similarities may be in the wrong order only if they are nearer than this: twice what
rounding row (norm of at most 0.6 behind the centre), query and output can add up to."""

_SPARE = 16  # leaders more than asked for, of 16-bit rows: the order among them is not quite right
_FEW, _FEW_IN_FILE = (
    16,
    64,
)  # a subset of less than this share of the rows is gathered instead of masked
# queries per gather of candidate rows: what is gathered stays in the cache, in memory used again
_GATHER_ROWS = 4


def rows_pass(
    table: RowView,
    queries: Float64s,
    scale: float,
    k: int,
    kernels: Kernels,
    keep: Bools | None = None,
) -> Partition:
    """softmax(scale · queries · rowsᵀ) over the live rows, or over those of the mask `keep`, all of
    them live.

    Returns:
        The partition, with at least min(k, n) leaders: more where their order is not sure.
    """
    short, asked = queries.astype(np.float32), _asked(table, keep)
    if isinstance(asked, _Few):
        found = softmax_pass(table.take(asked.slots), short, scale, min(k, table.n))
        return replace(found, slots=asked.of(found.slots))
    return softmax_pass(table.segments, short, scale, _width(table, k), keep=asked, kernels=kernels)


def leaders_pass(
    table: RowView,
    queries: Float64s,
    scale: float,
    k: int,
    kernels: Kernels,
    keep: Bools | None = None,
) -> tuple[Int64s, Float64s]:
    """The leaders of :func:`rows_pass`, in exact order: (n, m ≥ min(k, n)) slots, −1 where there
    are no more, and scale · similarity, NaN there."""
    short, asked = queries.astype(np.float32), _asked(table, keep)
    if isinstance(asked, _Few):
        slots = asked.of(leading_rows(table.take(asked.slots), short, scale, min(k, table.n))[0])
    else:
        slots, _ = leading_rows(
            table.segments, short, scale, _width(table, k), keep=asked, kernels=kernels
        )
    return _ordered(slots, scale * similarities(table, slots, queries))[:2]


@dataclass(frozen=True, eq=False)
class _Few:
    """So few rows that they are gathered instead of masked."""

    slots: Int64s

    def of(self, found: Int64s) -> Int64s:
        """Slots of the table, of places among the few."""
        return np.where(found >= 0, self.slots[np.maximum(found, 0)], -1)


def _asked(table: RowView, keep: Bools | None) -> Bools | _Few | None:
    """The rows that take part: a mask, None for all, or few of them."""
    if keep is None and table.live < table.n:
        keep = table.alive
    if keep is not None and keep is not table.alive:
        wanted: Int64s = np.flatnonzero(keep)
        if len(wanted) * (_FEW if table.base is None else _FEW_IN_FILE) <= table.n:
            return _Few(wanted)
    return keep


def _width(table: RowView, k: int) -> int:
    """How many leaders a pass is to find."""
    return min(k if table.base is None else k + _SPARE, table.n)


def similarities(table: RowView, slots: Int64s, queries: Float64s) -> Float64s:
    """(n, m) inner products in float64 of each query with its own candidate rows; NaN where the
    slot is −1.

    Each is summed alone, so that equal rows give equal bits: ties are ties.
    """
    found = np.full(slots.shape, np.nan)
    if not slots.size:
        return found
    wide = np.empty((min(_GATHER_ROWS, len(slots)), slots.shape[1], queries.shape[1]))
    there = np.maximum(slots, 0)
    for start in range(0, len(slots), _GATHER_ROWS):
        part = slice(start, start + _GATHER_ROWS)
        gathered = wide[: len(there[part])]
        gathered[...] = table.take(there[part].ravel()).reshape(gathered.shape)
        # Of one row and one column NumPy makes a dot product each, which is what keeps ties.
        asked = queries[part, np.newaxis, :, np.newaxis]
        np.matmul(gathered[:, :, np.newaxis], asked, out=found[part, :, np.newaxis, np.newaxis])
    found[slots < 0] = np.nan
    return found


def in_exact_order(
    table: RowView, found: Partition, queries: Float64s, scale: float
) -> tuple[Partition, Float64s]:
    """The pass with its leaders in the order of their exact logits, and these (n, k); NaN where
    there are no more rows."""
    exact = scale * similarities(table, found.slots, queries)
    if table.base is None:
        return found, exact
    slots, exact, order = _ordered(found.slots, exact)
    return replace(
        found, slots=slots, logits=np.take_along_axis(found.logits, order, axis=1)
    ), exact


def _ordered(slots: Int64s, exact: Float64s) -> tuple[Int64s, Float64s, Int64s]:
    """(slots, exact numbers, order): best first, what is NaN at the end."""
    order: Int64s = np.argsort(-exact, axis=1, kind="stable")
    return np.take_along_axis(slots, order, axis=1), np.take_along_axis(exact, order, axis=1), order


def nearest_rows(
    table: RowView, queries: Float64s, k: int, kernels: Kernels
) -> tuple[Int64s, Float32s]:
    """(n, k) ids and similarities of the nearest live rows, best first, ties by smaller id, padded
    with −1 and −inf."""
    width = min(k, table.n)
    ids = np.full((len(queries), k), -1, dtype=np.int64)
    similarity = np.full((len(queries), k), -np.inf, dtype=np.float32)
    if not width:
        return ids, similarity
    slots, exact = leaders_pass(table, queries, 1.0, width, kernels)
    near = np.where(slots >= 0, exact, -np.inf).astype(np.float32)
    owners = np.where(slots >= 0, table.ids[np.maximum(slots, 0)], -1)
    order = np.lexsort((owners, -near), axis=-1)[:, :width]
    ids[:, :width], similarity[:, :width] = (
        np.take_along_axis(owners, order, axis=1),
        np.take_along_axis(near, order, axis=1),
    )
    return ids, similarity
