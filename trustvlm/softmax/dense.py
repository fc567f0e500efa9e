"""The softmax over few rows at once: all logits in one block of memory."""

from __future__ import annotations

import numpy as np

from trustvlm.softmax.leading import LeadingRows, RestSums, similarities, with_moments
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

__all__ = ["DENSE_LOGITS", "dense_rows"]

DENSE_LOGITS = 2**20
"""Most logits of a block: 4 MB of float32."""

_LOWEST = np.float32(-80.0)  # e^−80 is a normal float32; a million rows of it add 1e−29


def dense_rows(
    rows: Float32s,
    queries: Float64s,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    sums: bool = True,
) -> LeadingRows:
    """The min(k, N) rows of largest scale · query · row, exactly, and with `sums` the softmax over
    all rows where `keep` is true (None: all).

    Args:
        rows: (N, d) float32 unit vectors. queries: (n, d) float64 unit vectors.
    """
    count = len(rows) if keep is None else int(np.count_nonzero(keep))
    logits = (queries * scale).astype(np.float32) @ rows.T
    if keep is not None and count < len(rows):
        logits[:, ~keep] = -np.inf
    slots, leading = _leaders(rows, queries, scale, min(k, len(rows)), logits)
    complete, none = slots.shape[1] >= count, np.zeros(len(logits))
    if not sums:
        return LeadingRows(slots, leading, complete, 0.0, None, none, none)
    if complete:
        return with_moments(slots, leading, count, 0.0, RestSums(none, none, none))
    np.put_along_axis(logits, slots, -np.inf, axis=1)
    logits -= leading[:, :1].astype(np.float32)
    np.maximum(logits, _LOWEST, out=logits)
    powers = np.exp(logits)
    rest = RestSums(
        powers.sum(axis=1, dtype=np.float64),
        np.einsum("nb,nb->n", powers, logits).astype(np.float64),
        np.einsum("nb,nb->n", powers, powers).astype(np.float64),
    )
    return with_moments(slots, leading, count, 0.0, rest)


def _leaders(
    rows: Float32s, queries: Float64s, scale: float, width: int, logits: Float32s
) -> tuple[Int64s, Float64s]:
    """(n, width) slots and exact logits of the largest (n, N) logits, best first; −1 and −∞ where
    these are −∞."""
    slots = np.broadcast_to(np.arange(width), (len(logits), width))
    if width < len(rows):
        slots = np.argpartition(logits, -width, axis=1)[:, -width:]
    exact = scale * similarities(rows.__getitem__, slots, queries)
    exact[np.isneginf(np.take_along_axis(logits, slots, axis=1))] = -np.inf
    order = np.argsort(-exact, axis=1, kind="stable")
    leading = np.take_along_axis(exact, order, axis=1)
    ordered = np.take_along_axis(slots, order, axis=1)
    return np.where(np.isneginf(leading), -1, ordered), leading
