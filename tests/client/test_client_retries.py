"""Trying again: against a real socket that refuses, breaks and dawdles as it is told."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from relay import Relay
from served_client import application, client_of, listening

import trustvlm
from trustvlm import LabelInput, Queries, errors
from trustvlm.client import Client, transport
from trustvlm.errors import STATUSES

SPACE = {
    "id": 1, "name": "s", "classifier": "precomputed:2", "verifier": "same", "classifier_dim": 2,
    "verifier_dim": 2,
    "templates": [], "logit_scale": 1.0, "recipe": "flat", "revision": 0, "label_count": 0,
    "support_count": 0,
    "created_at": "2026-01-01T00:00:00+00:00",
}  # fmt: skip
BREAK, STALL = "break", "stall"

Step = Any  # BREAK, STALL, or (status, content, headers)


class Told(ThreadingHTTPServer):
    """A server that answers its requests as a list says, and keeps what came."""

    daemon_threads = True

    def __init__(self, steps: list[Step]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.steps = steps
        self.came: list[tuple[str, dict[str, str], bytes]] = []
        self.times: list[float] = []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Told

    def do_GET(self) -> None:
        self.server.times.append(time.monotonic())
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.came.append(
            (f"{self.command} {self.path}", {k.lower(): v for k, v in self.headers.items()}, body)
        )
        step = self.server.steps[min(len(self.server.came), len(self.server.steps)) - 1]
        if step == STALL:
            time.sleep(1.5)
        if step in (BREAK, STALL):
            self.close_connection = True
            return
        status, content, headers = step
        sent = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in ({"content-length": str(len(sent))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(sent)

    do_POST = do_DELETE = do_PATCH = do_CONNECT = do_GET

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def scripted(*steps: Step, **options: Any) -> Iterator[tuple[Client, Told]]:
    server = Told(list(steps))
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{server.server_port}", **options) as client:
            yield client, server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def error(kind: str, status: int | None = None, **headers: str) -> Step:
    found = status or next(
        code for of, code in STATUSES.items() if issubclass(getattr(errors, kind), of)
    )
    content = {"error": {"kind": kind, "message": f"a {kind}", "request_id": "r1"}}
    return found, content, {name.replace("_", "-"): value for name, value in headers.items()}


GOOD = (200, SPACE, {})
WRITTEN = (200, {"revision": 3}, {})


def test_what_passes_is_tried_again() -> None:
    proxy = (502, b"<html>proxy</html>", {})
    for steps in (
        [error("Overloaded"), BREAK, proxy, GOOD],
        [error("TooMany"), error("Busy"), error("Unavailable"), GOOD],
    ):
        with scripted(*steps) as (client, server):
            assert client.get_space("s").name == "s"
            assert len(server.came) == 4
            pauses = np.diff(server.times)
            assert pauses.min() >= 0.05  # half of the shortest: the rest is jitter
            assert pauses[2] >= 0.2  # doubled twice


def test_the_service_says_when() -> None:
    with scripted(error("TooMany", retry_after="1"), GOOD) as (client, server):
        client.get_space("s")
        assert np.diff(server.times)[0] >= 1


def test_a_write_is_the_same_write_each_time() -> None:
    with scripted(BREAK, error("Overloaded"), WRITTEN, BREAK, WRITTEN, WRITTEN) as (client, server):
        assert client.update_label("s", "a", text_vector=[1.0, 0.5]) == 3
        assert client.remove_support("s", [1, 2]) == 3
        assert client.remove_label("s", "a") == 3
        keys = [headers["idempotency-key"] for _, headers, _ in server.came]
        assert len(set(keys[:3])) == len(set(keys[3:5])) == 1
        assert len(set(keys)) == 3
        assert len({body for _, _, body in server.came[:3]}) == 1
        assert json.loads(server.came[0][2]) == {"text_vector": [1.0, 0.5]}
    with scripted(BREAK, GOOD) as (client, server):
        client.get_space("s")
        assert all("idempotency-key" not in headers for _, headers, _ in server.came)


@pytest.mark.parametrize(
    "kind", ["NotFound", "Conflict", "InvalidInput", "Unauthorized", "Forbidden", "TooLarge"]
)
def test_what_does_not_pass_is_told_at_once(kind: str) -> None:
    with scripted(error(kind)) as (client, server):
        with pytest.raises(getattr(errors, kind), match=f"^a {kind}") as caught:
            client.get_space("s")
        assert type(caught.value).__name__ == kind
        assert (str(caught.value), caught.value.request_id) == (f"a {kind}", "r1")
        assert len(server.came) == 1


@pytest.mark.parametrize("kind", ["ReadOnly", "SchemaMismatch", "WeightsMissing", "Damaged"])
def test_a_503_that_no_waiting_mends(kind: str) -> None:
    with scripted(error(kind)) as (client, server):
        with pytest.raises(getattr(errors, kind)):
            client.get_space("s")
        assert len(server.came) == 1


def test_it_gives_up_after_so_many_tries() -> None:
    with scripted(error("Overloaded", retry_after="0"), retries=2) as (client, server):
        with pytest.raises(errors.Overloaded) as caught:
            client.get_space("s")
        assert len(server.came) == 3
        assert caught.value.retry_after == 0
        assert "(tried 3 times)" in caught.value.__notes__
    with scripted(BREAK, retries=0) as (client, server):
        with pytest.raises(
            trustvlm.Unavailable,
            match=r"http://127.0.0.1:\d+: no answer \(.+\); is 'trustvlm serve' running",
        ):
            client.get_space("s")
        assert len(server.came) == 1


def test_it_gives_up_in_time() -> None:
    """The timeout is that of all tries and pauses together; a pause that would exceed it is not
    begun."""
    begin = time.monotonic()
    with (
        scripted(error("TooMany", retry_after="30"), timeout=5) as (client, server),
        pytest.raises(errors.TooMany),
    ):
        client.get_space("s")
    assert len(server.came) == 1
    with (
        scripted(error("Overloaded"), timeout=0.5, retries=100) as (client, server),
        pytest.raises(errors.Overloaded),
    ):
        client.get_space("s")
    assert 1 <= len(server.came) <= 8
    with (
        scripted(STALL, timeout=0.3) as (client, server),
        pytest.raises(trustvlm.Unavailable, match="no answer"),
    ):
        client.get_space("s")
    assert time.monotonic() - begin < 30


def test_nobody_is_there() -> None:
    with (
        Client("http://127.0.0.1:9", retries=1) as client,
        pytest.raises(trustvlm.Unavailable, match=r"no answer.*refused"),
    ):
        client.get_space("s")
    client.close()
    with pytest.raises(trustvlm.Unavailable, match="the client is closed"):
        client.get_space("s")


@pytest.mark.parametrize("retries", [None, 3])
def test_a_service_that_starts_again_is_waited_for(
    retries: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused connections, and a proxy's 502, do not count as tries, unless their number is said."""
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "AWAY_PAUSE_S", 0.01)
    monkeypatch.setattr(transport, "LONGEST_PAUSE_S", 0.01)
    away = [(502, b"<html>", {})] * (2 * transport.RETRIES)
    with scripted(*away, error("Overloaded"), GOOD, retries=retries) as (client, server):
        if retries is None:
            assert client.get_space("s").name == "s"
        else:
            with pytest.raises(trustvlm.Unavailable):
                client.get_space("s")
            assert len(server.came) == retries + 1
    with Client("http://127.0.0.1:9", retries=retries, timeout=1) as client:
        with pytest.raises(trustvlm.Unavailable, match="refused") as caught:
            client.get_space("s")
        tries = int(re.search(r"tried (\d+) times", caught.value.__notes__[0])[1])  # type: ignore[index]
    assert tries > 2 * transport.RETRIES if retries is None else tries == retries + 1


