"""Every number that a verb takes, at and beyond its bounds: refused with the bounds, or done in
time, wherever it is given."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from http_service import Http, served
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.errors import InvalidInput
from trustvlm.selective.monitoring import monitor
from trustvlm.selective.risk import (
    find_threshold,
    risk_upper_bound,
    smallest_accepted,
    threshold_grid,
)
from trustvlm.service.server.server_home import ServerHome
from trustvlm.types.bounds import NUMBERS, WHOLE

EXTREME: list[Any] = [
    math.nan, math.inf, -math.inf, 5e-324, -5e-324, 1e-12, 1e-300, -1.0, 0.0, 0.5, 1.0, 1 - 2**-53,
    1e300, 2.5, 0, 1, -1, 2**31,
    2**63, 2**70, 10**5_000, True, None, "0.5", np.float32(0.25), np.int64(3), np.array([0.5]),
    1 + 0j,
]  # fmt: skip
SECONDS = 20.0
"""The longest that a call may take: most are refused, the others are small."""

Call = Callable[[trustvlm.TrustService, Any], object]
ONE = Queries(np.ones((1, TEXT_DIM)), np.ones((1, IMAGE_DIM)))


def labelled(count: int = 6) -> tuple[Queries, list[str]]:
    rng = np.random.default_rng(4)
    return Queries(rng.normal(size=(count, TEXT_DIM)), rng.normal(size=(count, IMAGE_DIM))), [
        "cat",
        "dog",
    ] * (count // 2)


VERBS: dict[str, Call] = {
    "calibrate max_risk": lambda s, x: s.calibrate("s", *labelled(), max_risk=x),
    "calibrate confidence": lambda s, x: s.calibrate("s", *labelled(), confidence=x),
    "calibrate unknown_rate": lambda s, x: s.calibrate("s", *labelled(), unknown_rate=x),
    "calibrate params": lambda s, x: s.calibrate(
        "s", *labelled(), rule="trustvlm", params={"lambda": x}
    ),
    "recalibrate max_risk": lambda s, x: s.recalibrate("s", max_risk=x),
    "recalibrate confidence": lambda s, x: s.recalibrate("s", confidence=x),
    "evaluate risk": lambda s, x: s.evaluate("s", *labelled(), risk=x, rules=["msp"], draws=0),
    "evaluate coverage": lambda s, x: s.evaluate(
        "s", *labelled(), coverage=x, rules=["msp"], draws=0
    ),
    "evaluate confidence": lambda s, x: s.evaluate(
        "s", *labelled(), confidence=x, rules=["msp"], draws=0, items=True
    ),
    "evaluate draws": lambda s, x: s.evaluate("s", *labelled(), draws=x, rules=["msp"]),
    "monitor alpha": lambda s, x: s.monitor("s", alpha=x),
    "score top_k": lambda s, x: s.score("s", ONE, rule="msp", top_k=x),
    "score lambda": lambda s, x: s.score("s", ONE, rule="trustvlm_star", params={"lambda": x}),
    "score temperature": lambda s, x: s.score("s", ONE, rule="knn", params={"temperature": x}),
    "score tau": lambda s, x: s.score("s", ONE, rule="posterior", params={"tau": x}),
    "evidence k": lambda s, x: s.score("s", ONE).evidence(0, x),
    "search k": lambda s, x: s.search("s", ONE, k=x),
    "create_space logit_scale": lambda s, x: s.create_space(
        str(time.monotonic_ns()), classifier="precomputed:4", logit_scale=x
    ),
    "tune_index recall": lambda s, x: s.tune_index("s", recall=x),
    "tune_index k": lambda s, x: s.tune_index("s", k=x),
    "suggest_recipe milliseconds": lambda s, x: s.suggest_recipe("s", milliseconds=x),
    "create_key rate": lambda s, x: ServerHome(s).create_key("read", rate=x),
    "create_key days": lambda s, x: ServerHome(s).create_key("read", days=x),
    "rotate_key overlap": lambda s, x: ServerHome(s).rotate_key(
        ServerHome(s).create_key("read")[0].id, overlap=x
    ),
    "purge older_than": lambda s, x: s.purge(older_than=x),
    "remove_support ids": lambda s, x: s.remove_support("s", x),
    "restore_support ids": lambda s, x: s.restore_support("s", [x]),
    "remove_calibration": lambda s, x: s.remove_calibration("s", x),
    "thumbnail": lambda s, x: s.thumbnail(x),
    "smallest_accepted max_risk": lambda _, x: smallest_accepted(x, 0.9),
    "smallest_accepted confidence": lambda _, x: smallest_accepted(0.05, x),
    "risk_upper_bound": lambda _, x: risk_upper_bound(10, 1, x),
    "threshold_grid max_risk": lambda _, x: threshold_grid([0.1, 0.9], [0, 1], 10, max_risk=x),
    "threshold_grid images": lambda _, x: threshold_grid([0.1, 0.9], [0, 1], x),
    "threshold_grid points": lambda _, x: threshold_grid([0.1, 0.9], [0, 1], 10, points=x),
    "find_threshold max_risk": lambda _, x: find_threshold([0.1, 0.9], [0, 1], [0.5], max_risk=x),
    "monitoring alpha": lambda _, x: monitor([True, False], 0.1, x),
}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path_factory.mktemp("extreme") / "home", create=True) as service:
        make_space(service)
        service.register("s", World(["cat", "dog"]).inputs(3))
        service.calibrate("s", *labelled(), rule="msp")
        yield service


def refused_or_done(call: Call, service: trustvlm.TrustService, value: Any) -> None:
    begin = time.monotonic()
    try:
        call(service, value)
    except InvalidInput as error:
        said = str(error)
    except trustvlm.TrustVLMError:
        said = "expected"  # of what is there, such as calibration 1
    else:
        said = "expected"
    assert len(said) < 400
    assert any(word in said for word in ("expected", "ids", "fewer", "must")), said
    assert time.monotonic() - begin < SECONDS


@pytest.mark.parametrize("verb", VERBS)
def test_extreme_numbers_of_the_library(filled: trustvlm.TrustService, verb: str) -> None:
    times = [
        timedelta(hours=1e6),
        timedelta.max,
        timedelta.min,
        timedelta(microseconds=-1),
        timedelta(0),
    ]
    for value in (
        times if verb in ("rotate_key overlap",) else [*EXTREME, timedelta.max, timedelta.min]
    ):
        refused_or_done(VERBS[verb], filled, value)
    for calibration in filled.list_calibrations("s"):
        json.dumps(calibration.to_dict(), allow_nan=False)


def test_a_refusal_names_the_bounds(filled: trustvlm.TrustService) -> None:
    for call, words in (
        (
            lambda: filled.calibrate("s", *labelled(), max_risk=1e-12),
            "max_risk: expected a number from 1e-06 to 0.999999, got",
        ),
        (
            lambda: filled.calibrate("s", *labelled(), confidence=5e-324),
            "confidence: expected a number from 1e-06 to 0.999999",
        ),
        (
            lambda: filled.evaluate("s", *labelled(), draws=101),
            "draws: expected a whole number from 0 to 100, got 101",
        ),
        (
            lambda: filled.score("s", ONE, rule="knn", params={"temperature": 0}),
            "temperature: expected a number from 0.0001",
        ),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert words in str(caught.value)


def test_the_least_and_the_largest_are_taken() -> None:
    """The bounds themselves, in the closed form: the smallest count whose chance without an error
    is small enough."""
    for risk in NUMBERS["max_risk"]:
        for confidence in NUMBERS["confidence"]:
            count = smallest_accepted(risk, confidence)
            expected = math.log1p(-confidence) / math.log1p(-risk)
            assert max(1, math.floor(expected)) <= count <= math.ceil(expected) + 1
    assert (smallest_accepted(), smallest_accepted(0.01, 0.95), smallest_accepted(0.1, 0.9)) == (
        45,
        299,
        22,
    )


BODIES: list[tuple[str, str, dict[str, Any]]] = [
    ("calibrate", name, {}) for name in ("max_risk", "confidence", "unknown_rate")
] + [
    ("evaluate", name, {"rules": ["msp"]}) for name in ("risk", "coverage", "confidence", "draws")
] + [("score", "top_k", {}), ("search", "k", {}), ("score", "evidence", {}),
("observations/calibrate", "max_risk", {}),
     ("observations/evaluate", "draws", {"rules": ["msp"]})]  # fmt: skip


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    home = tmp_path_factory.mktemp("extreme") / "http"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", World(["cat", "dog"]).inputs(3))
        service.calibrate("s", *labelled(), rule="msp")
    with served(home) as http:
        yield http


JSON_VALUES = [
    "NaN", "Infinity", "-Infinity", "5e-324", "1e-12", "-1", "0", "1", "1e400", "9" * 5_000, "2.5",
    "true", '"1"',
]  # fmt: skip


@pytest.mark.parametrize(
    ("path", "name", "more"), BODIES, ids=[f"{path} {name}" for path, name, _ in BODIES]
)
def test_extreme_numbers_over_http(http: Http, path: str, name: str, more: dict[str, Any]) -> None:
    queries, truth = labelled()
    body = {
        "classifier": np.asarray(queries.classifier).tolist(),
        "verifier": np.asarray(queries.verifier).tolist(),
    } | more
    if path in ("calibrate", "evaluate"):
        body["truth"] = truth
    if path.startswith("observations"):
        body = dict(more)
    for value in JSON_VALUES:
        comma = ", " if body else ""
        content = f'{json.dumps(body)[:-1]}{comma}"{name}": {value}}}'
        begin = time.monotonic()
        response = http.ask(
            "POST",
            f"/v1/spaces/s/{path}",
            status=None,
            content=content,
            headers={"content-type": "application/json"},
        )
        assert response.status_code in (200, 202, 422), response.text
        if response.status_code == 422:
            assert (
                name in response.json()["error"]["message"] or len(value) > 1_000
            )  # no JSON parser takes those
        elif response.status_code == 202:
            assert http.job(response.json(), SECONDS)["state"] in ("done", "failed")
        assert time.monotonic() - begin < SECONDS
    assert http("GET", "/v1/spaces/s/calibrations")["calibrations"]
    for query in ("alpha=nan", "alpha=5e-324", "alpha=inf", "alpha=-1"):
        assert (
            http.ask("GET", f"/v1/spaces/s/monitor?{query}", status=422)
            .json()["error"]["message"]
            .startswith("alpha")
        )
    for query in ("limit=0", "limit=-1", "limit=1e400", "limit=nan", f"limit={2**70}"):
        for where in ("spaces/s/labels", "jobs"):
            http.ask("GET", f"/v1/{where}?{query}", status=422)


def test_lists_survive_what_an_old_home_stored(tmp_path: Path) -> None:
    """A program without these bounds stored numbers that JSON does not have: they are null, and the
    rest is there."""
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", World(["cat", "dog"]).inputs(3))
        service.calibrate("s", *labelled(), rule="msp")
        with service._home.catalog.write("calibrate") as connection:
            connection.exec_driver_sql(
                "UPDATE calibrations SET content = json_set(content, '$.confidence', 5e-324, "
                "'$.risk_bound', NULL)"
            )
            connection.exec_driver_sql(
                "UPDATE calibrations SET content = replace(content, '\"risk_bound\":null', "
                "'\"risk_bound\":NaN')"
            )
        assert math.isnan(service.list_calibrations("s")[0].risk_bound)
    with served(home) as http:
        (row,) = http("GET", "/v1/spaces/s/calibrations")["calibrations"]
        assert (row["risk_bound"], row["confidence"], row["rule"]) == (None, 5e-324, "msp")
        http(
            "POST",
            "/v1/spaces/s/score",
            json={"classifier": [[1.0] * TEXT_DIM], "verifier": [[1.0] * IMAGE_DIM]},
        )
        begun = http("POST", "/v1/spaces/s/observations/calibrate", json={}, status=202)
        assert "confidence: expected" in http.job(begun)["error"]["message"]


OPTIONS = [
    (("calibrate", "s", "--vectors", "FILE"), ("--max-risk", "--confidence", "--unknown-rate")),
    (("evaluate", "s", "--vectors", "FILE"), ("--risk", "--coverage", "--draws")),
    (
        ("score", "s", "--vectors", "FILE"),
        ("--top-k", "--lambda", "--temperature", "--tau", "--evidence"),
    ),
    (("search", "s", "--vector", "FILE"), ("-k",)),
    (("monitor", "s"), ("--alpha",)),
    (("index", "tune", "s"), ("--recall", "-k")),
    (("index", "suggest", "s"), ("--ms",)),
    (("space", "create", "t", "--classifier", "precomputed:4"), ("--logit-scale",)),
    (("space", "show", "s"), ("--limit",)),
    (("key", "create", "--scope", "read"), ("--rate", "--days")),
    (("key", "rotate", "none"), ("--overlap-hours",)),
    (("purge",), ("--older-than",)),
    (("serve",), ("--port", "--workers")),
]
VALUES = ("nan", "-inf", "-1", "9" * 400, "1e400")


@pytest.mark.parametrize(
    ("command", "options"), OPTIONS, ids=[" ".join(command[:2]) for command, _ in OPTIONS]
)
def test_extreme_numbers_on_the_command_line(
    cli: Cli, tmp_path: Path, command: tuple[str, ...], options: tuple[str, ...]
) -> None:
    with trustvlm.open(cli.home, create=True) as service:
        make_space(service)
        service.register("s", World(["cat", "dog"]).inputs(3))
    file = tmp_path / "q.npz"
    np.savez(file, classifier=np.ones((1, TEXT_DIM)))
    for option in options:
        for value in VALUES:
            given = [str(file) if word == "FILE" else word for word in command]
            said = cli(
                *given,
                f"{option}={value}" if option.startswith("--") else f"{option}{value}",
                code=2,
            )
            assert f"Invalid value for '{option}'" in said, said


def test_every_bound_is_a_range() -> None:
    for low, high in [*NUMBERS.values(), *WHOLE.values()]:
        assert -sys.float_info.max < low < high < sys.float_info.max
