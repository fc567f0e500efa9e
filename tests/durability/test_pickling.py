"""Answers travel: pickled, copied, sent to a worker, they say the same. Open services and clients
stay, and say so."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from served_client import application, client_of
from test_promise import labelled
from worlds import World, make_space

import trustvlm
from trustvlm import LabelInput, errors
from trustvlm.client import Client
from trustvlm.types import Embedded

Answers = dict[str, Any]


def answers(service: Any, world: World) -> Answers:
    """One of everything that the verbs give, of the library or the client."""
    queries, truth = labelled(world, 20)
    registered = service.register(
        "s", [*world.inputs(3), LabelInput("bare", text_vector=np.ones(16))]
    )
    found = {
        "registered": registered,
        "calibration": service.calibrate("s", queries, truth, max_risk=0.4),
        "verdicts": service.score("s", queries, top_k=3),
        "plain": service.score("s", queries, rule="msp"),
        "evaluation": service.evaluate(
            "s", queries, truth, rules=["msp", "posterior"], items=True, draws=1
        ),
        "hits": service.search("s", queries, k=4),
        "space": service.get_space("s"),
        "labels": list(service.list_labels("s")),
        "supports": service.list_supports("s", "airport"),
        "fed back": service.feedback("s", queries, truth, sampling="random"),
        "monitored": service.monitor("s"),
        "counts": service.count_observations("s"),
        "embedded": Embedded(queries, ["a.jpg"], [("b.jpg", "damaged")], (0,), (1,)),
    }
    return found | {"evidence": found["verdicts"].evidence(0)}


@pytest.fixture(scope="module")
def by_library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    world = World(["airport", "beach", "bridge"])
    with trustvlm.open(tmp_path_factory.mktemp("pickling") / "home", create=True) as service:
        yield made(service, service, world) | {
            "verified": service.verify(),
            "index": service.index_stats("s"),
        }


@pytest.fixture(scope="module")
def by_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answers]:
    world = World(["airport", "beach", "bridge"])
    with application(tmp_path_factory.mktemp("pickling") / "home") as app, client_of(app) as client:
        yield made(app.state.serving.service, client, world)


def made(service: trustvlm.TrustService, asked: Any, world: World) -> Answers:
    make_space(service)
    return answers(asked, world) | {"queries": world.queries(1)}


def require_same(got: Any, expected: Any) -> None:
    """The same to the last bit, whatever it is; where evidence is read from is for tests of their
    own."""
    assert type(got) is type(expected)
    if isinstance(expected, np.ndarray):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)
    elif isinstance(expected, list | tuple):
        assert len(got) == len(expected)
        for one, other in zip(got, expected, strict=True):
            require_same(one, other)
    elif hasattr(expected, "__dataclass_fields__"):
        for field in fields(expected):
            if field.name != "read_evidence":
                require_same(getattr(got, field.name), getattr(expected, field.name))
    elif isinstance(expected, float):
        np.testing.assert_equal(got, expected)
    else:
        assert got == expected


WAYS: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle {p}": partial(lambda p, value: pickle.loads(pickle.dumps(value, protocol=p)), p)
        for p in range(6)
    },
    "cloudpickle": lambda value: cloudpickle.loads(cloudpickle.dumps(value)),
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("made_by", ["library", "client"])
def test_an_answer_is_the_same_afterwards(
    request: pytest.FixtureRequest, made_by: str, way: str
) -> None:
    found: Answers = request.getfixturevalue(f"by_{made_by}")
    for name, value in found.items():
        travelled = WAYS[way](value)
        require_same(travelled, value)
        if name in ("verdicts", "hits"):
            assert list(travelled.rows()) == list(value.rows())
            assert repr(travelled)
    evaluation, calibration = (WAYS[way](found[name]) for name in ("evaluation", "calibration"))
    assert evaluation["msp"].accuracy == found["evaluation"]["msp"].accuracy
    assert evaluation.to_dict() == found["evaluation"].to_dict()
    assert calibration.to_dict() == found["calibration"].to_dict()
    np.testing.assert_array_equal(
        calibration.probability(np.arange(3.0)), found["calibration"].probability(np.arange(3.0))
    )


@pytest.mark.parametrize("made_by", ["library", "client"])
def test_evidence_stays_with_its_service(request: pytest.FixtureRequest, made_by: str) -> None:
    verdicts = request.getfixturevalue(f"by_{made_by}")["verdicts"]
    for copied in (copy.copy(verdicts), copy.deepcopy(verdicts)):
        assert copied.evidence(2) == verdicts.evidence(2)
    once = pickle.loads(pickle.dumps(verdicts))
    for travelled in (once, pickle.loads(pickle.dumps(once)), copy.deepcopy(once)):
        with pytest.raises(
            trustvlm.Unavailable, match=r"verdicts.rows\(evidence=3\), or score again"
        ):
            travelled.evidence(2)
        with pytest.raises(IndexError):
            travelled.evidence(len(verdicts))
    rows = list(verdicts.rows(evidence=2))  # what the sentence says works
    assert pickle.loads(pickle.dumps(rows)) == rows


def in_a_worker(found: Answers) -> Answers:
    """What arrives there goes back, with what only a reader of it knows."""
    return found | {
        "rows": list(found["verdicts"].rows()),
        "errors": len(found["evaluation"].rules),
    }


@pytest.mark.slow  # by default: test_an_answer_is_the_same_afterwards
def test_a_worker_gets_and_gives_them(by_library: Answers) -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        back = pool.submit(in_a_worker, by_library).result(120)
    assert back.pop("rows") == list(by_library["verdicts"].rows())
    assert back.pop("errors") == 2
    for name, value in by_library.items():
        require_same(back[name], value)


# What stays


@pytest.mark.parametrize("way", WAYS)
def test_services_and_clients_stay(tmp_path: Path, way: str) -> None:
    with (
        trustvlm.open(tmp_path / "home", create=True) as service,
        Client("http://127.0.0.1:9", "a-secret-key") as client,
    ):
        for one, remedy in (
            (service, "call trustvlm.open there"),
            (client, "pass its url and key, and make a Client there"),
        ):
            for value in (
                one,
                [one],
                partial(one.get_space, "s"),
            ):  # in anything that would take it along
                if way == "copy" and value is not one:
                    continue
                with pytest.raises(
                    trustvlm.Unavailable, match=f"cannot be pickled or copied: .*{remedy}"
                ) as caught:
                    WAYS[way](value)
                assert isinstance(caught.value, TypeError)
                assert "secret" not in str(caught.value)
        assert list(service.list_spaces()) == []  # and is none the worse


def test_a_worker_refuses_a_service(tmp_path: Path) -> None:
    """The refusal arrives through the machinery of futures, not as a worker that is gone."""
    context = multiprocessing.get_context("spawn")
    with (
        trustvlm.open(tmp_path / "home", create=True) as service,
        ProcessPoolExecutor(1, mp_context=context) as pool,
        pytest.raises(errors.StaysHere, match="a TrustService cannot be pickled"),
    ):
        pool.submit(in_a_worker, {"service": service}).result(60)


# Errors


@pytest.mark.parametrize(
    "kind",
    [getattr(errors, name) for name in errors.__all__ if name[0].isupper() and name[1].islower()],
)
@pytest.mark.parametrize("way", WAYS)
def test_errors_travel(kind: type[errors.TrustVLMError], way: str) -> None:
    error = kind(
        "queries: a row – with an ünusual message",
        *([7.5] if hasattr(kind("x"), "retry_after") else []),
    )
    error.request_id = "r1"
    error.add_note("(request id r1)")
    found = WAYS[way](error)
    assert type(found) is kind
    assert str(found) == str(error)
    assert vars(found) == vars(error)


def test_errors_that_really_happened_travel(by_library: Answers, tmp_path: Path) -> None:
    attempts: list[Callable[[], Any]] = [
        lambda: by_library["verdicts"].read_evidence(0, 0),
        lambda: trustvlm.open(tmp_path / "nowhere"),
        lambda: trustvlm.Client("ftp://there"),
        lambda: pickle.loads(pickle.dumps(by_library["verdicts"])).evidence(0),
    ]
    for attempt in attempts:
        with pytest.raises(trustvlm.TrustVLMError) as caught:
            attempt()
        found = pickle.loads(pickle.dumps(caught.value))
        assert (type(found), str(found)) == (type(caught.value), str(caught.value))
