"""RowTable against a dict, and its views against every later change."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.rows import RowTable, RowView

DIM = 3


def rows_of(ids: list[int], salt: int = 0) -> np.ndarray:
    return np.array([[i, salt, i * 0.5] for i in ids], np.float32).reshape(len(ids), DIM)


def check(view: RowView, model: dict[int, np.ndarray]) -> None:
    assert view.n == len(view.ids) == len(view.rows) == len(view.alive)
    assert view.live == len(view) == len(model) == view.alive.sum()
    live = dict(zip(view.ids[view.alive].tolist(), view.rows[view.alive], strict=True))
    assert live.keys() == model.keys()
    assert all((live[i] == model[i]).all() for i in model)
    asked = np.array([*model, 10_001, 10_002], np.int64)
    slots = view.slots(asked)
    assert (slots[-2:] == -1).all()
    assert (view.ids[slots[:-2]] == asked[:-2]).all()
    assert view.alive[slots[:-2]].all()


steps = st.lists(
    st.tuples(
        st.sampled_from(["append", "append", "tombstone", "change", "compact", "reserve"]),
        st.lists(st.integers(0, 60), max_size=12, unique=True),
    ),
    max_size=25,
)


@given(steps, st.integers(0, 20))
@settings(max_examples=4 * settings.default.max_examples)
def test_random_changes_never_reach_earlier_views(
    changes: list[tuple[str, list[int]]], capacity: int
) -> None:
    table, model = RowTable(DIM, capacity), dict[int, np.ndarray]()
    views = [(table.view(), dict(model))]
    for salt, (kind, ids) in enumerate(changes):
        live = [i for i in ids if i in model]
        if kind == "append":
            new = [i for i in ids if i not in model]
            slots = table.append(new, rows_of(new, salt))
            assert table.slots(new).tolist() == list(slots)
            model.update(zip(new, rows_of(new, salt), strict=True))
        elif kind in ("tombstone", "change"):
            table.tombstone(live)
            assert (table.slots(live) == -1).all()
            for i in live:
                del model[i]
            if kind == "change":
                table.append(live, rows_of(live, salt))
                model.update(zip(live, rows_of(live, salt), strict=True))
        elif kind == "compact":
            before = table.view()
            moved = table.compact()
            assert len(moved) == before.n
            assert (moved[~before.alive] == -1).all()
            kept = np.flatnonzero(before.alive)
            assert (table.view().ids[moved[kept]] == before.ids[kept]).all()
            assert (table.view().rows[moved[kept]] == before.rows[kept]).all()
            assert table.dead_share == 0
            assert table.view().n == len(kept)
        else:
            table.reserve(len(ids) * 10)
        assert len(table) == len(model)
        views.append((table.view(), dict(model)))
    for view, then in views:
        check(view, then)


def test_the_row_that_came_back_is_the_live_one() -> None:
    table = RowTable(DIM)
    assert table.append([5, 7, 9], rows_of([5, 7, 9])) == range(3)
    table.tombstone([7])
    assert table.append([7], rows_of([7], 1)) == range(3, 4)
    assert table.slots([5, 7, 9, 8]).tolist() == [0, 3, 2, -1]
    assert table.view().slots([5, 7, 9, 8]).tolist() == [0, 3, 2, -1]
    assert table.dead_share == 0.25


def test_views_are_read_only() -> None:
    table = RowTable(DIM)
    table.append([1], rows_of([1]))
    view = table.view()
    for array in (view.ids, view.rows, view.alive):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
    table.append([2], rows_of([2]))  # and the table itself still can be written


def test_appending_does_not_copy_what_is_there() -> None:
    table = RowTable(DIM, 1000)
    table.append(range(100), rows_of(list(range(100))))
    before = table.view().rows
    table.append(range(100, 1000), rows_of(list(range(100, 1000))))
    assert np.shares_memory(before, table.view().rows)
    moves = 0
    for i in range(1000, 20_000):
        last = table.view().rows
        table.append([i], rows_of([i]))
        moves += not np.shares_memory(last, table.view().rows)
    assert moves < 25
    assert sys.getrefcount(last) < 10


def test_rows_begin_with_a_line_of_the_cache() -> None:
    table = RowTable(DIM, 5)
    for ids in ([1, 2], list(range(3, 400))):
        table.append(ids, rows_of(ids))
        assert table.view().rows.ctypes.data % 64 == 0
    table.tombstone([1])
    table.compact()
    rows = table.view().rows
    assert rows.ctypes.data % 64 == 0
    table.append([1], rows_of([1]))
    assert table.view().rows.base is rows.base


@pytest.mark.parametrize(
    "bad", [[1, 1], [-1, 2], [0.5, 1.5], [[1, 2]], ["a", "b"], [True, False], [1, 2**63]]
)
def test_bad_ids(bad: list[object]) -> None:
    table = RowTable(DIM)
    with pytest.raises(InvalidInput, match="ids"):
        table.append(bad, rows_of([0, 0]))
    assert len(table) == 0


@pytest.mark.parametrize(
    "bad",
    [
        rows_of([1]),
        rows_of([1, 2])[:, :2],
        rows_of([1, 2])[0],
        rows_of([1, 2]).astype(int),
        rows_of([1, 2]) * np.nan,
        np.full((2, DIM), np.inf),
        np.full((2, DIM), 1e300),
    ],
)
def test_bad_rows(bad: np.ndarray) -> None:
    table = RowTable(DIM)
    with pytest.raises(InvalidInput, match="rows"):
        table.append([1, 2], bad)
    assert table.view().n == 0


def test_ids_that_are_live_or_not() -> None:
    table = RowTable(DIM)
    table.append([3, 4], rows_of([3, 4]))
    with pytest.raises(InvalidInput, match="4"):
        table.append([4, 5], rows_of([4, 5]))
    with pytest.raises(NotFound, match="5"):
        table.tombstone([3, 5])
    with pytest.raises(InvalidInput):
        table.tombstone([3, 3])
    check(table.view(), dict(zip([3, 4], rows_of([3, 4]), strict=True)))
    with pytest.raises(InvalidInput):
        RowTable(0)


def test_readers_see_whole_states_while_one_writes() -> None:
    table, stop, seen = RowTable(DIM), threading.Event(), []
    table.append([0], rows_of([0]))
    failures: list[BaseException] = []

    def read() -> None:
        try:
            while not stop.is_set():
                view = table.view()
                slots = view.slots(view.ids[view.alive])
                assert view.alive[slots].all()
                assert view.alive.sum() == view.live
                assert (view.rows[view.alive][:, 0] == view.ids[view.alive]).all()
                seen.append(view.n)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    end, new = time.monotonic() + 0.5, 1
    while time.monotonic() < end:
        table.append(range(new, new + 50), rows_of(list(range(new, new + 50))))
        table.tombstone(range(new, new + 40))
        if table.dead_share > 0.5:
            table.compact()
        new += 50
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert seen