def test_connections_that_break_are_tried_ten_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(transport, "LONGEST_PAUSE_S", 0.001)
    with (
        scripted(BREAK) as (client, server),
        pytest.raises(trustvlm.Unavailable, match="no answer"),
    ):
        client.get_space("s")
    assert len(server.came) == transport.RETRIES + 1


def test_something_else_answers() -> None:
    with (
        scripted((200, b"<html>", {})) as (client, _),
        pytest.raises(trustvlm.Unavailable, match="answers in JSON"),
    ):
        client.get_space("s")
    with scripted((404, b"<html>  no </html>", {})) as (client, _):
        with pytest.raises(
            trustvlm.NotFound, match=r"/v1/spaces/s answered 404: <html> no </html>"
        ) as caught:
            client.get_space("s")
        assert caught.value.request_id is None
    moved = (301, b"", {"location": "http://elsewhere"})
    with (
        scripted(moved) as (client, _),
        pytest.raises(trustvlm.TrustVLMError, match="answered 301: use 'http://elsewhere' as url"),
    ):
        client.get_space("s")
    with (
        scripted(error("NoKindOfOurs", 409)) as (client, _),
        pytest.raises(trustvlm.Conflict, match="a NoKindOfOurs"),
    ):
        client.get_space("s")
    with (
        scripted(error("EXIT_CODES", 500)) as (client, _),
        pytest.raises(trustvlm.TrustVLMError, match="a EXIT_CODES"),
    ):
        client.get_space("s")


