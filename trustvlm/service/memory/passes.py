"""The one way to look at all rows of a space: dense where queries × rows fit a block, streamed
beyond, gathered where few rows take part."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache

import numpy as np

from trustvlm.index.rows import RowView
from trustvlm.softmax.dense import DENSE_LOGITS, dense_rows, leaders_of_block
from trustvlm.softmax.leading import ExactRows, LeadingRows
from trustvlm.softmax.native import TOGETHER
from trustvlm.types.arrays import Bools, Float32s, Floats, Int64s

ROUNDED_ERROR = 1e-3
"""Largest error of a probability that passes over 16-bit rows leave (measured: 3e-4,
benchmarks/labels.py)."""

_ROUNDING = 1e-6  # of a similarity in float32
_SPARE = 8  # leaders behind the k-th: equals of it, of which those with the smaller ids count
_FEW, _FEW_IN_FILE = 16, 64  # less than this share of the rows is gathered instead of masked


def leading_rows(
    table: RowView,
    queries: Floats,
    scale: float,
    k: int,
    device: str | None,
    keep: Bools | None = None,
    *,
    sums: bool = True,
) -> LeadingRows:
    """The rows of largest scale · query · row among the live ones, or those of the mask `keep`, all
    of them live: at least min(k, n), and with `sums` the softmax over all of them."""
    if keep is None and table.live < table.n:
        keep = table.alive
    gathered = _gathered(table, keep)
    if gathered is not None:
        few = _float32_rows(table.take(gathered), queries, scale, k, None, sums)
        slots = np.where(few.slots >= 0, gathered[np.maximum(few.slots, 0)], -1)
        return replace(few, slots=slots)
    if table.base is None:
        return _float32_rows(table.rows, queries, scale, k, keep, sums)
    from trustvlm.softmax.streamed import streamed_rows

    return streamed_rows(
        table.segments, table.exact, queries, scale, k, keep=keep, device=device, sums=sums
    )


def _gathered(table: RowView, keep: Bools | None) -> Int64s | None:
    """The slots of the rows that take part, where these are few."""
    if keep is None or keep is table.alive:
        return None
    slots = np.flatnonzero(keep)
    few = len(slots) * (_FEW if table.base is None else _FEW_IN_FILE) <= table.n
    return slots if few else None


def _float32_rows(
    rows: Float32s, queries: Floats, scale: float, k: int, keep: Bools | None, sums: bool
) -> LeadingRows:
    if len(rows) * len(queries) <= DENSE_LOGITS:
        return dense_rows(rows, queries, scale, k, keep=keep, sums=sums)
    from trustvlm.softmax.quantize import Segment
    from trustvlm.softmax.streamed import streamed_rows

    segments = [Segment(0, rows)]
    return streamed_rows(
        segments, ExactRows.in_memory(rows), queries, scale, k, keep=keep, sums=sums
    )


def nearest_rows(
    table: RowView, queries: Floats, k: int, device: str | None, keep: Bools | None = None
) -> tuple[Int64s, Float32s]:
    """(n, k) ids and similarities of the nearest rows that are live, or of the mask `keep`, best
    first, ties by smaller id, padded with −1 and −inf."""
    if keep is None and table.live < table.n:
        keep = table.alive
    if not len(queries) or not _fits_block(table, len(queries), k, keep):
        return _exactly_nearest(table, queries, k, device, keep)
    similarity = queries.astype(np.float32, copy=False) @ table.rows.T
    if keep is not None:
        similarity[:, ~keep] = -np.inf
    slots, values = leaders_of_block(similarity, k + 1)
    next_best = values[:, 1:]
    close = (next_best > -np.inf) & (values[:, :-1] <= next_best + _ROUNDING)
    ids, nearest = _padded(table, slots, values, k)
    unsure = np.flatnonzero(close.any(axis=1))
    if len(unsure):
        exact = _exactly_nearest(table, queries[unsure], k, device, keep)
        ids[unsure], nearest[unsure] = exact
    return ids, nearest


def _fits_block(table: RowView, queries: int, k: int, keep: Bools | None) -> bool:
    """Whether one product of float32 numbers in memory finds the k nearest rows, and the next."""
    few = k < TOGETHER and table.n * queries <= DENSE_LOGITS
    return few and table.base is None and bool(table.live) and _gathered(table, keep) is None


def _exactly_nearest(
    table: RowView, queries: Floats, k: int, device: str | None, keep: Bools | None
) -> tuple[Int64s, Float32s]:
    """As :func:`nearest_rows`, from float64 products, in which equal rows are equal."""
    if not table.live or (keep is not None and not keep.any()):
        none = np.empty((len(queries), 0), np.int64)
        return _padded(table, none, none.astype(np.float32), k)
    leading = leading_rows(table, queries, 1.0, k + _SPARE, device, keep, sums=False)
    values = leading.logits.astype(np.float32)
    owners = np.where(leading.slots >= 0, table.ids[np.maximum(leading.slots, 0)], -1)
    order = np.lexsort((owners, -values), axis=-1)
    slots = np.take_along_axis(leading.slots, order, axis=1)
    return _padded(table, slots, np.take_along_axis(values, order, axis=1), k)


def _padded(table: RowView, slots: Int64s, values: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """(n, k) ids and similarities of the first k columns."""
    slots, values = slots[:, :k], values[:, :k]
    ids = np.full((len(slots), k), -1, dtype=np.int64)
    similarity = np.full(ids.shape, -np.inf, dtype=np.float32)
    ids[:, : slots.shape[1]] = np.where(slots < 0, -1, table.ids[slots])
    similarity[:, : slots.shape[1]] = values
    return ids, similarity


log = logging.getLogger("trustvlm")


@cache
def pass_device(device: str) -> str | None:
    """Torch's name of the GPU where passes run, if `device` names one that torch sees; None: the
    processor."""
    if device == "cpu":
        return None
    import torch

    number = int(device.partition(":")[2] or 0)
    if number < torch.cuda.device_count():
        return f"cuda:{number}"
    message = "device %r: torch sees %d GPUs: passes over labels run on the CPU"
    log.warning(message, device, torch.cuda.device_count())
    return None
