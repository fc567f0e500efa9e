"""The blocked exact softmax over N rows: one pass, bounded memory.

The pass keeps, per query, the running maximum, the sum of exponentials and the k largest logits, so that N may be
millions while memory stays at one block. Everything a text rule can ask for follows from what it returns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.types import Bools, Float32s, Float64s, Int64s

__all__ = ["BLOCK_ROWS", "Moments", "Partition", "refined", "softmax_pass"]

BLOCK_ROWS = 4096
"""Rows per block: a block of 512-d float32 rows is 8 MB, and its logits for 256 queries 4 MB."""

# e^-80 is still a normal float32: below it, exp falls into denormals and is 6 × slower. A million clamped (or masked)
# rows add 1e-29 to a sum that is at least 1.
_FLOOR = np.float32(-80.0)


@dataclass(frozen=True)
class Partition:
    """The softmax of n queries over the kept rows, without its N probabilities.

    Attributes:
        log_z: (n,) log of the sum of e^logit; −inf when no row was kept.
        sum_p2: (n,) Σ p².
        sum_p_log_p: (n,) Σ p·log p (minus the entropy, in nats).
        slots: (n, k) rows of the largest logits, best first, padded with −1.
        logits: (n, k) their logits, padded with −inf.
    """

    log_z: Float64s
    sum_p2: Float64s
    sum_p_log_p: Float64s
    slots: Int64s
    logits: Float32s


@dataclass(frozen=True, eq=False)
class Moments:
    """The softmax of n queries over all labels, as far as rules ask for it.

    Attributes:
        log_z: (n,) log of the sum of e^logit.
        negative_entropy: (n,) Σ p·log p.
        impurity: (n,) Gini impurity 1 − Σp² = Σ p·(1 − p), without cancellation where one label has almost everything.
    """

    log_z: Float64s
    negative_entropy: Float64s
    impurity: Float64s


def softmax_pass(
    rows: Float32s, queries: Float32s, scale: float, k: int, *, keep: Bools | None = None, block_rows: int = BLOCK_ROWS
) -> Partition:
    """softmax(scale · queries · rowsᵀ) over the rows where `keep` is true (all, when None).

    Args:
        rows: (N, d) unit vectors; queries: (n, d) unit vectors; scale: the logit scale s; k: how many leaders to return.
        keep: (N,) mask of rows that take part.
        block_rows: rows per block; the result does not depend on it beyond float32 rounding.

    Time O(n·N·d), memory O(n·block_rows). Ties among leaders are in no particular order: callers break them.
    """
    count = len(queries)
    running = _Running(count, k)
    scaled = (queries * np.float32(scale)).astype(np.float32, copy=False)
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows]
        logits: Float32s = scaled @ block.T
        if keep is not None:
            alive = keep[start : start + block_rows]
            if not alive.any():
                continue
            if not alive.all():
                logits[:, ~alive] = -np.inf
        running.update(logits, start)
    return running.finish()


class _Running:
    """The state of the pass: per query a maximum m, Σe^(l−m), Σe^(l−m)(l−m), Σe^(2(l−m)), and the leaders."""

    def __init__(self, count: int, k: int) -> None:
        self.maximum = np.full(count, -np.inf, dtype=np.float64)
        self.total = np.zeros(count)
        self.weighted = np.zeros(count)
        self.squared = np.zeros(count)
        self.slots = np.full((count, k), -1, dtype=np.int64)
        self.leaders = np.full((count, k), -np.inf, dtype=np.float32)

    def update(self, logits: Float32s, start: int) -> None:
        best = logits.max(axis=1)
        self._leaders(logits, best, start)
        maximum = np.maximum(self.maximum, best)
        moved = np.where(np.isneginf(self.maximum), 0.0, self.maximum - maximum)
        shrink = np.exp(moved)
        # Σe^(l−m')(l−m') = e^(m−m') · (Σe^(l−m)(l−m) + (m−m')·Σe^(l−m))
        self.weighted = shrink * (self.weighted + moved * self.total)
        self.total = shrink * self.total
        self.squared = shrink**2 * self.squared
        self.maximum = maximum
        shifted = np.maximum(logits - maximum[:, np.newaxis].astype(np.float32), _FLOOR)
        powers = np.exp(shifted)
        # The total in float64: what is outside of the leaders is a small difference. The others of one block in float32.
        self.total += powers.sum(axis=1, dtype=np.float64)
        self.weighted += np.einsum("nb,nb->n", powers, shifted)
        self.squared += np.einsum("nb,nb->n", powers, powers)

    def _leaders(self, logits: Float32s, best: Float32s, start: int) -> None:
        """Merge the block's k largest into the leaders of those queries whose k-th leader it beats."""
        k = self.leaders.shape[1]
        if not k:
            return
        rows = np.flatnonzero(best > self.leaders[:, -1])
        if not len(rows):
            return
        columns, values = _above(logits[rows], self.leaders[rows, -1], k)
        values = np.concatenate([self.leaders[rows], values], axis=1)
        slots = np.concatenate([self.slots[rows], columns + start], axis=1)
        order = np.argsort(-values, axis=1, kind="stable")[:, :k]
        self.leaders[rows] = np.take_along_axis(values, order, axis=1)
        self.slots[rows] = np.take_along_axis(slots, order, axis=1)

    def finish(self) -> Partition:
        self.slots[np.isneginf(self.leaders)] = -1
        with np.errstate(divide="ignore", invalid="ignore"):
            log_total = np.log(self.total)
            sum_p2 = self.squared / self.total**2
            # log p = (l − m) − log Σe^(l−m)
            sum_p_log_p = self.weighted / self.total - log_total
        return Partition(self.maximum + log_total, sum_p2, sum_p_log_p, self.slots, self.leaders)