# Against the real service, through a line that breaks


@pytest.fixture
def relayed(tmp_path: Path) -> Iterator[tuple[Relay, trustvlm.TrustService]]:
    with application(tmp_path / "home") as app, listening(app) as port, Relay(port) as relay:
        app.state.serving.service.create_space("s", classifier="precomputed:8", logit_scale=10.0)
        yield relay, app.state.serving.service


def labels(count: int, start: int = 0) -> Iterator[LabelInput]:
    for i in range(start, start + count):
        rng = np.random.default_rng(i)
        yield LabelInput(
            f"label {i:05d}", text_vector=rng.normal(size=8), image_vectors=rng.normal(size=(1, 8))
        )


def test_an_answer_that_is_lost_is_given_again(
    relayed: tuple[Relay, trustvlm.TrustService],
) -> None:
    """The write was done, its answer cut: trying again gets the first answer, and nothing is done
    twice."""
    relay, service = relayed
    with Client(relay.url) as client:
        relay.cut_answers = 1
        result = client.register("s", labels(10))
        assert relay.cut_answers == 0
        assert (result.added_labels, result.added_supports, result.revision) == (
            10,
            10,
            1,
        )  # not: skipped
        relay.cut_answers = 2
        assert client.update_label("s", "label 00003", new_name="three") == 2
        relay.cut_answers = 1
        assert client.remove_support("s", [1]) == 3
        relay.cut_answers = 1
        assert client.feedback("s", Queries(np.eye(8)[:1]), "three").added == 1
    assert service.get_space("s").revision == 3


@pytest.mark.parametrize("kind", ["iterator", pytest.param("list", marks=pytest.mark.slow)])
def test_many_labels_go_on_with_the_request_that_broke(
    relayed: tuple[Relay, trustvlm.TrustService], kind: str
) -> None:
    """Labels that were committed are not sent again, and none is lost."""
    relay, service = relayed
    given = labels(1_250)
    committed: list[str] = []
    with Client(relay.url) as client:
        relay.break_after = [250_000, None]
        result = client.register(
            "s", list(given) if kind == "list" else given, on_commit=committed.extend
        )
    assert (result.added_labels, result.added_supports) == (1_250, 1_250)
    assert (result.failures, result.revision) == ((), service.get_space("s").revision)
    assert len(result.ids) == len(result.label_ids) == 1_250
    assert committed == [f"label {i:05d}" for i in range(1_250)]
    assert service.get_space("s").label_count == 1_250
    assert relay.broken == 1
    assert (
        sum(relay.sent) < 750_000
    )  # together 480,000 bytes; the first 250,000 arrived before the connection broke


