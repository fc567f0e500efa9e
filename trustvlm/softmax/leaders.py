"""The k largest logits of each query, found while blocks of them come by."""

from __future__ import annotations

import numpy as np

from trustvlm.types.arrays import Float32s, Float64s, Int64s

__all__ = ["Leaders"]


class Leaders:
    """The k largest logits so far of each query.

    What beats the k-th of them is collected, and sorted out only when that has become a few times
    k: most blocks of a long pass cost one comparison.
    """

    def __init__(self, count: int, k: int) -> None:
        self._k = k
        self._slots = np.full((count, k), -1, dtype=np.int64)
        self._logits = np.full((count, k), -np.inf, dtype=np.float32)
        self._floor = np.full(count, -np.inf, dtype=np.float32)
        self._waiting: list[
            tuple[Int64s, Int64s, Float32s]
        ] = []  # (query, slot, logit) of what beat the floor
        self._many = 0

    def floor(self) -> Float64s:
        """(n,) what a row must exceed to be a leader by now; −∞ before there are k of them."""
        self._merge()
        return self._floor.astype(np.float64)

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
            self._keep(
                columns + start, np.take_along_axis(logits, columns, axis=1) + added[:, np.newaxis]
            )
            return
        self._wait(*np.divmod(found, logits.shape[1]), logits, start, added)

    def _wait(
        self, query: Int64s, column: Int64s, logits: Float32s, start: int, added: Float32s
    ) -> None:
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
        few = len(self._floor) <= np.iinfo(np.uint16).max
        order = np.argsort(
            query.astype(np.uint16) if few else query, kind="stable"
        )  # 16 bits are sorted by counting
        counts = np.bincount(query, minlength=len(self._floor))
        ranks = np.arange(len(query)) - np.repeat(np.cumsum(counts) - counts, counts)
        slots = np.full((len(counts), counts.max()), -1, dtype=np.int64)
        logits = np.full(slots.shape, -np.inf, dtype=np.float32)
        slots[query[order], ranks], logits[query[order], ranks] = slot[order], logit[order]
        self._keep(slots, logits)

    def _keep(self, slots: Int64s, logits: Float32s) -> None:
        """The k largest of the leaders and these."""
        slots, logits = (
            np.concatenate([self._slots, slots], axis=1),
            np.concatenate([self._logits, logits], axis=1),
        )
        columns = np.argpartition(logits, -self._k, axis=1)[:, -self._k :]
        self._slots = np.take_along_axis(slots, columns, axis=1)
        self._logits = np.take_along_axis(logits, columns, axis=1)
        self._floor = self._logits.min(axis=1)

    def finish(self) -> tuple[Int64s, Float32s]:
        """(n, k) slots, −1 where there are not so many rows, and (n, k) logits, best first."""
        self._merge()
        order = np.argsort(-self._logits, axis=1, kind="stable")
        logits = np.take_along_axis(self._logits, order, axis=1)
        return np.where(
            np.isneginf(logits), -1, np.take_along_axis(self._slots, order, axis=1)
        ), logits