def _above(block: Float32s, threshold: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """(n, w) columns and values of what may be among the k largest: all above the threshold, or the block's k largest.

    A partition of the whole block costs ten times a comparison, and after the first blocks few values pass it.
    """
    passed = block > threshold[:, np.newaxis]
    counts = np.count_nonzero(passed, axis=1)
    if counts.max() > k:
        width = min(k, block.shape[1])
        columns = np.argpartition(block, -width, axis=1)[:, -width:]
        return columns, np.take_along_axis(block, columns, axis=1)
    rows, found = np.nonzero(passed)
    ranks = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    columns = np.zeros((len(block), counts.max()), dtype=np.int64)
    values = np.full(columns.shape, -np.inf, dtype=np.float32)
    columns[rows, ranks] = found
    values[rows, ranks] = block[rows, found]
    return columns, values


def refined(partition: Partition, leading: Float64s, asked: int) -> tuple[Moments, Float64s, Float64s]:
    """(moments, outside, rest): the pass with its leaders' logits replaced by exact ones.

    The float32 sums of the pass stay for the rows outside of its leaders; the leaders' share is exact, which is all of it
    when every row is a leader.

    Args:
        leading: (n, k) the leaders' exact logits (anything where the pass has no leader). asked: how many rows took part.

    Returns:
        The moments; `outside` (n,): bound of p of any row that is not a leader; `rest` (n,): their probability together.
    """
    there = partition.slots >= 0
    everything = partition.slots.shape[1] >= asked
    exact = np.where(there, leading, -np.inf)
    top = exact.max(axis=1, initial=-np.inf)[:, np.newaxis]
    with np.errstate(invalid="ignore"):
        powers = np.where(there, np.exp(exact - top), 0.0)
        # As the pass rounds: what it summed of the leaders, and nothing else, is taken out of its sum again.
        summit = partition.logits.max(axis=1, initial=-np.inf)
        summed = np.exp(np.maximum(partition.logits - summit[:, np.newaxis], _FLOOR)).astype(np.float64)
        known = np.where(there, summed * np.exp(summit - partition.log_z)[:, np.newaxis], 0.0)
    first = np.arange(powers.shape[1]) == exact.argmax(axis=1)[:, np.newaxis]
    # In units of the leading row's power; what is outside is no larger than its number times the last leader.
    last = powers.min(axis=1, initial=np.inf, where=there)
    bound = np.zeros(len(powers)) if everything else (asked - there.sum(axis=1)) * last
    outside = np.minimum(np.clip(1.0 - known.sum(axis=1), 0.0, 1.0) * np.exp(partition.log_z - top[:, 0]), bound)
    others = np.where(first, 0.0, powers).sum(axis=1) + outside
    total = 1.0 + others
    p = powers / total[:, np.newaxis]
    log_z = top[:, 0] + np.log1p(others)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = np.where(first, -np.log1p(others)[:, np.newaxis], exact - log_z[:, np.newaxis])
        leaders_entropy = np.where(p > 0, p * log_p, 0.0).sum(axis=1)
        known_entropy = np.where(known > 0, known * np.log(known), 0.0).sum(axis=1)
    complement = np.where(first, (others / total)[:, np.newaxis], 1.0 - p)
    rest = outside / total
    if everything:
        rest_entropy, rest_squares = np.zeros(len(p)), np.zeros(len(p))
    else:
        rest_entropy = np.minimum(partition.sum_p_log_p - known_entropy, 0.0)
        rest_squares = np.clip(partition.sum_p2 - (known**2).sum(axis=1), 0.0, rest * last / total)
    moments = Moments(log_z, leaders_entropy + rest_entropy, (p * complement).sum(axis=1) + rest - rest_squares)
    return moments, np.zeros(len(p)) if everything else last / total, rest