@pytest.mark.slow  # by default: test_an_answer_that_is_lost_is_given_again
def test_many_labels_whose_answer_is_lost(relayed: tuple[Relay, trustvlm.TrustService]) -> None:
    relay, service = relayed
    with Client(relay.url) as client:
        relay.cut_answers = 1
        relay.cut_only = b"/labels "
        assert client.register("s", labels(1_100)).added_labels == 1_100
    assert relay.cut_answers == 0
    assert service.get_space("s").revision == 2  # the repeated request is done once


@pytest.mark.slow  # by default: test_what_an_iterator_raises_is_its_own
def test_many_labels_with_a_bad_one(relayed: tuple[Relay, trustvlm.TrustService]) -> None:
    """What was committed before stays; the error names the label."""
    relay, service = relayed

    def given() -> Iterator[LabelInput]:
        yield from labels(1_100)
        yield LabelInput("bad", text_vector=np.ones(7))
        yield from labels(300, 1_100)

    message = r"'bad': text_vector: expected shape \(n, 8\), got \(7,\)"
    with Client(relay.url) as client, pytest.raises(trustvlm.InvalidInput, match=message):
        client.register("s", given())
    assert service.get_space("s").label_count == 1_000


@pytest.mark.parametrize(
    "problem",
    [
        pytest.param(KeyError("mine"), marks=pytest.mark.slow),
        trustvlm.Unavailable("of another service"),
    ],
)
def test_what_an_iterator_raises_is_its_own(
    relayed: tuple[Relay, trustvlm.TrustService], problem: Exception
) -> None:
    relay, service = relayed

    def given() -> Iterator[LabelInput]:
        yield from labels(1_100)
        raise problem

    with Client(relay.url) as client, pytest.raises(type(problem)) as caught:
        client.register("s", given())
    assert caught.value is problem
    assert service.get_space("s").label_count in (0, 500, 1_000)


def test_a_server_that_is_gone_ends_a_registration(
    relayed: tuple[Relay, trustvlm.TrustService],
) -> None:
    relay, _ = relayed
    with Client(relay.url, retries=1, timeout=5) as client:
        relay.break_after = [300_000]
        relay.refuse_after = True
        with pytest.raises(trustvlm.Unavailable, match="no answer"):
            client.register("s", labels(2_500))


def test_too_large_is_said_and_not_lost_with_the_connection(tmp_path: Path) -> None:
    with application(tmp_path / "home", body_bytes=2**20) as app, listening(app) as port:
        app.state.serving.service.create_space("s", classifier="precomputed:8")
        app.state.serving.service.register("s", labels(2))
        with (
            Client(f"http://127.0.0.1:{port}", timeout=20) as client,
            pytest.raises(errors.TooLarge, match="1048576"),
        ):
            client.evaluate("s", Queries(np.ones((60_000, 8))), ["label 00000"] * 60_000)


def test_threads_share_a_client(relayed: tuple[Relay, trustvlm.TrustService]) -> None:
    relay, service = relayed
    service.register("s", labels(50))
    queries = Queries(np.random.default_rng(0).normal(size=(5, 8)))
    expected = service.score("s", queries)
    found: list[Any] = []

    def work(client: Client) -> None:
        for _ in range(5):
            found.append(client.score("s", queries))

    with Client(relay.url) as client:
        run_together([lambda: work(client)] * 8)
    assert len(found) == 40
    # Calls that are answered together are rounded in another way than one alone.
    assert all(np.allclose(one.trust, expected.trust, rtol=0, atol=1e-5) for one in found)


def run_together(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)


# In this process


def test_an_application_in_this_process_may_dawdle_and_break() -> None:
    async def dawdling(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(5)

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError("mine")

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        return

    for app, kind, message in (
        (dawdling, trustvlm.Unavailable, "did not answer in time"),
        (broken, LookupError, "mine"),
        (silent, trustvlm.Unavailable, "ended without an answer"),
    ):
        with client_of(app, timeout=0.2) as client, pytest.raises(kind, match=message):  # type: ignore[arg-type]
            client.get_space("s")
