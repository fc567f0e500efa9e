"""What a pass knows of the rows that it has seen: sums, and leaders. Logits are in bits (base 2),
relative to the maximum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.softmax.exp2 import Arithmetic, powers_of_two
from trustvlm.softmax.leaders import Leaders
from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["Running", "State", "joined", "nothing"]


@dataclass(frozen=True, eq=False)
class State:
    """What a pass over some of the rows knows, per query, of their logits l in bits.

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


def nothing(count: int) -> State:
    """The state of a pass over no rows."""
    zeros = np.zeros(count)
    empty = np.empty((count, 0))
    return State(np.full(count, -np.inf), zeros, zeros, zeros, empty.astype(np.int64), empty)


def joined(one: State, other: State, k: int) -> State:
    """Of rows of both, which have none in common, with up to k leaders."""
    maximum = np.maximum(one.maximum, other.maximum)
    total, weighted, squared = (np.zeros(len(maximum)) for _ in range(3))
    for side in (one, other):
        moved = _moved(side.maximum, maximum)
        shrink = np.exp2(moved)
        total += shrink * side.total
        weighted += shrink * (side.weighted + moved * side.total)
        squared += shrink**2 * side.squared
    slots, logits = (
        np.concatenate([one.slots, other.slots], axis=1),
        np.concatenate([one.logits, other.logits], axis=1),
    )
    if (one.slots.shape[1] and other.slots.shape[1]) or slots.shape[1] > k:
        order = np.argsort(-logits, axis=1, kind="stable")[:, :k]
        slots, logits = (
            np.take_along_axis(slots, order, axis=1),
            np.take_along_axis(logits, order, axis=1),
        )
    return State(maximum, total, weighted, squared, slots, logits)


def _moved(before: Float64s, after: Float64s) -> Float64s:
    """before − after, and 0 where no row took part."""
    with np.errstate(invalid="ignore"):  # −∞ − −∞
        return np.where(np.isneginf(before), 0.0, before - after)


class Running:
    """A pass in progress over n queries, with k leaders; without `sums`, for the leaders alone."""

    def __init__(self, count: int, k: int, arithmetic: Arithmetic, *, sums: bool = True) -> None:
        self._arithmetic, self._sums = arithmetic, sums
        self._maximum = np.full(count, -np.inf, dtype=np.float64)
        self._total, self._weighted, self._squared = (np.zeros(count) for _ in range(3))
        self._leaders = Leaders(count, k)
        self._work = np.empty((0, 0), np.float32)
        self._sampled = np.zeros((2, count))
        self._floor: Float64s | None = (
            None  # rows above it do not stand for those behind the leaders
        )

    def update(
        self, logits: Float32s, start: int, offset: Float64s, errors: Float32s | None = None
    ) -> None:
        """Take in the rows start … with these logits, `offset` to be added; they are written over.

        Args:
            errors: (n, b) by how much the logits are too small, where that is known; written over
                too. See :meth:`factor`.
        """
        best = self._arithmetic.largest(logits) + offset
        self._leaders.offer(logits, best, start, offset)
        if not self._sums:
            return
        maximum = np.maximum(self._maximum, best)
        moved = _moved(self._maximum, maximum)
        shrink = np.exp2(moved)
        # Σ2^(l−m')(l−m') = 2^(m−m') · (Σ2^(l−m)(l−m) + (m−m')·Σ2^(l−m))
        self._weighted = shrink * (self._weighted + moved * self._total)
        self._total = shrink * self._total
        self._squared = shrink**2 * self._squared
        self._sampled *= shrink
        self._maximum = maximum
        shifted, powers = logits, self._like(logits)
        self._arithmetic.exponentials(
            shifted, (maximum - offset)[:, np.newaxis].astype(np.float32), powers
        )
        self._total += self._arithmetic.totals(powers)
        self._weighted += np.einsum("nb,nb->n", powers, shifted)
        self._squared += np.einsum("nb,nb->n", powers, powers)
        if errors is not None:
            if self._floor is None:
                self._floor = self._leaders.floor()
            powers *= shifted < (self._floor - maximum)[:, np.newaxis].astype(np.float32)
            powers_of_two(errors, errors)
            self._sampled += self._arithmetic.totals(powers), np.einsum("nb,nb->n", powers, errors)

    def factor(self) -> Float64s:
        """(n,) by what Σ2^l over the rows behind the leaders is to be multiplied, judged by those
        whose errors were known."""
        found: Float64s = np.divide(
            self._sampled[1],
            self._sampled[0],
            out=np.ones(len(self._maximum)),
            where=self._sampled[0] > 0,
        )
        return found

    def _like(self, logits: Float32s) -> Float32s:
        """An array to work in, the same for every block of a shape: fresh memory would cost as much
        as the arithmetic."""
        if self._work.shape != logits.shape:
            self._work = np.empty_like(logits)
        return self._work

    def state(self) -> State:
        """What is known when the last row was seen."""
        slots, logits = self._leaders.finish()
        return State(
            self._maximum,
            self._total,
            self._weighted,
            self._squared,
            slots,
            logits.astype(np.float64),
        )
