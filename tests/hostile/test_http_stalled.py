"""Clients that stop: in their headers, in a body, or reading the answer. Others are answered, and
SIGTERM ends it all."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import numpy as np
import psutil
import pytest
from http_service import served
from server_process import ready, server

import trustvlm

HEAD = b"POST /v1/spaces/s/score HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
STALLED = HEAD + b"Content-Length: 1000\r\n\r\n{"
ENOUGH_S = 20.0


def prepared(home: Path, **settings: float) -> None:
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        service.register(
            "s",
            [
                trustvlm.LabelInput(f"l{i}", text_vector=np.eye(8)[i], image_vectors=np.eye(8)[i:])
                for i in (0, 1)
            ],
        )
    (home / "trustvlm.toml").write_text(
        "".join(f"{name} = {value}\n" for name, value in settings.items())
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, str]]:
    home = tmp_path_factory.mktemp("stalled") / "home"
    prepared(home, serve_body_s=2.0, serve_keep_alive_s=0.5)
    with server(home) as (process, address):
        ready(address)
        yield psutil.Process(process.pid), address


def connected(address: str, *sent: bytes, receive_buffer: int | None = None) -> socket.socket:
    connection = socket.socket()
    connection.settimeout(30)
    if receive_buffer is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    where = urlsplit(address)
    connection.connect((where.hostname, where.port))
    for data in sent:
        connection.sendall(data)
    return connection


def answer(connection: socket.socket, data: bytes = b"") -> tuple[int, dict[str, Any]]:
    """Status and body of what a server answers, of which `data` is here already."""
    connection.settimeout(30)
    while True:
        head, found, body = data.partition(b"\r\n\r\n")
        if found and body:
            return int(head.split()[1]), json.loads(body)
        piece = connection.recv(65536)
        assert piece, f"the connection was closed after {data!r}"
        data += piece


def score(address: str) -> httpx.Response:
    return httpx.post(
        f"{address}/v1/spaces/s/score",
        json={"classifier": [[1.0] + [0.0] * 7], "rule": "msp"},
        timeout=ENOUGH_S,
    )


def settled(process: psutil.Process, most: int = 3) -> None:
    """Wait until the server has let go of its connections."""
    deadline = time.monotonic() + ENOUGH_S
    while len(process.net_connections("tcp")) > most:
        assert time.monotonic() < deadline, process.net_connections("tcp")
        time.sleep(0.05)


@pytest.mark.slow  # by default: test_a_connection_without_a_word
def test_six_hundred_stalled_uploads(running: tuple[psutil.Process, str]) -> None:
    """More than may be under way. Whoever watches, reads or sends a body that comes is answered;
    each of them gets 408."""
    process, address = running
    settled(process)  # nothing of the test before takes a place
    with ExitStack() as stack:
        uploads = [stack.enter_context(connected(address, STALLED)) for _ in range(600)]
        time.sleep(0.3)
        for path in ("/healthz", "/readyz", "/metrics", "/v1/spaces", "/v1/spaces/s/labels", "/"):
            begin = time.monotonic()
            assert httpx.get(address + path, timeout=ENOUGH_S).status_code == 200
            assert time.monotonic() - begin < ENOUGH_S
        statuses = []
        while not statuses or statuses[-1] == 503:
            statuses.append(score(address).status_code)
            time.sleep(0.1)
        assert statuses[-1] == 200
        assert len(statuses) < 15
        answers = [answer(upload) for upload in uploads]
    assert {status for status, _ in answers} <= {408, 503}
    assert sum(status == 408 for status, _ in answers) >= 500
    message = next(
        body["error"]["message"]
        for status, body in answers
        if "arrives too slowly" in body["error"]["message"]
    )
    assert message == (
        "the body arrives too slowly: expected 1000 bytes or its end within 2 s, got 1 "
        "(settings serve_body_s, serve_body_rate)"
    )
    settled(process)


@pytest.mark.slow  # by default: test_a_connection_without_a_word
@pytest.mark.parametrize(("first", "drop"), [
    (STALLED, b" "),
    pytest.param(HEAD + b"Transfer-Encoding: "
                        b"chunked\r\n\r\n", b"1\r\n \r\n", marks=pytest.mark.slow),
    pytest.param(b"GET /healthz HTTP/1.1\r\nHost: "
                 b"127.0.0.1\r\n", b"A: b\r\n", marks=pytest.mark.slow), pytest.param(b"", b"\r\n", marks=pytest.mark.slow),
], ids=["body", "chunks", "headers", "blank lines"])  # fmt: skip
def test_what_drips(running: tuple[psutil.Process, str], first: bytes, drop: bytes) -> None:
    _, address = running
    with connected(address, first) as connection:
        begin = time.monotonic()
        connection.settimeout(0.1)
        data = b""
        while not data and time.monotonic() - begin < ENOUGH_S:
            connection.sendall(drop)
            try:
                data = connection.recv(65536)
            except TimeoutError:
                continue
        status, body = answer(connection, data)
        assert (status, body["error"]["kind"]) == (408, "TooSlow")
        assert 1.6 < time.monotonic() - begin < ENOUGH_S


def test_a_connection_without_a_word(running: tuple[psutil.Process, str]) -> None:
    """Also one that has asked before, and begins to ask again."""
    process, address = running
    with (
        connected(address) as silent,
        connected(address, b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as second,
    ):
        assert second.recv(65536).startswith(b"HTTP/1.1 200 ")
        second.sendall(b"GET /heal")
        assert answer(silent)[0] == 408
        assert answer(second)[0] == 408
    settled(process)


@pytest.mark.slow  # by default: test_a_connection_without_a_word
def test_a_slow_body_that_moves_is_taken(running: tuple[psutil.Process, str]) -> None:
    """Longer than it may stand still."""
    _, address = running
    body = json.dumps({"classifier": [[0.125] * 8] * 60, "rule": "msp"}).encode()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), len(body) // 8 + 1):
            time.sleep(0.4)
            yield body[start : start + len(body) // 8 + 1]

    begin = time.monotonic()
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    response = httpx.post(
        f"{address}/v1/spaces/s/score", content=pieces(), headers=headers, timeout=30
    )
    assert response.status_code == 200, response.text
    assert time.monotonic() - begin > 3
    assert len(body) > 4 * 500


def unread(address: str) -> socket.socket:
    """A connection whose answer of some 8 MB is not read."""
    body = json.dumps({"classifier": [[0.125] * 8] * 12_000, "rule": "msp"}).encode()
    head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
    connection = connected(address, head, body, receive_buffer=4096)
    assert connection.recv(1)
    return connection


def test_an_answer_that_is_not_read(running: tuple[psutil.Process, str]) -> None:
    process, address = running
    with unread(address), connected(address, b"") as other:
        other.close()
        settled(process)
    assert score(address).status_code == 200


@pytest.mark.slow
def test_an_answer_that_is_read_slowly_arrives(running: tuple[psutil.Process, str]) -> None:
    _, address = running
    with unread(address) as connection:
        data, begin = bytearray(), time.monotonic()
        while time.monotonic() - begin < 3:  # longer than it may stand still
            data += connection.recv(4096)
            time.sleep(0.01)
        while piece := connection.recv(1 << 20):
            data += piece
    assert len(json.loads(data.partition(b"\r\n\r\n")[2])["verdicts"]) == 12_000


STOPPED: dict[str, Callable[[str], socket.socket]] = {
    "upload": lambda address: connected(address, STALLED),
    "headers": lambda address: connected(address, HEAD),
    "silent": lambda address: connected(address),
    "unread": unread,
}


@pytest.mark.slow  # by default: tests/http/test_http_processes.py
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_sigterm_waits_for_none_of_them(tmp_path: Path, workers: int) -> None:
    """With times of half a minute: the process ends in seconds, with 0, and says so to those that
    send a body."""
    home = tmp_path / "home"
    prepared(home)
    with server(home, "--workers", str(workers)) as (process, address), ExitStack() as stack:
        ready(address)
        connections = {name: stack.enter_context(begin(address)) for name, begin in STOPPED.items()}
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(25) == 0
        status, body = answer(connections["upload"])
        assert (status, body["error"]["kind"]) == (503, "Overloaded")


def test_the_times_are_bounded(tmp_path: Path) -> None:
    for name in ("serve_body_s", "serve_body_rate", "serve_keep_alive_s"):
        for value in ("nan", "-1", "inf"):
            home = tmp_path / f"{name}{value}"
            home.mkdir()
            (home / "trustvlm.toml").write_text(f"{name} = {value}\n")
            with pytest.raises(trustvlm.InvalidInput, match=name):
                trustvlm.open(home, create=True)


def test_whoever_watches_is_answered_where_no_other_is(tmp_path: Path) -> None:
    with served(tmp_path / "home", in_flight=0) as http:
        for path in ("/v1/spaces", "/", "/v1/rules"):
            assert (
                "under way already" in http.ask("GET", path, status=503).json()["error"]["message"]
            )
        for path in ("/healthz", "/metrics"):
            assert http.ask("GET", path).status_code == 200
        assert "under way" not in http.ask("GET", "/readyz", status=None).text
