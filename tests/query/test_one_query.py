"""The path of one query is short, and what readers are given is never written by them."""

from __future__ import annotations

import hashlib
import os
import sys
import threading
from pathlib import Path
from types import FrameType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import RULES, Queries
from trustvlm.index.faiss_store import Store

PACKAGE = Path(trustvlm.__file__).parent
FOLDER, SERVER = f"{PACKAGE}{os.sep}", f"{PACKAGE / 'http'}{os.sep}"

MOST_FILES, MOST_FUNCTIONS, MOST_CALLS = 27, 80, 100
"""Of one warm query. It was 52 files, 182 functions and 307 calls."""


def calls_of(service: trustvlm.TrustService, query: Queries) -> list[tuple[str, str]]:
    """The calls of functions of the package that one `score` makes: (file, name) of each.

    What the HTTP service does in between, for an object of another test that is collected just
    then, is left out: nothing below imports it.
    """
    entered: list[tuple[str, str]] = []

    def record(frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(FOLDER) and not path.startswith(SERVER):
            entered.append((path, frame.f_code.co_qualname))

    sys.setprofile(record)
    try:
        service.score("s", query)
    finally:
        sys.setprofile(None)
    return entered


def test_one_warm_query_enters_few_files(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(3))
    query = Queries(world.text[:1], world.images[:1])
    for _ in range(2):
        service.score("s", query)
    # A clock's tick or a collected object of another test may add a call: the shortest counts.
    entered = min((calls_of(service, query) for _ in range(5)), key=len)
    files = {Path(path).relative_to(PACKAGE).as_posix() for path, _ in entered}
    assert len(files) <= MOST_FILES, sorted(files)
    assert len(set(entered)) <= MOST_FUNCTIONS
    assert len(entered) <= MOST_CALLS
    six = ["query/verbs", "query/score", "query/candidates", "query/judge", "query/decide"]
    assert {f"service/{name}.py" for name in six} | {"scoring/rules.py"} <= files
    assert not [name for name in files if name.startswith(("index/live", "index/faiss"))]


OPAQUE = (str, int, float, complex, bool, type(None), bytes, type, Path, ModuleType)
OPAQUE += (FunctionType, MethodType, Store)
KEPT: list[object] = []
LOCKS = (type(threading.Lock()), type(threading.RLock()), threading.Condition)


def state_of(root: object) -> dict[int, object]:
    """Every object of ours and every array that can be reached: id → what it holds. What may be
    left out is what changes no answer: locks, faiss's own memory, the marks of checked rows."""
    states: dict[int, object] = {}
    waiting, kept = [root], []
    while waiting:
        one = waiting.pop()
        if id(one) in states or isinstance(one, (*OPAQUE, *LOCKS)):
            continue
        kept.append(one)  # so that no id is used again
        if isinstance(one, np.ndarray):
            states[id(one)] = hashlib.sha256(np.ascontiguousarray(one).tobytes()).hexdigest()
            continue
        if isinstance(one, dict):
            inside = [*one.keys(), *one.values()]
        elif isinstance(one, (list, tuple, set, frozenset)):
            inside = list(one)
        else:
            values = dict(getattr(one, "__dict__", {}))
            values.pop("_checked", None)
            inside = [*values.keys(), *values.values()]
        states[id(one)] = [v if isinstance(v, OPAQUE) else id(v) for v in inside]
        waiting += inside
    KEPT.append(kept)
    return states


def test_a_write_would_show() -> None:
    box = type("Box", (), {})()
    box.values, box.memo = np.zeros(2), {}
    before = state_of(box)
    assert state_of(box) == before
    writes = (lambda: box.values.fill(1), lambda: box.memo.update(a=1), lambda: vars(box).clear())
    for write in writes:
        write()
        after = state_of(box)
        assert after != before
        before = after


@pytest.mark.parametrize("half_from", ["1000000", "4"])
@pytest.mark.parametrize("recipe", ["flat", pytest.param("flat-fp16", marks=pytest.mark.slow)])
def test_readers_write_nothing_that_a_view_reaches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half_from: str, recipe: str
) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", half_from)
    world = World([f"label {i}" for i in range(12)], 3)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space(
            "s",
            classifier=f"precomputed:{TEXT_DIM}",
            verifier=f"precomputed:{IMAGE_DIM}",
            recipe=recipe,
        )
        service.register("s", world.inputs(3)[:10])
        service.score("s", world.queries())
        service._home.caches.close()  # waits for the snapshot that many labels are read from
        service.update_label("s", "label 3", text_vector=world.text[4])  # a row out of order
        service.register("s", world.inputs(3)[10:])
        service.alias("s", "label 1", "label 2")
        service.remove_label("s", "label 5")
        with service._home.snapshot("s") as reading:
            view = reading.view
            before = state_of(view)
        for rule in RULES:
            service.score("s", world.queries(), rule=rule, top_k=3)
        service.score("s", world.queries(), labels=["label 3", "label 7"]).evidence(0, 2)
        for kind in ("support", "prototype", "text"):
            service.search("s", world.queries(), kind=kind, k=4)
        service.near_synonyms("s")
        service.index_stats("s")
        truth = [None if name == "label 5" else name for name in world.names for _ in range(3)]
        service.calibrate("s", world.queries(), truth)
        with service._home.snapshot("s") as again:
            assert again.view.revision == view.revision
        after = state_of(view)
    assert before == after
