"""The k nearest live rows of one view, from an index that also holds dead rows and rows the view
does not know yet.

faiss is asked for more than k, and for twice as many again while a query lacks k live ones; a faiss
GPU index knows no other way (it ignores ID selectors), and one way for all is tested once. Of an
index that does not compare every row, twice as much is searched each time. Beyond what a search may
return (:attr:`Store.most`) the rows themselves are walked in blocks. Ties go to the smaller id,
also between equal vectors, whose scores faiss rounds differently depending on where in a batch they
stand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from trustvlm.index.faiss_store import SCAN_ROWS, Store
from trustvlm.index.slot_table import SlotView
from trustvlm.types.arrays import Float32s, Int64s

_QUERIES_AT_A_TIME = 1024  # bounds what a large batch takes: 24 MB at 2,048 rows a query
_FEW = 16  # less than this share of the rows is walked; that is exact for every recipe
_GATHERED = 4  # less than this share is read row by row
_SCAN_QUERIES = 256  # 8 MB of float64 scores against one block of rows
# scores of one query closer than this may be in the wrong order, or equal: see _level_copies
_ROUNDING = 1e-6


def nearest(
    store: Store,
    view: SlotView,
    queries: Float32s,
    k: int,
    parameters: Mapping[str, float] | None = None,
) -> tuple[Int64s, Float32s]:
    """Ids and scores, each (n, k), of the rows of `view` nearest to (n, dim) `queries`; padded with
    −1 and −inf."""
    ids = np.full((len(queries), k), -1, np.int64)
    scores = np.full((len(queries), k), -np.inf, np.float32)
    most = min(k, view.live)
    for start in range(0, len(queries) if most else 0, _QUERIES_AT_A_TIME):
        part = slice(start, start + _QUERIES_AT_A_TIME)
        best = _nearest_live(store, view, queries[part], most, parameters)
        ids[part, :most], scores[part, :most] = best
    return ids, scores


def _nearest_live(
    store: Store, view: SlotView, queries: Float32s, k: int, parameters: Mapping[str, float] | None
) -> tuple[Int64s, Float32s]:
    """Ids and scores for 1 ≤ k ≤ live rows, so that nothing is padded."""
    ids = np.empty((len(queries), k), np.int64)
    scores = np.empty((len(queries), k), np.float32)
    lengths = np.maximum(1, np.linalg.norm(queries, axis=1)).astype(np.float32)
    tolerance = np.float32(_ROUNDING) * lengths
    pending = np.arange(len(queries))
    hidden = len(store) - view.live
    # Of few live rows among many, walking these takes less than asking for more and more.
    few = view.live * _FEW <= len(store) or view.live <= k
    for time, fetch in enumerate(() if few else _fetches(k, hidden, store.most)):
        returned, slots, everything = store.search(queries[pending], fetch, parameters, 2**time)
        slots, live = _live_first(view, slots, returned)
        edge = live[:, k - 1] - tolerance[pending]
        done = (slots[:, k - 1] >= 0) & (everything | (returned[:, -1] < edge))
        ready = pending[done]
        ids[ready], scores[ready] = _ranked(
            store, view, slots[done], live[done], edge[done], k, tolerance[ready]
        )
        pending = pending[~done]
        if everything or not len(pending):
            break
    for start in range(0, len(pending), _SCAN_QUERIES):
        part = pending[start : start + _SCAN_QUERIES]
        ids[part], scores[part] = _scanned(store, view, queries[part], k)
    return ids, scores


def _fetches(k: int, hidden: int, most: int) -> Iterator[int]:
    """Yield how many rows to ask for, at most `most`, one number for each try; `hidden` rows of the
    index are no answer."""
    # One more than k shows whether the last one ties with a row that is cut off.
    fetch = k + 1 + min(hidden, max(k, 32))
    while k < most:
        yield min(fetch, most)
        if fetch >= most:
            return
        fetch *= 2


def _live_first(view: SlotView, slots: Int64s, scores: Float32s) -> tuple[Int64s, Float32s]:
    """(n, f) slots and scores, best first, with the rows that the view does not hold live moved
    behind as −1, −inf."""
    in_view = (slots >= 0) & (slots < view.n)
    live = in_view & view.alive[np.where(in_view, slots, 0)]
    if live.all():
        return slots, scores
    order = np.argsort(~live, axis=1, kind="stable")
    slots, scores = np.where(live, slots, -1), np.where(live, scores, np.float32(-np.inf))
    return np.take_along_axis(slots, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _ranked(
    store: Store,
    view: SlotView,
    slots: Int64s,
    scores: Float32s,
    edge: Float32s,
    k: int,
    tolerance: Float32s,
) -> tuple[Int64s, Float32s]:
    """The k best of (n, f) candidates, f ≥ k, best first and ties by id; those under their query's
    `edge` are out."""
    out = scores < edge[:, None]
    scores = np.where(out, np.float32(-np.inf), scores)
    ids = np.where(out, -1, view.ids[slots])
    _level_copies(store, slots, scores, tolerance)
    order = np.lexsort((ids, -scores), axis=-1)[:, :k]
    return np.take_along_axis(ids, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _level_copies(store: Store, slots: Int64s, scores: Float32s, tolerance: Float32s) -> None:
    """Gives equal vectors among the candidates of a query one score, in place: the largest that any
    of them got.

    Only neighbours in rank whose scores are within rounding of each other can be equal, so few rows
    are looked at.
    """
    close = (scores[:, :-1] <= scores[:, 1:] + tolerance[:, None]) & (scores[:, 1:] > -np.inf)
    for query in np.flatnonzero(close.any(axis=1)).tolist():
        ranks = np.union1d(np.flatnonzero(close[query]), np.flatnonzero(close[query]) + 1)
        score_of: dict[bytes, np.float32] = {}
        for rank, row in zip(ranks.tolist(), store.gather(slots[query, ranks]), strict=True):
            scores[query, rank] = score_of.setdefault(row.tobytes(), scores[query, rank])


def _live_blocks(store: Store, view: SlotView) -> Iterator[tuple[Int64s, Float32s]]:
    """Slots and rows of the live ones, block by block."""
    alive = np.flatnonzero(view.alive[: view.n])
    if len(alive) * _GATHERED <= view.n:
        for start in range(0, len(alive), SCAN_ROWS):
            slots = alive[start : start + SCAN_ROWS]
            yield slots, store.gather(slots)
        return
    for start in range(0, view.n, SCAN_ROWS):
        stop = min(start + SCAN_ROWS, view.n)
        slots = np.flatnonzero(view.alive[start:stop])
        yield start + slots, store.block(start, stop)[slots]


def _scanned(store: Store, view: SlotView, queries: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """The k best rows by walking all rows of the view; sums are float64, so that equal vectors get
    equal scores."""
    exact = queries.astype(np.float64)
    # The candidates so far of all queries, in one list ordered by query, then score, then id.
    owner, best, ids = np.empty(0, np.int64), np.empty(0, np.float32), np.empty(0, np.int64)
    worst = np.full(len(queries), -np.inf, np.float32)
    for slots, rows in _live_blocks(store, view):
        block = rows.astype(np.float64)
        scores = (exact @ block.T).astype(np.float32)
        query, row = np.nonzero(scores >= worst[:, None])
        owner = np.concatenate([owner, query])
        best = np.concatenate([best, scores[query, row]])
        ids = np.concatenate([ids, view.ids[slots[row]]])
        order = np.lexsort((ids, -best, owner))
        owner, best, ids = owner[order], best[order], ids[order]
        first = np.searchsorted(owner, np.arange(len(queries)))
        kept = np.arange(len(owner)) - first[owner] < k
        owner, best, ids = owner[kept], best[kept], ids[kept]
        ends = np.searchsorted(owner, np.arange(len(queries)), side="right")
        full = np.bincount(owner, minlength=len(queries)) == k
        worst[full] = best[ends[full] - 1]
    return ids.reshape(len(queries), k), best.reshape(len(queries), k)
