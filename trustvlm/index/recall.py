"""How much of the nearest an index finds for rows that it does not hold.

A row of the index is no fair query: a graph leads from a row to its own neighbours, which is what
it was built for. Rows are taken out before the index is built, and asked for then; the truth comes
from comparing all the others with them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.messages.commands import suggested

Block = tuple[Int64s, Float32s]
"""(n,) ids and (n, dim) unit vectors."""

MEASURED_ROWS, MEASURED_K = 128, 10
"""An index that does not compare every row is measured with this many rows when it is built, and
this many of their nearest."""

LOW = 0.9
"""An index whose recall is below this when it is built writes a warning to the log."""

log = logging.getLogger("trustvlm")


@dataclass(frozen=True, eq=False)
class TakenOut:
    """Rows that are to serve as queries, and all the others.

    Attributes:
        ids: (q,), vectors: (q, dim) of the rows taken out. rest: gives the others, piece by piece,
            as often as called.
    """

    ids: Int64s
    vectors: Float32s
    rest: Callable[[], Iterator[Block]]


def take_out(blocks: Callable[[], Iterable[Block]], count: int, rows: int) -> TakenOut:
    """Take `rows` of about `count` rows out, spread over all, always the same; at most half of them
    and one."""
    places = np.linspace(0, count - 1, min(rows, count // 2 + 1)).round().astype(np.int64)
    ids, vectors, start = [], [], 0
    for block_ids, block in blocks():
        chosen = np.unique(places[(places >= start) & (places < start + len(block_ids))]) - start
        ids.append(block_ids[chosen])
        vectors.append(block[chosen])
        start += len(block_ids)
    taken = np.concatenate(ids)

    def rest() -> Iterator[Block]:
        for block_ids, block in blocks():
            kept = ~np.isin(block_ids, taken)
            yield block_ids[kept], block[kept]

    return TakenOut(taken, np.concatenate(vectors), rest)


class Nearest:
    """The k nearest of all rows shown to it, each compared with each query; ties by smaller id."""

    def __init__(self, queries: Float32s, k: int) -> None:
        self._queries = queries
        self._best = np.full((len(queries), k), -np.inf, np.float32)
        self.ids: Int64s = np.full((len(queries), k), -1, np.int64)
        """(q, k) ids so far, best first, −1 where there are no more."""

    def show(self, ids: Int64s, rows: Float32s, query_ids: Int64s | None = None) -> None:
        """Compare with (n, dim) rows under (n,) ids; a row under the query's own id does not
        count."""
        if not len(ids):
            return
        similarity = self._queries @ rows.T
        if query_ids is not None:
            similarity[query_ids[:, np.newaxis] == ids] = -np.inf
        everything = np.concatenate([self._best, similarity], axis=1)
        count, k = self.ids.shape
        kth = np.partition(everything, -k, axis=1)[:, -k, np.newaxis]
        query, column = np.nonzero(everything >= kth)  # k of each query, and ties of its last one
        new = column >= k
        all_ids = np.where(
            new, ids[np.where(new, column - k, 0)], self.ids[query, np.where(new, 0, column)]
        )
        values = everything[query, column]
        order = np.lexsort((all_ids, -values, query))
        first = np.searchsorted(query, np.arange(count))
        chosen = order[first[:, np.newaxis] + np.arange(k)]
        self.ids, self._best = all_ids[chosen], values[chosen]


def shares_found(answers: Sequence[Int64s] | Int64s, truth: Int64s) -> Float64s:
    """(q,) share of each query's true neighbours (q, k) among its answers, q arrays of ids."""
    shares = [
        len(np.intersect1d(answer, true)) / len(true)
        for answer, true in zip(answers, truth, strict=True)
    ]
    return np.array(shares, dtype=np.float64)


def warn_if_low(recipe: str, rows: int, recall: float) -> None:
    """Warn of an index that misses many of the nearest."""
    if recall < LOW:
        log.warning(
            "an index of %s rows, recipe %r, finds %.2f of the %d nearest for rows that it does "
            "not hold: let it look further (%s), or take another recipe (%s)",
            f"{rows:,}",
            recipe,
            recall,
            MEASURED_K,
            suggested("index tune"),
            suggested("index suggest"),
        )


def every_row(step: int, blocks: Iterable[Block], dim: int) -> Float32s:
    """Every `step`-th row of all blocks together."""
    rows, skip = [np.empty((0, dim), np.float32)], 0
    for _, vectors in blocks:
        rows.append(vectors[skip::step])
        skip = (skip - len(vectors)) % step
    return np.concatenate(rows)
