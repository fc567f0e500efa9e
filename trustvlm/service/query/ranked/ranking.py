"""Choosing the best of some labels: equal values go to the smallest name."""

from __future__ import annotations

import numpy as np

from trustvlm.index.string_table import NameTable
from trustvlm.types.arrays import Float64s, Int64s


class Ranking:
    """Chooses the best of m labels of each of n queries; of equal ones that with the smallest name.

    Attributes:
        first: (n,) places of the first label of each query, where (n, m) values are one row.
        unsure: (n,) where a choice was between values that rounding may have made unequal.
    """

    def __init__(self, names: NameTable, slots: Int64s, rounding: float) -> None:
        self._names, self._slots, self._rounding = names, slots, rounding
        self.first = np.arange(len(slots)) * slots.shape[1]
        self.unsure = np.zeros(len(slots), np.bool_)

    def best(self, values: Float64s, scale: float, *, relative: bool = False) -> Int64s:
        """(n,) column of the largest value of each row.

        Args:
            scale: by how much values grow with a similarity; `relative`: to the value.
        """
        best: Int64s = values.argmax(axis=1)
        largest = values.take(self.first + best)
        margin: Float64s | float = self._rounding * scale
        if relative and self._rounding:
            margin = margin * np.abs(largest)
        close = values >= (largest - margin)[:, np.newaxis]
        if np.count_nonzero(close) == len(best):  # each only the best itself
            return best
        several = (largest > -np.inf) & (np.count_nonzero(close & (values > -np.inf), axis=1) > 1)
        if self._rounding:  # what is exactly 0 is no matter of rounding
            nonzero = largest != 0
            self.unsure |= several & nonzero
            several &= ~nonzero
        for row in np.flatnonzero(several).tolist():
            columns = np.flatnonzero(values[row] == largest[row]).tolist()
            best[row] = min(columns, key=lambda column: self._name(row, column))
        return best

    def order(self, values: Float64s, scale: float, k: int, ordered: int) -> Int64s:
        """(n, k) columns of the k largest values, best first.

        Args:
            ordered: how many of the first columns are these already: k + 1 or all of them; or 0.
        """
        if ordered:
            order = np.tile(np.arange(ordered), (len(values), 1))
        else:
            order = np.argsort(-values, axis=1, kind="stable")
        best = values.take(self.first[:, np.newaxis] + order[:, : k + 1])
        later = best[:, 1:]
        tied = (later > -np.inf) & (later >= best[:, :-1] - self._rounding * scale)
        several = tied.any(axis=1)
        if self._rounding:
            self.unsure |= several
            return order[:, :k]
        for row in np.flatnonzero(several).tolist():
            columns = order[row].tolist()
            columns.sort(key=lambda column: (-values[row, column], self._name(row, column)))
            order[row] = columns
        return order[:, :k]

    def _name(self, row: int, column: int) -> str:
        slot = int(self._slots[row, column])
        return self._names[slot] if slot >= 0 else ""
