"""The verdict log over HTTP: rows carry the id of their request, however many requests share a
call, and the client's log is the library's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from http_service import Http, served
from served_client import client_of
from test_verdict_reasons import images_of
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.client import Client
from trustvlm.types.messages.advised import placed_answer
from trustvlm.types.messages.commands import at

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: history/test_verdict_log.py

NAMES = ["airport", "beach", "bridge", "desert"]
WHERE = "/v1/spaces/s"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_back_end: None) -> Iterator[Http]:
    """A service with the space "s", whose log is on."""
    with served(tmp_path_factory.mktemp("log") / "home", require_key=True, rate=1e6) as running:
        make_space(running.service)
        running.service.register("s", World(NAMES).inputs(3))
        yield running


@pytest.fixture
def client(http: Http) -> Iterator[Client]:
    key = http.serving.home.create_key("write")[1]
    with client_of(http.app, key) as made:
        made.verdict_log("s").switch(True, discard=True)
        yield made


def incoming(count: int, seed: int) -> Queries:
    return images_of(World(NAMES), count, seed)[0]


def test_rows_carry_the_id_of_their_request(http: Http, client: Client) -> None:
    key = http.serving.home.create_key("read")[1]

    def request(number: int, **more: object) -> dict[str, object]:
        queries = incoming(number, number)
        body = {"classifier": queries.classifier.tolist(), "verifier": queries.verifier.tolist()}
        headers = {"authorization": f"Bearer {key}", "x-request-id": f"call-{number}"}
        return {
            "method": "POST", "url": f"{WHERE}/score", "json": body | more, "headers": headers,
        }  # fmt: skip

    numbers = range(1, 9)
    answers = http.together(
        [request(number, review=False if number % 4 == 0 else None) for number in numbers]
    )
    log = client.verdict_log("s")
    for number, answer in zip(numbers, answers, strict=True):
        given = answer.json()["verdicts"]
        rows = log.page(request_id=f"call-{number}").verdicts[::-1]
        if number % 4 == 0:  # an experiment
            assert rows == ()
            continue
        assert [(row.label, row.trust) for row in rows] == [
            (one["label"], one["trust"]) for one in given
        ]
    text = http.ask("GET", "/metrics", key=http.serving.home.create_key("admin")[1]).text
    stored = next(
        line for line in text.splitlines() if line.startswith("trustvlm_verdict_log_rows_total{")
    )
    assert float(stored.split()[-1]) == log.status().stored == sum(n for n in numbers if n % 4)
    assert 'trustvlm_verdict_log_dropped_total{space="s"} 0.0' in text


def test_the_client_reads_what_the_library_reads(
    http: Http, client: Client, tmp_path: Path
) -> None:
    client.score("s", incoming(7, 1))
    client.score("s", Queries(*_sides(incoming(2, 2)), claimed=["beach", "none"]))
    ours, theirs = client.verdict_log("s"), http.service.verdict_log("s")
    assert ours.status() == theirs.status()
    assert ours.status().stored == 9
    page = ours.page(limit=4)
    assert page == theirs.page(limit=4)
    assert ours.page(limit=4, cursor=page.next_cursor, since=page.verdicts[-1].at) == theirs.page(
        limit=4, cursor=page.next_cursor, since=page.verdicts[-1].at
    )
    assert ours.page(sample=3, seed=2) == theirs.page(sample=3, seed=2)
    assert ours.export(tmp_path / "v.parquet") == 9
    assert pq.read_table(tmp_path / "v.parquet").equals(theirs.page().to_arrow())
    assert ours.switch(False, days=2, rows=5).rows == 5
    for wrong in ({"days": -1}, {"rows": 0}):
        with pytest.raises(trustvlm.InvalidInput):
            ours.switch(True, **wrong)
    with pytest.raises(trustvlm.NotFound):
        client.verdict_log("nowhere").status()


def _sides(queries: Queries) -> tuple[object, object]:
    return queries.classifier, queries.verifier


def test_a_read_key_reads_and_does_not_switch(http: Http, client: Client) -> None:
    key = http.serving.home.create_key("read")[1]
    http("GET", f"{WHERE}/verdict-log", key=key)
    http("POST", f"{WHERE}/verdict-log", status=403, key=key, json={"logging": False})
    wrong = http("GET", f"{WHERE}/verdicts?since=2030-01-01T00:00:00", status=422, key=key)
    assert "time zone" in wrong["error"]["message"]
    http("GET", f"{WHERE}/verdicts?cursor=x", status=422, key=key)
    key = http.serving.home.create_key("write")[1]
    http("POST", f"{WHERE}/verdict-log", status=422, key=key, json={"logging": True, "days": 0})


def test_the_client_reads_what_traffic_looks_like(http: Http, client: Client) -> None:
    queries, truth = images_of(World(NAMES), 200, 1)
    client.calibrate("s", queries, truth, max_risk=0.5)
    rows = 60
    client.verdict_log("s").switch(True, rows=100, discard=True)
    rng = np.random.default_rng(3)
    client.score(
        "s", Queries(rng.normal(size=(rows, TEXT_DIM)), rng.normal(size=(rows, IMAGE_DIM)))
    )
    ours, theirs = client.monitor("s"), http.service.monitor("s")
    with at(client.place):
        assert ours == placed_answer(theirs)
    assert ours.traffic is not None
    assert (ours.traffic.at_least, ours.traffic.answers) == (None, rows)
    assert "there are 12" in ours.traffic.message


def test_names_of_embeddings_are_logged_and_shown(http: Http, client: Client) -> None:
    """The client sends embeddings, of images too: their names go with them."""
    names = ["a/1.png", None, "odd \0 \ud800"]
    queries = replace(incoming(3, 4), sources=names)
    verdicts = client.score("s", queries, rule="msp", review=True)
    assert verdicts.source.tolist() == names
    shown = ["odd \\x00 \\ud800", None, "a/1.png"]
    assert verdicts.to_arrow().column("source").to_pylist() == shown[::-1]
    assert [row.source for row in client.verdict_log("s").page().verdicts] == shown
    waiting = client.review("s").items().items
    assert {item.source for item in waiting} == {*shown}
    client.review("s").collect(False, discard=True)
    key = http.serving.home.create_key("read")[1]
    body = {"verifier": [[1.0] * IMAGE_DIM] * 2, "classifier": [[1.0] * TEXT_DIM] * 2}
    scored = http("POST", f"{WHERE}/score", key=key, json=body | {"sources": ["x", None]})
    assert [one["source"] for one in scored["verdicts"]] == ["x", None]
    for verb, given in (("score", ["x"]), ("score", ["x" * 5_000] * 2), ("search", ["x", "y"])):
        wrong = http("POST", f"{WHERE}/{verb}", status=422, key=key, json=body | {"sources": given})
        assert "sources" in wrong["error"]["message"]


def test_names_beside_queries(client: Client, http: Http) -> None:
    queries = replace(incoming(4, 5), sources=list("abcd"))
    for service in (client, http.service):
        report = service.evaluate("s", queries, [NAMES[0]] * 4, draws=0, items=True)
        assert [one.source for one in report.items or ()] == list("abcd")
        with pytest.raises(trustvlm.InvalidInput, match="sources: given twice"):
            service.evaluate("s", queries, [NAMES[0]] * 4, sources=list("wxyz"))
        with pytest.raises(trustvlm.InvalidInput, match="sources: expected 4 names"):
            service.score("s", replace(queries, sources=["a"]))
        with pytest.raises(trustvlm.InvalidInput, match="takes no names"):
            service.search("s", queries)
