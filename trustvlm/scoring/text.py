"""The blocked exact softmax over N rows: one pass, bounded memory.

The pass keeps, per query, the running maximum, the sum of exponentials and the k largest logits, so that N may be
millions while memory stays at one block. Everything a text rule can ask for follows from what it returns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.arithmetic import FLOOR, Arithmetic, arithmetic_of
from trustvlm.scoring.device import State, device_state
from trustvlm.scoring.kernels import DEVICE, EXACT, Kernels, blocks, prepare
from trustvlm.scoring.rounding import Segment, drift
from trustvlm.types import Bools, Float32s, Float64s, Int64s

__all__ = ["BLOCK_LOGITS", "Moments", "Partition", "refined", "softmax_pass"]

BLOCK_LOGITS = 2**17
"""Logits per block: 512 KB of float32, and as much again for their exponentials."""


@dataclass(frozen=True)
class Partition:
    """The softmax of n queries over the kept rows, without its N probabilities.

    Attributes:
        log_z: (n,) log of the sum of e^logit; −inf when no row was kept.
        sum_p2: (n,) Σ p².
        sum_p_log_p: (n,) Σ p·log p (minus the entropy, in nats).
        slots: (n, k) rows of the largest logits, best first, padded with −1.
        logits: (n, k) their logits, padded with −inf; approximate where the rows are 16-bit.
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
    rows: Float32s | Sequence[Segment],
    queries: Float32s,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    block_rows: int | None = None,
    kernels: Kernels = EXACT,
) -> Partition:
    """softmax(scale · queries · rowsᵀ) over the rows where `keep` is true (all, when None).

    Args:
        rows: (N, d) float32 unit vectors, or their segments, some of which may be 16-bit.
        queries: (n, d) unit vectors; scale: the logit scale s; k: how many leaders to return.
        keep: (N,) mask of rows that take part.
        block_rows: rows per block; the result does not depend on it beyond float32 rounding.
        kernels: which kernel serves 16-bit segments.

    Time O(n·N·d), memory O(n·block_rows). Ties among leaders are in no particular order: callers break them.
    """
    segments = rows if not isinstance(rows, np.ndarray) else [Segment(0, rows)]
    prepared = prepare(segments, queries, scale, kernels)
    rounded = [part for part in prepared if part.rounded]
    followed = max(k, _FOLLOWED, sum(len(part.segment.rows) for part in rounded) // _ONE_IN) if rounded else k
    running = _Running(len(queries), followed, arithmetic_of(prepared))
    here = [part for part in prepared if part.segment.centre is None or part.kernel != DEVICE]
    if kernels.device is not None:
        for part in prepared:
            if part not in here:
                running.absorb(device_state(part, kernels.device, k, keep))
    for start, logits, offset in blocks(here, block_rows or _block_rows(len(queries))):
        if keep is not None:
            alive = keep[start : start + logits.shape[1]]
            if not alive.any():
                continue
            if not alive.all():
                logits[:, ~alive] = -np.inf
        running.update(logits, start, offset)
    slots, found = running.leaders.finish()
    if not rounded:
        return running.partition(slots, found)
    moved = [drift(part.segment, part.scaled, part.slope, part.offset, slots, found) for part in rounded]
    return running.moved(slots, found, np.sum(moved, axis=0), k)


def _block_rows(queries: int) -> int:
    """Rows per block: what is looked at again and again stays in the second-level cache of one core."""
    return int(np.clip(BLOCK_LOGITS // max(queries, 1), 512, 65_536))


_FOLLOWED, _ONE_IN = 256, 256
"""So many leaders, or one in so many rows, are followed where a kernel rounds the queries: how far they moved tells how far the
others did."""


class _Running:
    """The state of the pass: per query a maximum m, Σe^(l−m), Σe^(l−m)(l−m), Σe^(2(l−m)), and the leaders."""

    def __init__(self, count: int, k: int, arithmetic: Arithmetic) -> None:
        self._arithmetic = arithmetic
        self.maximum = np.full(count, -np.inf, dtype=np.float64)
        self.total = np.zeros(count)
        self.weighted = np.zeros(count)
        self.squared = np.zeros(count)
        self.leaders = _Leaders(count, k)
        self._work = np.empty((0, 0), np.float32)

    def absorb(self, state: State) -> None:
        """Take in what a pass over other rows found."""
        self.leaders.take(state.slots, state.logits)
        maximum = np.maximum(self.maximum, state.maximum)
        own = State(self.maximum, self.total, self.weighted, self.squared, state.slots, state.logits)
        self.total, self.weighted, self.squared = (np.zeros(len(maximum)) for _ in range(3))
        for side in (own, state):
            with np.errstate(invalid="ignore"):  # −inf − −inf, where no row took part
                moved = np.where(np.isneginf(side.maximum), 0.0, side.maximum - maximum)
            shrink = np.exp(moved)
            self.total += shrink * side.total
            self.weighted += shrink * (side.weighted + moved * side.total)
            self.squared += shrink**2 * side.squared
        self.maximum = maximum

    def update(self, logits: Float32s, start: int, offset: Float64s) -> None:
        """Take in the rows start … with these logits, `offset` to be added; they are written over."""
        best = self._arithmetic.largest(logits) + offset
        self.leaders.offer(logits, best, start, offset)
        maximum = np.maximum(self.maximum, best)
        moved = np.where(np.isneginf(self.maximum), 0.0, self.maximum - maximum)
        shrink = np.exp(moved)
        # Σe^(l−m')(l−m') = e^(m−m') · (Σe^(l−m)(l−m) + (m−m')·Σe^(l−m))
        self.weighted = shrink * (self.weighted + moved * self.total)
        self.total = shrink * self.total
        self.squared = shrink**2 * self.squared
        self.maximum = maximum
        shifted, powers = logits, self._like(logits)
        self._arithmetic.exponentials(shifted, (maximum - offset)[:, np.newaxis].astype(np.float32), powers)
        self.total += self._arithmetic.totals(powers)
        self.weighted += np.einsum("nb,nb->n", powers, shifted)
        self.squared += np.einsum("nb,nb->n", powers, powers)

    def _like(self, logits: Float32s) -> Float32s:
        """An array to work in, the same for every block of a shape: fresh memory would cost as much as the arithmetic."""
        if self._work.shape != logits.shape:
            self._work = np.empty_like(logits)
        return self._work

    def moved(self, slots: Int64s, logits: Float32s, moved: Float64s, k: int) -> Partition:
        """The partition when the leaders' logits move by `moved` (n, m ≥ k), and the rows behind them by half of the mean of
        the lower three quarters: what the leaders moved by is the less true of other rows, the further these are behind."""
        there, relative = slots >= 0, logits - self.maximum[:, np.newaxis]
        lower = there & (4 * np.arange(slots.shape[1]) >= there.sum(axis=1)[:, np.newaxis])
        others = 0.5 * np.where(lower, moved, 0.0).sum(axis=1) / np.maximum(lower.sum(axis=1), 1)
        with np.errstate(invalid="ignore"):
            before, after = np.exp(np.maximum(relative, FLOOR)), np.exp(relative + moved)
            before, after = np.where(there, before, 0.0), np.where(there, after, 0.0)
            terms = np.where(there, before * relative, 0.0), np.where(there, after * (relative + moved), 0.0)
        factor = np.exp(others)
        outside = np.maximum(self.total - before.sum(axis=1), 0.0) * factor
        self.weighted = terms[1].sum(axis=1) + (self.weighted - terms[0].sum(axis=1)) * factor + outside * others
        self.squared = (after**2).sum(axis=1) + np.maximum(self.squared - (before**2).sum(axis=1), 0.0) * factor**2
        self.total = after.sum(axis=1) + outside
        corrected = np.where(there, logits + moved, -np.inf).astype(np.float32)
        order = np.argsort(-corrected, axis=1, kind="stable")[:, :k]
        return self.partition(np.take_along_axis(slots, order, axis=1), np.take_along_axis(corrected, order, axis=1))

    def partition(self, slots: Int64s, logits: Float32s) -> Partition:
        with np.errstate(divide="ignore", invalid="ignore"):
            log_total = np.log(self.total)
            sum_p2 = self.squared / self.total**2
            # log p = (l − m) − log Σe^(l−m)
            sum_p_log_p = self.weighted / self.total - log_total
        return Partition(self.maximum + log_total, sum_p2, sum_p_log_p, slots, logits)


class _Leaders:
    """The k largest logits so far of each query.

    What beats the k-th of them is collected, and sorted out only when that has become a few times k: most blocks of a long
    pass cost one comparison.
    """

    def __init__(self, count: int, k: int) -> None:
        self._k = k
        self._slots = np.full((count, k), -1, dtype=np.int64)
        self._logits = np.full((count, k), -np.inf, dtype=np.float32)
        self._floor = np.full(count, -np.inf, dtype=np.float32)
        self._waiting: list[tuple[Int64s, Int64s, Float32s]] = []  # (query, slot, logit) of what beat the floor
        self._many = 0

    def take(self, slots: Int64s, logits: Float32s) -> None:
        """The best of other rows."""
        if self._k:
            self._keep(slots, logits)

    def offer(self, logits: Float32s, best: Float64s, start: int, offset: Float64s) -> None:
        if not self._k or not (best > self._floor).any():
            return
        added = offset.astype(np.float32)
        rows = np.flatnonzero(best > self._floor)
        if 2 * len(rows) < len(logits):  # few queries have anything new here
            query, column = np.nonzero(logits[rows] > (self._floor - added)[rows, np.newaxis])
            self._wait(rows[query], column, logits, start, added)
            return
        found = np.flatnonzero(logits > (self._floor - added)[:, np.newaxis])
        if len(found) > 2 * self._logits.size:
            self._merge()
            width = min(self._k, logits.shape[1])
            columns = np.argpartition(logits, -width, axis=1)[:, -width:]
            self._keep(columns + start, np.take_along_axis(logits, columns, axis=1) + added[:, np.newaxis])
            return
        self._wait(*np.divmod(found, logits.shape[1]), logits, start, added)

    def _wait(self, query: Int64s, column: Int64s, logits: Float32s, start: int, added: Float32s) -> None:
        """Collect some logits of a block."""
        self._waiting.append((query, column + start, logits[query, column] + added[query]))
        self._many += len(query)
        if self._many > 2 * self._logits.size:
            self._merge()

    def _merge(self) -> None:
        """Take what waits into the leaders."""
        if not self._waiting:
            return
        query, slot, logit = (np.concatenate(parts) for parts in zip(*self._waiting, strict=True))
        self._waiting, self._many = [], 0
        order = np.argsort(query, kind="stable")
        counts = np.bincount(query, minlength=len(self._floor))
        ranks = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = np.full((len(counts), counts.max()), -1, dtype=np.int64)
        logits = np.full(slots.shape, -np.inf, dtype=np.float32)
        slots[query[order], ranks], logits[query[order], ranks] = slot[order], logit[order]
        self._keep(slots, logits)

    def _keep(self, slots: Int64s, logits: Float32s) -> None:
        """The k largest of the leaders and these."""
        slots, logits = np.concatenate([self._slots, slots], axis=1), np.concatenate([self._logits, logits], axis=1)
        columns = np.argpartition(logits, -self._k, axis=1)[:, -self._k :]
        self._slots = np.take_along_axis(slots, columns, axis=1)
        self._logits = np.take_along_axis(logits, columns, axis=1)
        self._floor = self._logits.min(axis=1)

    def finish(self) -> tuple[Int64s, Float32s]:
        """(n, k) slots, −1 where there are not so many rows, and (n, k) logits, best first."""
        self._merge()
        order = np.argsort(-self._logits, axis=1, kind="stable")
        logits = np.take_along_axis(self._logits, order, axis=1)
        return np.where(np.isneginf(logits), -1, np.take_along_axis(self._slots, order, axis=1)), logits


def refined(partition: Partition, leading: Float64s, asked: int, slack: float = 0.0) -> tuple[Moments, Float64s, Float64s]:
    """(moments, outside, rest): the pass with its leaders' logits replaced by exact ones.

    The float32 sums of the pass stay for the rows outside of its leaders; the leaders' share is exact, which is all of it
    when every row is a leader.

    Args:
        leading: (n, k) the leaders' exact logits (anything where the pass has no leader). asked: how many rows took part.
        slack: by how much the logit of a row that is no leader may exceed the last leader's, where the pass was approximate.

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
        summed = np.exp(np.maximum(partition.logits - summit[:, np.newaxis], FLOOR)).astype(np.float64)
        known = np.where(there, summed * np.exp(summit - partition.log_z)[:, np.newaxis], 0.0)
    first = np.arange(powers.shape[1]) == exact.argmax(axis=1)[:, np.newaxis]
    # In units of the leading row's power; what is outside is no larger than its number times the last leader.
    last = powers.min(axis=1, initial=np.inf, where=there) * np.exp(slack)
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
        # Where the leaders' logits were only near, the total was too: what is outside is a little more or less of it.
        shift = partition.log_z - log_z
        before = np.clip(1.0 - known.sum(axis=1), 0.0, 1.0)
        rest_entropy = np.minimum(np.exp(shift) * (partition.sum_p_log_p - known_entropy + shift * before), 0.0)
        rest_squares = np.exp(2 * shift) * (partition.sum_p2 - (known**2).sum(axis=1))
        rest_squares = np.clip(rest_squares, 0.0, rest * last / total)
    moments = Moments(log_z, leaders_entropy + rest_entropy, (p * complement).sum(axis=1) + rest - rest_squares)
    return moments, np.zeros(len(p)) if everything else last / total, rest
