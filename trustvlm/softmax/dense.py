"""The softmax over few rows at once: all logits in one block of memory."""

from __future__ import annotations

import numpy as np

from trustvlm.softmax.leading import LeadingRows, Moments, RestSums, similarities, with_moments
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

DENSE_LOGITS = 2**20
"""Most logits of a block: 4 MB of float32."""

_ONE_BY_ONE = 9  # up to this number of leaders are taken one after the other, more by partition
_SHORT = 64  # up to this length rows are sorted whole
_SORTED = 4_096  # up to this number of values are sorted, in one call

_LOWEST = np.float32(-80.0)  # e^−80 is a normal float32; a million rows of it add 1e−29


def dense_rows(
    rows: Float32s,
    queries: Floats,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    sums: bool = True,
) -> LeadingRows:
    """The min(k, N) rows of largest scale · query · row, exactly, and with `sums` the softmax over
    all rows where `keep` is true (None: all).

    Args:
        rows: (N, d) float32 unit vectors. queries: (n, d) unit vectors.
    """
    count = len(rows) if keep is None else int(np.count_nonzero(keep))
    logits = (queries * scale).astype(np.float32, copy=False) @ rows.T
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
    rows: Float32s, queries: Floats, scale: float, width: int, logits: Float32s
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


class DenseSoftmax:
    """The softmax over all rows: some of them in columns of float64, the others as float32 powers.

    Args:
        logit: (n, m) of the columns, −∞ where padded. best: (n,) column of the largest logit of
            all. valid: (n, m) which columns are candidates.
        powers: (n, N) e^(logit − largest) of all rows, 0 of those in columns; None where every row
            has one. logits: (n, N) theirs.

    Attributes:
        rest: (n,) probability of all rows that are no candidates. p: (n, m) of the columns.
    """

    def __init__(
        self,
        logit: Float64s,
        best: Int64s,
        valid: Bools,
        powers: Float32s | None = None,
        logits: Float32s | None = None,
    ) -> None:
        self.logit, self.valid = logit, valid
        self._powers, self._logits = powers, logits
        places = np.arange(len(logit)) * logit.shape[1] + best
        self._top = logit.take(places)
        self._relative = logit - self._top[:, np.newaxis]
        self._power = np.exp(self._relative)
        self._power.put(places, 0.0)
        columns, outside = self._power.sum(axis=1), np.zeros(len(logit))
        if powers is not None:
            outside = powers.sum(axis=1).astype(np.float64)
        self._others = columns + outside
        self._total = 1.0 + self._others
        if powers is None and not valid.all():
            outside = np.where(valid, 0.0, self._power).sum(axis=1)
        self.rest = outside / self._total
        self.p = self._power / self._total[:, np.newaxis]
        self.p.put(places, 1.0 / self._total)

    def moments(self, *, entropy: bool) -> Moments:
        """The log-partition and, if asked for, entropy and impurity."""
        log_total = np.log1p(self._others)
        log_z = self._top + log_total
        if not entropy:
            return Moments(log_z, None, None)
        power, total = self._power, self._total
        weighted = (power * np.where(power > 0, self._relative, 0.0)).sum(axis=1)
        squared = (power**2).sum(axis=1)
        if self._powers is not None and self._logits is not None:
            relative = self._logits - self._top[:, np.newaxis].astype(np.float32)
            np.maximum(relative, _LOWEST, out=relative)
            weighted += np.einsum("nb,nb->n", self._powers, relative)
            squared += np.einsum("nb,nb->n", self._powers, self._powers)
        impurity = (self._others * (1.0 + total) - squared) / total**2
        return Moments(log_z, weighted / total - log_total, np.maximum(impurity, 0.0))


def at_least(values: Float32s, k: int) -> Bools:
    """(n, N) which values are among the k < N largest of their row, equals of the last included."""
    least = np.partition(values, -k, axis=1)[:, -k]
    return values >= least[:, np.newaxis]


def largest(values: Float32s, k: int) -> Int64s:
    """(n, min(k, N)) columns of the k largest values of each row, best first."""
    if values.shape[1] <= max(k, _SHORT) or values.size <= _SORTED:
        return np.argsort(-values, axis=1)[:, :k]
    if k <= _ONE_BY_ONE:
        return _one_by_one(np.ascontiguousarray(values), k)
    chosen = np.argpartition(values, -k, axis=1)[:, -k:]
    order = np.argsort(-np.take_along_axis(values, chosen, axis=1), axis=1)
    return np.take_along_axis(chosen, order, axis=1)


def _one_by_one(values: Float32s, k: int) -> Int64s:
    """The columns of the k largest: the first is set aside to find the second, and put back."""
    flat, first = values.reshape(-1), np.arange(len(values)) * values.shape[1]
    places, best = np.empty((k, len(values)), np.int64), np.empty((k, len(values)), np.float32)
    for rank in range(k):
        places[rank] = first + values.argmax(axis=1)
        best[rank] = flat[places[rank]]
        flat[places[rank]] = -np.inf
    flat[places[::-1]] = best[::-1]
    columns: Int64s = np.ascontiguousarray((places - first).T)
    return columns
