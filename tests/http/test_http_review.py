"""The review queue over HTTP: what the service collects by itself, what clients may do, and the
client's queue, which is the library's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from http_service import Http, served
from served_client import client_of
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.client import Client

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: measuring/test_review.py

NAMES = ["airport", "beach", "bridge", "desert"]
WHERE = "/v1/spaces/s/review"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_back_end: None) -> Iterator[Http]:
    """A service with the space "s", without a calibration: every verdict is to be reviewed."""
    with served(tmp_path_factory.mktemp("review") / "home", require_key=True, rate=1e6) as running:
        make_space(running.service)
        running.service.register("s", World(NAMES).inputs(3))
        yield running


@pytest.fixture
def client(http: Http) -> Iterator[Client]:
    key = http.serving.home.create_key("write")[1]
    with client_of(http.app, key) as made:
        yield made
        made.review("s").collect(False, discard=True)


def incoming(count: int, seed: int) -> Queries:
    return images_of(World(NAMES), count, seed)[0]


def settled(client: Client, number: int) -> int:
    """How many items wait, once there are `number` of them or some seconds have passed."""
    for _ in range(100):
        waiting = sum(tray.open for tray in client.review("s").status().trays)
        if waiting >= number:
            break
        time.sleep(0.05)
    return waiting


def test_the_service_collects_by_itself_once_it_is_switched_on(client: Client, http: Http) -> None:
    client.score("s", incoming(5, 1))
    assert client.review("s").collect(True).collecting
    client.score("s", incoming(5, 2), rule="msp")  # experiments are not collected
    client.score("s", incoming(5, 2), labels=NAMES[:2])
    client.score("s", Queries(classifier=incoming(5, 2).classifier), rule="msp")
    one = {side: getattr(incoming(1, 6), side).tolist() for side in ("classifier", "verifier")}
    headers = {"x-api-key": http.serving.home.create_key("write")[1]}
    for choice, status in ((False, 200), ("perhaps", 422)):
        http("POST", "/v1/spaces/s/score", json=one | {"review": choice}, headers=headers,
             status=status)  # fmt: skip
    client.score("s", incoming(7, 3))
    assert settled(client, 7) == 7
    client.review("s").collect(False)
    client.score("s", incoming(5, 4))
    time.sleep(0.4)
    assert settled(client, 7) == 7


def test_a_call_that_asks_for_it_is_collected_when_it_is_answered(
    client: Client, http: Http
) -> None:
    client.score("s", incoming(6, 5), review=True)
    queue = client.review("s")
    assert sum(tray.open for tray in queue.status().trays) == 6
    page = queue.items(limit=4)
    rest = queue.items(limit=4, cursor=page.next_cursor)
    assert (len(page.items), len(rest.items), rest.next_cursor) == (4, 2, None)
    assert queue.items(limit=2_000).items == page.items + rest.items
    library = http.service.review("s")
    assert queue.next() == library.next()
    item = page.items[0]
    assert queue.question(item.id) == library.question(item.id)
    assert queue.picture(item.id) is None
    answered = queue.answer(item.id, "beach", use_as_support=True)
    assert answered.taught is not None
    assert replace(answered, taught=None) == library.items(state="answered").items[0]
    with pytest.raises(trustvlm.Conflict, match="answered already"):
        queue.answer(item.id, None)
    with pytest.raises(trustvlm.NotFound, match="beech"):
        queue.answer(rest.items[0].id, "beech")
    assert queue.undo(item.id) == item
    assert queue.skip(item.id).state == "skipped"
    with pytest.raises(trustvlm.InvalidInput, match="tray"):
        queue.items(tray="x")
    with pytest.raises(trustvlm.NotFound):
        client.review("nowhere").picture(1)


def test_a_key_that_may_only_read_stores_nothing(http: Http, client: Client) -> None:
    reader = http.serving.home.create_key("read")[1]
    headers = {"x-api-key": reader}
    body = {side: getattr(incoming(1, 6), side).tolist() for side in ("classifier", "verifier")}
    refused = http(
        "POST", "/v1/spaces/s/score", json=body | {"review": True}, headers=headers, status=403
    )
    assert "write" in refused["error"]["message"]
    assert http("GET", f"{WHERE}/next", headers=headers)["question"] is None
    client.review("s").collect(True)  # its images are collected all the same: the operator wants it
    http("POST", "/v1/spaces/s/score", json=body, headers=headers)
    assert settled(client, 1) == 1


def test_what_was_offered_is_stored_when_the_service_ends(tmp_path: Path) -> None:
    with served(tmp_path / "home") as http:
        make_space(http.service)
        http.service.register("s", World(NAMES).inputs(3))
        http("POST", WHERE, json={"collecting": True})
        queries = incoming(20, 8)
        body = {side: getattr(queries, side).tolist() for side in ("classifier", "verifier")}
        http("POST", "/v1/spaces/s/score", json=body)
    with trustvlm.open(tmp_path / "home") as service:
        assert sum(tray.open for tray in service.review("s").status().trays) == 20


def test_a_file_of_answers_goes_to_the_page_and_back(http: Http, client: Client) -> None:
    queue = client.review("s")
    client.score("s", incoming(4, 9), review=True)
    ids = [item.id for item in queue.items().items]
    reader, writer = (http.serving.home.create_key(scope)[1] for scope in ("read", "write"))
    for form in ("csv", "label-studio"):
        found = http("GET", f"{WHERE}/export?format={form}", key=reader)
        assert found["items"] == 4
        assert all(str(number) in found["content"] for number in ids)
    rows = [f"{ids[0]},bridge", f"{ids[1]},(none of the labels)", f"{ids[2]},", f"{ids[3]},brdge"]
    text = "\ufeffid,truth\n" + "\n".join([*rows, "987654,bridge"])

    def imported(content: str) -> Any:
        body = {"content": content}
        begun = http("POST", f"{WHERE}/import", json=body, key=writer, status=202)
        return http.job(begun, key=writer)

    result = imported(text)["result"]
    assert (result["answered"], result["same"], result["unanswered"]) == (2, 0, 1)
    reasons = dict(result["failures"])
    assert "did you mean 'bridge'" in reasons[ids[3]]
    assert "no review item 987654" in reasons[987654]
    assert {item.id: item.truth for item in queue.items(state="answered").items} == {
        ids[0]: "bridge", ids[1]: None,
    }  # fmt: skip
    again = imported(text)["result"]
    assert (again["answered"], again["same"]) == (0, 2)
    refused = imported("a,b")["error"]["message"]
    assert refused.startswith("content: expected the columns id and truth")
    http("POST", f"{WHERE}/import", json={"content": text}, key=reader, status=403)
    for number in ids[:2]:
        assert queue.undo(number).state == "open"
