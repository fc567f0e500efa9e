"""Real servers: they finish what they accepted, several work on one home, and one of them may die."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from cli_runner import COMMAND, Cli, without_home_variables

import trustvlm
from trustvlm.client import Client


@contextmanager
def server(home: Path, *options: str, log: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process, and its address."""
    command = [*COMMAND, "--home", str(home), "serve", "--port", "0", *options]
    errors = (log or home.with_suffix(".log")).open("w")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=without_home_variables())
    try:
        assert process.stdout is not None
        greeting = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", greeting)
        assert found, greeting
        yield process, found[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait(30)
        assert process.stdout is not None
        process.stdout.close()
        errors.close()


def ready(address: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError("the server never became ready")


def label(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {"name": f"label {i}", "text_vector": rng.normal(size=8).tolist(), "image_vectors": rng.normal(size=(2, 8)).tolist()}


def as_input(i: int) -> trustvlm.LabelInput:
    return trustvlm.LabelInput(**label(i))


def prepared(home: Path) -> None:
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        service.register("s", [trustvlm.LabelInput("first", text_vector=np.ones(8), image_vectors=np.ones((1, 8)))])


def test_a_server_says_who_may_ask_and_finishes_what_it_accepted(tmp_path: Path) -> None:
    """SIGTERM while an import is under way: it is committed and answered, and the process ends with 0."""
    home = tmp_path / "home"
    prepared(home)
    with server(home) as (process, address):
        ready(address)
        lines = [json.dumps(label(i)) + "\n" for i in range(600)]
        sent = threading.Event()

        def body() -> Iterator[bytes]:
            for number, line in enumerate(lines):
                yield line.encode()
                if number == 300:
                    sent.set()
                if number > 300:
                    time.sleep(0.002)

        answers: list[httpx.Response] = []

        def ask() -> None:
            headers = {"content-type": "application/x-ndjson"}
            answers.append(httpx.post(f"{address}/v1/spaces/s/imports", content=body(), headers=headers, timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        assert sent.wait(30)
        process.send_signal(signal.SIGTERM)
        asking.join(60)
        assert process.wait(30) == 0
        assert answers[0].status_code == 200, answers[0].text
        assert answers[0].json()["result"]["added_labels"] == 600
    with trustvlm.open(home) as service:
        assert service.get_space("s").label_count == 601
    log = (tmp_path / "home.log").read_text()
    assert all(json.loads(line)["level"] == "info" for line in log.splitlines())
    assert not list((home / "workers").iterdir())


def test_addresses_that_cannot_be(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli("serve", "--port", port, code=5).startswith(f"Error: 127.0.0.1:{port} cannot be listened on")
    cli("serve", "--port", 65536, code=2)
    cli("serve", "--workers", 0, code=2)
    assert "nowhere" in cli("serve", "--host", "nowhere.invalid", code=5)


@pytest.mark.slow
def test_one_of_two_workers_is_killed_under_load(tmp_path: Path) -> None:
    """The other one answers, what was acknowledged stays, and the client's users see nothing of it: neither those who write
    and score, nor one who imports 30,000 labels meanwhile, nor one who evaluates."""
    home = tmp_path / "home"
    prepared(home)
    with server(home, "--workers", "2") as (process, address), Client(address) as client:
        ready(address)
        acknowledged: list[str] = []
        committed: list[str] = []
        failures: list[BaseException] = []
        imported: list[trustvlm.RegisterResult] = []
        stop = threading.Event()

        def kept(work: Callable[[], None]) -> Callable[[], None]:
            def run() -> None:
                try:
                    work()
                except BaseException as error:
                    failures.append(error)

            return run

        def write(number: int) -> None:
            i = number * 100_000
            while not stop.is_set():
                one = as_input(i)
                result = client.register("s", [one])
                assert (result.added_labels, result.added_supports) == (1, 2)  # not "was there": it is done once
                acknowledged.append(one.name)
                assert len(client.score("s", trustvlm.Queries([one.text_vector]), rule="msp")) == 1
                i += 1

        def bring() -> None:
            given = (as_input(i) for i in range(10_000_000, 10_030_000))
            imported.append(client.register("s", given, on_commit=committed.extend))

        def evaluate() -> None:
            rng = np.random.default_rng((1, 2))  # no label has these vectors
            while not stop.is_set():
                found = client.evaluate("s", trustvlm.Queries(rng.normal(size=(50, 8))), ["first"] * 50, rules=["msp"], draws=0)
                assert found.images == 50

        works = [*(functools.partial(write, number) for number in range(5)), bring, evaluate]
        threads = [threading.Thread(target=kept(work)) for work in works]
        for thread in threads:
            thread.start()
        for _ in range(2):  # one, and later one of those that are there by then
            time.sleep(4)
            children = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
            assert len(children) == 2
            os.kill(children[0].pid, signal.SIGKILL)
        before = len(acknowledged)
        time.sleep(8)
        stop.set()
        for thread in threads:
            thread.join(240)
            assert not thread.is_alive()
        assert failures == []
        assert len(acknowledged) > before + 10
        assert committed == [f"label {i}" for i in range(10_000_000, 10_030_000)]
        result = imported[0]
        # Lines whose commit was cut from the note of it are there already when they come again.
        assert result.added_labels + result.skipped_duplicates // 2 == 30_000
        assert result.added_labels >= 29_000
        metrics = httpx.get(f"{address}/metrics").text
        assert "trustvlm_http_request_seconds_count" in metrics
    with trustvlm.open(home) as service:
        there = {row.name for row in service.list_labels("s")}
    assert {*acknowledged, *committed} <= there
