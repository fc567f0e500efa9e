"""Measure what share of the nearest an index finds, on rows taken out of it, and find the search
parameter that finds enough."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recall import Block, Nearest, shares_found, take_out
from trustvlm.index.recipe import Recipe
from trustvlm.index.rows import RowView
from trustvlm.selective.intervals import mean_interval
from trustvlm.service.home.home import Home
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.bounds import number, whole
from trustvlm.types.json_form import Answer
from trustvlm.types.messages.commands import suggested

QUERIES = 768
"""Rows taken out: every third to prove with, the others to tune with."""

PARAMETERS = {"IVF": "nprobe", "HNSW": "efSearch"}
"""What says how much of an index of each kind is searched."""

_BLOCK = 4_096
_LARGEST = 65_536  # no search parameter beyond this


@dataclass(frozen=True)
class Tuned(Answer):
    """What tuning found for one index of a space.

    Attributes:
        kind: "prototype" or "support". rows: live ones.
        parameter, value: the faiss search parameter that is stored now; None for an index that
            compares every row.
        tuned: share of the k nearest that it finds for the rows it was tuned with, none of them in
            the index.
        recall: that share for other rows, which chose nothing; low, high: its 95 % interval.
            reached: it is the target.
        milliseconds: of one query with it, median.
        exact_milliseconds: of one query compared with every row in float32.
    """

    kind: str
    rows: int
    parameter: str | None
    value: int | None
    tuned: float
    recall: float
    low: float
    high: float
    reached: bool
    milliseconds: float
    exact_milliseconds: float


@dataclass(frozen=True, eq=False)
class _Subject:
    """An index and its vectors as the catalog has them."""

    kind: str
    index: IndexView
    blocks: Callable[[], Iterable[Block]]


@dataclass(frozen=True, eq=False)
class _Trial:
    """Queries with their true neighbours, and the index that is searched for them.

    Attributes:
        index: it holds none of the queries; one that compares every row may, and leaves each out of
            its own answer.
        queries: (q, dim), ids: (q,) theirs, truth: (q, k) ids of the nearest.
        milliseconds: of comparing one query with every row.
    """

    index: IndexView
    ids: Int64s
    queries: Float32s
    truth: Int64s
    milliseconds: float

    def shares(self, index: IndexView, *, proof: bool) -> tuple[Float64s, float]:
        """((m,) share of the nearest that is found, ms a query), one query at a time: of every
        third one, or of the others."""
        seconds, answers = [], []
        k, chosen = self.truth.shape[1], (np.arange(len(self.ids)) % 3 == 0) == proof
        for query_id, query in zip(self.ids[chosen], self.queries[chosen], strict=True):
            may_stop()
            begin = time.perf_counter()
            ids = index.search(query[np.newaxis], k + 1)[0][0]
            seconds.append(time.perf_counter() - begin)
            answers.append(ids[ids != query_id][:k])
        return shares_found(answers, self.truth[chosen]), 1000 * float(np.median(seconds))


def tune_index(home: Home, space_name: str, recall: float, k: int) -> list[Tuned]:
    """See :meth:`TrustService.tune_index`."""
    recall, k = number("recall", recall), whole("k", k)
    results, search = [], {}
    with home.snapshot(space_name) as reading:
        view, recipe = reading.view, reading.view.recipe
        prototypes = _prototypes(recipe, view.space.verifier_dim, view.index, view.prototypes)
        connection, supports = reading.connection, home.caches.supports
        of_supports = supports.view(reading, classifier=False)
        blocks = partial(supports.blocks, connection, view.space, classifier=False)
        subjects = [] if prototypes is None else [_Subject("prototype", *prototypes)]
        for subject in (*subjects, _Subject("support", of_supports, blocks)):
            if len(subject.index) < 2:
                continue
            margin, device = home.thresholds.tune_margin, home.caches.device
            tuned = _tuned(subject, recall, margin, min(k, len(subject.index) - 1), device)
            results.append(tuned)
            if tuned.parameter is not None and tuned.value is not None:
                search[tuned.kind] = {tuned.parameter: tuned.value, "recall": tuned.recall}
        space = reading.view.space
    if not results:
        raise InvalidInput(
            f"space {space_name!r} has fewer than two prototypes or support images; there is "
            f"nothing to search"
        )
    if search:
        with home.catalog.write("space.search") as connection:
            if not spaces.set_search(connection, space.id, recipe.name, search):
                raise Conflict(
                    f"the recipe of space {space_name!r} was changed meanwhile; tune again"
                )
    return results


def _prototypes(
    recipe: Recipe, dim: int, index: IndexView | None, rows: RowView
) -> tuple[IndexView, Callable[[], Iterable[Block]]] | None:
    """The index over prototypes and their rows; None: there is no index, and none is made of rows
    that lie in a file."""
    blocks = partial(_rows, rows)
    if index is None and rows.base is None:  # an exact recipe: it proves itself
        index = LiveIndex.build(recipe, dim, len(rows), blocks).view()
    return None if index is None else (index, blocks)


def _rows(rows: RowView) -> Iterator[Block]:
    for start in range(0, rows.n, _BLOCK):
        slots = start + np.flatnonzero(rows.alive[start : start + _BLOCK])
        yield rows.ids[slots], rows.take(slots)


def _trial(subject: _Subject, k: int, device: str) -> _Trial:
    """The index built again without the rows that are the queries; as it is, where it compares
    every row."""
    index = subject.index
    out = take_out(subject.blocks, len(index), QUERIES)
    truth, milliseconds = Nearest(out.vectors, k), 0.0
    for ids, rows in subject.blocks() if index.exhaustive else out.rest():
        may_stop()
        begin = time.perf_counter()
        out.vectors[:1] @ rows.T  # what an exact scan is limited by
        milliseconds += 1000 * (time.perf_counter() - begin)
        truth.show(ids, rows, query_ids=out.ids)
    if not index.exhaustive:
        left = len(index) - len(out.ids)
        index = LiveIndex.build(
            index.recipe, index.dim, left, out.rest, device=device, lists=index.lists
        ).view()
    return _Trial(index, out.ids, out.vectors, truth.ids, milliseconds)


def _tuned(subject: _Subject, target: float, margin: float, k: int, device: str) -> Tuned:
    """The smallest value that surely is enough for the queries to tune with, to within a fifth of
    it; and its proof."""
    index, trial = subject.index, _trial(subject, k, device)
    if index.exhaustive:
        return _proved(subject, trial, target, None, None)
    parameter = next(name for kind, name in PARAMETERS.items() if kind in index.recipe.factory)
    most = min(index.lists if parameter == "nprobe" else len(index), _LARGEST)

    def shares(value: int) -> Float64s:
        searched = trial.index.with_parameters({parameter: value})
        return trial.shares(searched, proof=False)[0]

    def enough(value: int) -> bool:
        tuned = shares(value)
        return bool(tuned.mean() - margin * tuned.std() / np.sqrt(len(tuned)) >= target)

    low, high = 0, 1
    while not enough(high):
        if high >= most:
            reached = float(shares(high).mean())
            if reached >= target:
                break  # not surely: the proof decides
            raise Conflict(
                f"recipe {index.recipe.name!r} finds {reached:.3f} of the {k} nearest "
                f"{subject.kind}s at most, not {target:g}: "
                f"ask for less, or change the recipe ({suggested('index suggest')})"
            )
        low, high = high, min(2 * high, most)
    while high - low > max(1, low // 5):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return _proved(subject, trial, target, parameter, high)


def _proved(
    subject: _Subject, trial: _Trial, target: float, parameter: str | None, value: int | None
) -> Tuned:
    index = trial.index
    if parameter is not None and value is not None:
        index = index.with_parameters({parameter: value})
    tuned, _ = trial.shares(index, proof=False)
    proved, milliseconds = trial.shares(index, proof=True)
    low, high = mean_interval(proved)
    recall = float(proved.mean())
    return Tuned(
        kind=subject.kind,
        rows=len(subject.index),
        parameter=parameter,
        value=value,
        tuned=float(tuned.mean()),
        recall=recall,
        low=low,
        high=high,
        reached=recall >= target,
        milliseconds=milliseconds,
        exact_milliseconds=trial.milliseconds,
    )
