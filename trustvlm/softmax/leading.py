"""The rows of largest logit with exact numbers, and the softmax over all rows beside them.

What both engines return: :mod:`trustvlm.softmax.dense` and :mod:`trustvlm.softmax.streamed`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from trustvlm.softmax.native import library
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s


@dataclass(frozen=True, eq=False)
class Moments:
    """The softmax of n queries over all labels.

    Attributes:
        log_z: (n,) log of the sum of e^logit.
        negative_entropy: (n,) Σ p·log p.
        impurity: (n,) Gini impurity 1 − Σp² = Σ p·(1 − p), without cancellation where one label has
            almost everything.
    """

    log_z: Float64s
    negative_entropy: Float64s
    impurity: Float64s


@dataclass(frozen=True, eq=False)
class RestSums:
    """Sums over the rows that are no leaders, of their logits l relative to the best leader's m.

    Attributes:
        total, weighted, squared: (n,) Σe^(l−m), Σe^(l−m)·(l−m), Σe^(2(l−m)).
    """

    total: Float64s
    weighted: Float64s
    squared: Float64s


@dataclass(frozen=True, eq=False)
class LeadingRows:
    """The rows of largest logit of n queries.

    Attributes:
        slots: (n, k) best first, −1 where there are no more rows. logits: (n, k) exact, −∞ there.
        complete: whether every row that took part is a leader.
        slack: by how much the logit of a row that is no leader may exceed the last leader's.
        moments: of the softmax over all rows; None where it was not asked for.
        rest: (n,) probability of the rows that are no leaders. bound: (n,) upper bound of the
            probability of each of them. Both 0 without moments.
    """

    slots: Int64s
    logits: Float64s
    complete: bool
    slack: float
    moments: Moments | None
    rest: Float64s
    bound: Float64s

    def cut_through_equals(self, needed: int, tolerance: float) -> Bools:
        """(n,) whether rows may be missing that are as good as one of the `needed` best: the last
        leader is as good as the one behind them."""
        if self.complete:
            return np.zeros(len(self.slots), np.bool_)
        edge = self.logits[:, min(needed, self.logits.shape[1] - 1)]
        return edge - self.logits[:, -1] <= tolerance

    def surely_nearest(self) -> Bools:
        """(n,) whether the best row of all is surely among the leaders."""
        if self.complete:
            return np.ones(len(self.slots), np.bool_)
        return self.logits[:, 0] - self.logits[:, -1] >= self.slack


def with_moments(
    slots: Int64s, logits: Float64s, rows: int, slack: float, rest: RestSums
) -> LeadingRows:
    """Leaders with the moments of the softmax over all `rows` rows.

    The leaders' share is exact, which is all of it when every row is a leader.
    """
    complete = slots.shape[1] >= rows
    top = logits[:, :1]
    with np.errstate(invalid="ignore"):  # −∞ − −∞, where no row took part
        powers = np.where(slots >= 0, np.exp(logits - top), 0.0)
    others = powers[:, 1:].sum(axis=1) + rest.total
    total = 1.0 + others
    log_z = top[:, 0] + np.log1p(others)
    p = powers / total[:, np.newaxis]
    with np.errstate(divide="ignore", invalid="ignore"):
        log_p = logits - log_z[:, np.newaxis]
        log_p[:, :1] = -np.log1p(others)[:, np.newaxis]  # log_z may be far larger than this
        entropy = np.where(p > 0, p * log_p, 0.0).sum(axis=1)
    complement = 1.0 - p
    complement[:, 0] = others / total
    impurity = (p * complement).sum(axis=1)
    if complete:
        none = np.zeros(len(slots))
        return LeadingRows(
            slots, logits, True, slack, Moments(log_z, entropy, impurity), none, none
        )
    last = powers.min(axis=1, initial=np.inf, where=slots >= 0) * np.exp(slack)
    share, log_total = rest.total / total, np.log1p(others)
    entropy += np.minimum((rest.weighted - rest.total * log_total) / total, 0.0)
    squares = np.clip(rest.squared / total**2, 0.0, share * last / total)
    moments = Moments(log_z, entropy, impurity + share - squares)
    return LeadingRows(slots, logits, False, slack, moments, share, last / total)


@dataclass(frozen=True, eq=False)
class ExactRows:
    """The (N, d) float32 rows of all slots, in two pieces.

    Attributes:
        first, rest: the rows of the slots before b, and of those from b on.
        prove: checks the rows of `first` in these slots before they are read.
    """

    first: Float32s
    rest: Float32s
    prove: Callable[[Int64s], None]

    @classmethod
    def in_memory(cls, rows: Float32s) -> ExactRows:
        """Rows in one piece, which need no check."""
        return cls(rows[:0], rows, lambda slots: None)

    def take(self, slots: Int64s) -> Float32s:
        """(m, d) a copy of the rows in (m,) slots."""
        late = slots >= len(self.first)
        self.prove(slots[~late])
        if not late.any():
            return self.first.take(slots, axis=0)
        rows = np.empty((len(slots), self.rest.shape[1]), np.float32)
        rows[late] = self.rest[slots[late] - len(self.first)]
        rows[~late] = self.first[slots[~late]]
        return rows


def similarities(rows: ExactRows, slots: Int64s, queries: Floats) -> Float64s:
    """(n, m) inner products in float64 of each query with its own candidate rows; NaN where the
    slot is −1.

    Each is summed alone, so that equal rows give equal bits: ties are ties.
    """
    native, wide = library(), np.ascontiguousarray(queries, np.float64)
    if native is not None:
        rows.prove(slots[(slots >= 0) & (slots < len(rows.first))])
        return native.products(rows.first, rows.rest, np.ascontiguousarray(slots), wide)
    products = np.full(slots.shape, np.nan)
    for query, some, out in zip(wide, slots, products, strict=True):
        taken = rows.take(some[some >= 0]).astype(np.float64)
        # Of one row and one column NumPy makes a dot product each, which is what keeps ties.
        out[some >= 0] = np.matmul(taken[:, np.newaxis], query)[:, 0]
    return products
