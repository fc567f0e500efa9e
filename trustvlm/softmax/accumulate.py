"""What a pass keeps of the rows that it has seen: the sums of a softmax, and the k leaders.

Logits are in bits (base 2). Sums are relative to the largest logit, so that nothing overflows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.softmax.exp2 import Arithmetic, powers_of_two
from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["Running", "State", "best_first", "joined", "no_rows"]


@dataclass(frozen=True, eq=False)
class State:
    """What a pass over some of the rows gives, per query, of their logits l in bits.

    Attributes:
        maximum: (n,) m, −∞ where no row took part. total, weighted, squared: (n,) Σ2^(l−m),
            Σ2^(l−m)·(l−m), Σ4^(l−m).
        slots, logits: (n, k) the rows of the largest l and these, best first; −1 and −∞ where there
            are no more rows.
    """

    maximum: Float64s
    total: Float64s
    weighted: Float64s
    squared: Float64s
    slots: Int64s
    logits: Float64s


def no_rows(count: int) -> State:
    """The state of a pass over no rows."""
    zeros, empty = np.zeros(count), np.empty((count, 0))
    return State(np.full(count, -np.inf), zeros, zeros, zeros, empty.astype(np.int64), empty)


def joined(one: State, other: State, k: int) -> State:
    """The state of a pass over the rows of both, which share none, with up to k leaders."""
    maximum = np.maximum(one.maximum, other.maximum)
    total, weighted, squared = (np.zeros(len(maximum)) for _ in range(3))
    for side in (one, other):
        shift = _shift(side.maximum, maximum)
        shrink = np.exp2(shift)
        total += shrink * side.total
        weighted += shrink * (side.weighted + shift * side.total)
        squared += shrink**2 * side.squared
    slots = np.concatenate([one.slots, other.slots], axis=1)
    logits = np.concatenate([one.logits, other.logits], axis=1)
    if (one.slots.shape[1] and other.slots.shape[1]) or slots.shape[1] > k:
        slots, logits = best_first(slots, logits)
    return State(maximum, total, weighted, squared, slots[:, :k], logits[:, :k])


def best_first(slots: Int64s, logits: Float64s) -> tuple[Int64s, Float64s]:
    """Both (n, k) in descending order of the logits."""
    order = np.argsort(-logits, axis=1, kind="stable")
    return np.take_along_axis(slots, order, axis=1), np.take_along_axis(logits, order, axis=1)


def _shift(before: Float64s, after: Float64s) -> Float64s:
    """before − after, and 0 where no row took part."""
    with np.errstate(invalid="ignore"):  # −∞ − −∞
        return np.where(np.isneginf(before), 0.0, before - after)


class Running:
    """A pass in progress over n queries, with k leaders; without `sums`, for the leaders alone."""

    def __init__(self, count: int, k: int, arithmetic: Arithmetic, *, sums: bool = True) -> None:
        self._arithmetic, self._sums = arithmetic, sums
        self._maximum = np.full(count, -np.inf, dtype=np.float64)
        self._total, self._weighted, self._squared = (np.zeros(count) for _ in range(3))
        self._leaders = _Leaders(count, k)
        self._relative = self._powers = np.empty((0, 0), np.float32)
        self._sampled = np.zeros((2, count))
        self._floor: Float64s | None = None  # of the leaders when the sample began

    def add(self, logits: Float32s, start: int, offset: Float64s) -> None:
        """Take in the rows start … with these logits, `offset` to be added; overwrites them."""
        best = self._arithmetic.largest(logits) + offset
        self._leaders.add(logits, best, start, offset)
        if not self._sums:
            return
        maximum = np.maximum(self._maximum, best)
        shift = _shift(self._maximum, maximum)
        shrink = np.exp2(shift)
        # Σ2^(l−m')(l−m') = 2^(m−m') · (Σ2^(l−m)(l−m) + (m−m')·Σ2^(l−m))
        self._weighted = shrink * (self._weighted + shift * self._total)
        self._total = shrink * self._total
        self._squared = shrink**2 * self._squared
        self._sampled *= shrink
        self._maximum = maximum
        if self._powers.shape != logits.shape:  # fresh memory costs as much as the arithmetic
            self._powers = np.empty_like(logits)
        self._relative, powers = logits, self._powers
        top = (maximum - offset)[:, np.newaxis].astype(np.float32)
        self._arithmetic.exponentials(logits, top, powers)
        self._total += self._arithmetic.totals(powers)
        self._weighted += np.einsum("nb,nb->n", powers, logits)
        self._squared += np.einsum("nb,nb->n", powers, powers)

    def add_errors(self, errors: Float32s) -> None:
        """Take in by how much the logits of the block added last are too small: (n, b),
        overwritten. Rows that lead when the first such block comes do not count."""
        if self._floor is None:
            self._floor = self._leaders.floor()
        powers = self._powers
        powers *= self._relative < (self._floor - self._maximum)[:, np.newaxis].astype(np.float32)
        powers_of_two(errors, errors)
        self._sampled += self._arithmetic.totals(powers), np.einsum("nb,nb->n", powers, errors)

    def factor(self) -> Float64s:
        """(n,) the factor that corrects Σ2^l over the rows behind the leaders, estimated from the
        blocks of :meth:`add_errors`; 1 without any."""
        before, after = self._sampled
        return np.divide(after, before, out=np.ones(len(before)), where=before > 0)

    def state(self) -> State:
        """The state after the last row."""
        slots, logits = self._leaders.finish()
        return State(self._maximum, self._total, self._weighted, self._squared, slots, logits)


class _Leaders:
    """The k largest logits so far of each query.

    Logits above the k-th are collected, and sorted out only when there are a few times k of them:
    most blocks of a long pass cost one comparison.
    """

    def __init__(self, count: int, k: int) -> None:
        self._k = k
        self._slots = np.full((count, k), -1, dtype=np.int64)
        self._logits = np.full((count, k), -np.inf, dtype=np.float32)
        self._floor = np.full(count, -np.inf, dtype=np.float32)
        self._waiting: list[tuple[Int64s, Int64s, Float32s]] = []  # (query, slot, logit) above it
        self._waiting_count = 0

    def floor(self) -> Float64s:
        """(n,) what a row must exceed to lead now; −∞ before there are k of them."""
        self._merge()
        return self._floor.astype(np.float64)

    def add(self, logits: Float32s, best: Float64s, start: int, offset: Float64s) -> None:
        """Take in the (n, b) logits of the rows start …, the largest of each query being `best`."""
        rows = np.flatnonzero(best > self._floor)
        if not self._k or not len(rows):
            return
        added = offset.astype(np.float32)
        if 2 * len(rows) < len(logits):  # few queries have a new leader here
            query, column = np.nonzero(logits[rows] > (self._floor - added)[rows, np.newaxis])
            self._collect(rows[query], column, logits, start, added)
            return
        positions = np.flatnonzero(logits > (self._floor - added)[:, np.newaxis])
        if len(positions) <= 2 * self._logits.size:
            query, column = np.divmod(positions, logits.shape[1])
            self._collect(query, column, logits, start, added)
            return
        self._merge()
        width = min(self._k, logits.shape[1])
        columns = np.argpartition(logits, -width, axis=1)[:, -width:]
        largest = np.take_along_axis(logits, columns, axis=1) + added[:, np.newaxis]
        self._keep(columns + start, largest)

    def _collect(
        self, query: Int64s, column: Int64s, logits: Float32s, start: int, added: Float32s
    ) -> None:
        self._waiting.append((query, column + start, logits[query, column] + added[query]))
        self._waiting_count += len(query)
        if self._waiting_count > 2 * self._logits.size:
            self._merge()

    def _merge(self) -> None:
        """Sort what waits into the leaders."""
        if not self._waiting:
            return
        query, slot, logit = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._waiting_count = [], 0
        short = len(self._floor) <= np.iinfo(np.uint16).max  # 16 bits are sorted by counting
        order = np.argsort(query.astype(np.uint16) if short else query, kind="stable")
        counts = np.bincount(query, minlength=len(self._floor))
        ranks = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = np.full((len(counts), counts.max()), -1, dtype=np.int64)
        logits = np.full(slots.shape, -np.inf, dtype=np.float32)
        slots[query[order], ranks], logits[query[order], ranks] = slot[order], logit[order]
        self._keep(slots, logits)

    def _keep(self, slots: Int64s, logits: Float32s) -> None:
        """Keep the k largest of the leaders and these."""
        slots = np.concatenate([self._slots, slots], axis=1)
        logits = np.concatenate([self._logits, logits], axis=1)
        columns = np.argpartition(logits, -self._k, axis=1)[:, -self._k :]
        self._slots = np.take_along_axis(slots, columns, axis=1)
        self._logits = np.take_along_axis(logits, columns, axis=1)
        self._floor = self._logits.min(axis=1)

    def finish(self) -> tuple[Int64s, Float64s]:
        """(n, k) slots and logits, best first; −1 and −∞ where there are no more rows."""
        self._merge()
        slots, logits = best_first(self._slots, self._logits.astype(np.float64))
        return np.where(np.isneginf(logits), -1, slots), logits
