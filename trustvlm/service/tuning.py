"""How much of the nearest an index finds, measured on a space's own vectors, and the search parameter that finds enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from sqlalchemy import Connection

from trustvlm.bounds import number, whole
from trustvlm.catalog import spaces
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.index.live import Block, IndexView
from trustvlm.index.rows import RowView
from trustvlm.service.cache import SpaceView
from trustvlm.service.parts import Parts
from trustvlm.service.support_cache import support_blocks
from trustvlm.types import Float32s, Int64s

__all__ = ["Tuned", "recall_of", "true_neighbours", "tune_index"]

QUERIES = 256
PARAMETERS = {"IVF": "nprobe", "HNSW": "efSearch"}
"""What says how much of an index of each kind is searched."""

_BLOCK = 4_096
_MOST = 65_536  # no search parameter beyond this


@dataclass(frozen=True)
class Tuned:
    """What tuning found for one index of a space.

    Attributes:
        kind: "prototype" or "support". rows: live ones.
        parameter, value: the faiss search parameter that is stored now; None for an index that compares every row.
        recall: share of the k nearest that are found with it. milliseconds: of one query with it, median.
        exact_milliseconds: of one query compared with every row in float32, median.
    """

    kind: str
    rows: int
    parameter: str | None
    value: int | None
    recall: float
    milliseconds: float
    exact_milliseconds: float


@dataclass(frozen=True, eq=False)
class _Subject:
    """An index, its vectors as the catalog has them, and vectors of it that serve as queries, with their ids."""

    kind: str
    index: IndexView
    blocks: Callable[[], Iterable[Block]]
    ids: Int64s
    queries: Float32s


def tune_index(parts: Parts, space_name: str, recall: float, k: int) -> list[Tuned]:
    """See :meth:`TrustService.tune_index`."""
    recall, k = number("recall", recall), whole("k", k)
    found, search = [], {}
    with parts.snapshot(space_name) as (connection, view):
        recipe = view.cache.recipe
        for subject in _subjects(parts, connection, view):
            tuned = _tuned(subject, recipe.name, recall, min(k, len(subject.index) - 1))
            found.append(tuned)
            if tuned.parameter is not None and tuned.value is not None:
                search[tuned.kind] = {tuned.parameter: tuned.value}
        space = view.space
    if not found:
        raise InvalidInput(f"space {space_name!r} has fewer than two prototypes or support images; there is nothing to search")
    if search:
        with parts.catalog.write("space.search") as connection:
            if not spaces.set_search(connection, space.id, recipe.name, search):
                raise Conflict(f"the recipe of space {space_name!r} was changed meanwhile; tune again")
    return found


def _subjects(parts: Parts, connection: Connection, view: SpaceView) -> Iterator[_Subject]:
    if view.index is not None and len(view.index) > 1:
        rows = view.prototypes
        slots = _some(np.flatnonzero(rows.alive))
        yield _Subject("prototype", view.index, partial(_rows, rows), rows.ids[slots], rows.take(slots))
    index = parts.caches.support_view(connection, view, classifier=False)
    if len(index) > 1:
        blocks = partial(support_blocks, connection, view.space, classifier=False)
        ids, queries = _picked(blocks(), len(index))
        yield _Subject("support", index, blocks, ids, queries)


def _some(of: Int64s) -> Int64s:
    """Some of these, always the same, spread over all."""
    return of[np.unique(np.linspace(0, len(of) - 1, min(QUERIES, len(of))).round().astype(np.int64))]


def _picked(blocks: Iterable[Block], count: int) -> tuple[Int64s, Float32s]:
    wanted, start = _some(np.arange(count)), 0
    ids, rows = [], []
    for of, vectors in blocks:
        here = wanted[(wanted >= start) & (wanted < start + len(of))] - start
        ids.append(of[here])
        rows.append(vectors[here])
        start += len(of)
    return np.concatenate(ids), np.concatenate(rows)


def _rows(rows: RowView) -> Iterator[Block]:
    for start in range(0, rows.n, _BLOCK):
        slots = start + np.flatnonzero(rows.alive[start : start + _BLOCK])
        yield rows.ids[slots], rows.take(slots)


def _tuned(subject: _Subject, recipe: str, wanted: float, k: int) -> Tuned:
    """The smallest value whose recall is `wanted`, to within a fifth of it."""
    index = subject.index
    truth, exact = true_neighbours(subject.blocks(), subject.queries, k, subject.ids)
    measured = partial(_measured, subject, truth)
    if index.exhaustive:
        return Tuned(subject.kind, len(index), None, None, *measured(index), exact)
    parameter = next(name for kind, name in PARAMETERS.items() if kind in index.recipe.factory)
    most = min(index.lists if parameter == "nprobe" else len(index), _MOST)
    low, high = 0, 1
    recall, milliseconds = measured(index.with_parameters({parameter: high}))
    while recall < wanted:
        if high >= most:
            raise Conflict(
                f"recipe {recipe!r} finds {recall:.3f} of the {k} nearest {subject.kind}s at most, not {wanted:g}: "
                f"ask for less, or change the recipe ('trustvlm index suggest')"
            )
        low, high = high, min(2 * high, most)
        recall, milliseconds = measured(index.with_parameters({parameter: high}))
    while high - low > max(1, low // 5):
        middle = (low + high) // 2
        there = measured(index.with_parameters({parameter: middle}))
        if there[0] >= wanted:
            high, (recall, milliseconds) = middle, there
        else:
            low = middle
    return Tuned(subject.kind, len(index), parameter, high, recall, milliseconds, exact)


def _measured(subject: _Subject, truth: Int64s, index: IndexView) -> tuple[float, float]:
    """(recall, ms a query) of searches one query at a time."""
    k, taken, got = truth.shape[1], [], []
    for query in subject.queries:
        begin = time.perf_counter()
        got.append(index.search(query[np.newaxis], k + 1)[0][0])
        taken.append(time.perf_counter() - begin)
    return recall_of(np.array(got), truth, subject.ids), 1000 * float(np.median(taken))


def recall_of(got: Int64s, truth: Int64s, own: Int64s) -> float:
    """Share of the true neighbours (n, k) among the answers (n, k + 1), each query's own id aside."""
    shares = []
    for answer, true, self_id in zip(got.tolist(), truth.tolist(), own.tolist(), strict=True):
        others = [i for i in answer if i != self_id][: len(true)]
        shares.append(len(set(others) & set(true)) / len(true))
    return float(np.mean(shares))


def true_neighbours(blocks: Iterable[Block], queries: Float32s, k: int, own: Int64s) -> tuple[Int64s, float]:
    """(n, k) ids of the nearest rows of each query but itself, ties by smaller id; and the ms of one query by itself.

    The time is that of the matrix product alone, which is what an exact scan is limited by.
    """
    ids, best = np.full((len(queries), k), -1, np.int64), np.full((len(queries), k), -np.inf, np.float32)
    milliseconds = 0.0
    for of, rows in blocks:
        similarity = queries @ rows.T
        begin = time.perf_counter()
        queries[:1] @ rows.T
        milliseconds += 1000 * (time.perf_counter() - begin)
        similarity[own[:, np.newaxis] == of] = -np.inf
        all_ids = np.concatenate([ids, np.broadcast_to(of, similarity.shape)], axis=1)
        everything = np.concatenate([best, similarity], axis=1)
        order = np.lexsort((all_ids, -everything), axis=-1)[:, :k]
        ids, best = np.take_along_axis(all_ids, order, axis=1), np.take_along_axis(everything, order, axis=1)
    return ids, milliseconds
