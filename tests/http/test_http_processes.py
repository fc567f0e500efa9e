"""Real servers: they finish what they accepted, several work on one home, and one of them may
die."""

from __future__ import annotations

import functools
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from server_process import ready, server
from test_http_routes import picture

import trustvlm
from trustvlm.client import Client


def label(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {
        "name": f"label {i}",
        "text_vector": rng.normal(size=8).tolist(),
        "image_vectors": rng.normal(size=(2, 8)).tolist(),
    }


def as_input(i: int) -> trustvlm.LabelInput:
    return trustvlm.LabelInput(**label(i))


def prepared(home: Path) -> None:
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        service.register(
            "s",
            [trustvlm.LabelInput("first", text_vector=np.ones(8), image_vectors=np.ones((1, 8)))],
        )


def quick(address: str) -> float:
    """Seconds that a small answer takes on a connection that is kept open: 0.04 more where it waits
    for an acknowledgement."""
    with httpx.Client(timeout=60) as client:
        took = []
        for _ in range(40):
            begin = time.perf_counter()
            client.get(f"{address}/healthz")
            took.append(time.perf_counter() - begin)
    return min(took[20:])


@pytest.mark.parametrize(
    "end", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)]
)
def test_a_server_says_who_may_ask_and_finishes_what_it_accepted(
    tmp_path: Path, end: signal.Signals
) -> None:
    """SIGTERM, or SIGHUP of a closed terminal, while a registration is under way: it is committed
    and answered, and the process ends with 0."""
    if signal.getsignal(end) is signal.SIG_IGN:
        pytest.skip(f"{end.name} is ignored by the tests, as under nohup, and so by the service")
    home = tmp_path / "home"
    prepared(home)
    with server(home) as (process, address):
        ready(address)
        assert quick(address) < 0.03
        pieces = json.dumps({"labels": [label(i) for i in range(600)]}).split("}, ")
        sent = threading.Event()

        def body() -> Iterator[bytes]:
            for number, piece in enumerate(pieces):
                yield ("}, " * (number > 0) + piece).encode()
                if number == 300:
                    sent.set()
                if number > 300:
                    time.sleep(0.002)

        answers: list[httpx.Response] = []

        def ask() -> None:
            headers = {"content-type": "application/json"}
            answers.append(
                httpx.post(
                    f"{address}/v1/spaces/s/labels", content=body(), headers=headers, timeout=60
                )
            )

        asking = threading.Thread(target=ask)
        asking.start()
        assert sent.wait(30)
        process.send_signal(end)
        asking.join(60)
        assert process.wait(120) == 0
        assert answers[0].status_code == 200, answers[0].text
        assert answers[0].json()["added_labels"] == 600
    with trustvlm.open(home) as service:
        assert service.get_space("s").label_count == 601
    log = (tmp_path / "home.log").read_text()
    assert all(json.loads(line)["level"] == "info" for line in log.splitlines())
    assert not list((home / "workers").iterdir())


def test_addresses_that_cannot_be(cli: Cli) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert cli("serve", "--port", port, code=5).startswith(
            f"Error: 127.0.0.1:{port} cannot be listened on"
        )
    cli("serve", "--port", 65536, code=2)
    cli("serve", "--workers", 0, code=2)
    assert "nowhere" in cli("serve", "--host", "nowhere.invalid", code=5)


def workers(server: int) -> list[int]:
    """Process ids of the server's workers that run; a killed one is a zombie for a moment."""
    running = []
    for child in psutil.Process(server).children():
        with suppress(psutil.NoSuchProcess):  # ZombieProcess is one
            if "spawn_main" in " ".join(child.cmdline()):
                running.append(child.pid)
    return running


@pytest.mark.slow
def test_one_of_two_workers_is_killed_under_load(tmp_path: Path) -> None:
    """The other one answers, what was acknowledged stays, and the client's users see nothing of it:
    neither those who write and score, nor one who registers 12,000 labels meanwhile, nor one who
    evaluates."""
    home = tmp_path / "home"
    prepared(home)
    with server(home, "--workers", "2") as (process, address), Client(address) as client:
        ready(address)
        acknowledged: list[str] = []
        committed: list[str] = []
        repeated: list[bool] = []
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
                # Where a worker was killed between the commit and the stored answer, it was there.
                done = (result.added_labels, result.added_supports, result.skipped_duplicates)
                assert done in ((1, 2, 0), (0, 0, 2))
                repeated.append(done[0] == 0)
                acknowledged.append(one.name)
                assert len(client.score("s", trustvlm.Queries([one.text_vector]), rule="msp")) == 1
                i += 1

        def bring() -> None:
            given = (as_input(i) for i in range(10_000_000, 10_012_000))
            imported.append(client.register("s", given, on_commit=committed.extend))

        def evaluate() -> None:
            rng = np.random.default_rng((1, 2))  # no label has these vectors
            while not stop.is_set():
                found = client.evaluate(
                    "s",
                    trustvlm.Queries(rng.normal(size=(50, 8))),
                    ["first"] * 50,
                    rules=["msp"],
                    draws=0,
                )
                assert found.images == 50

        works = [*(functools.partial(write, number) for number in range(5)), bring, evaluate]
        threads = [threading.Thread(target=kept(work)) for work in works]
        for thread in threads:
            thread.start()
        for _ in range(2):  # one, and later one of those that are there by then
            time.sleep(4)
            deadline = time.monotonic() + 60
            while len(children := workers(process.pid)) < 2:
                assert time.monotonic() < deadline, "no process took the place of the killed one"
                time.sleep(0.1)
            os.kill(children[0], signal.SIGKILL)
        goal, deadline = len(acknowledged) + 10, time.monotonic() + 200
        while len(acknowledged) <= goal and not failures:
            assert time.monotonic() < deadline, "the other process acknowledges nothing"
            time.sleep(0.1)
        stop.set()
        for thread in threads:
            thread.join(240)
            assert not thread.is_alive()
        assert failures == []
        assert sum(repeated) <= 10  # five writers, two kills
        assert committed == [f"label {i}" for i in range(10_000_000, 10_012_000)]
        result = imported[0]
        # Labels whose commit was cut from its answer are there already when they come again.
        assert result.added_labels + result.skipped_duplicates // 2 == 12_000
        assert result.added_labels >= 11_000
        metrics = httpx.get(f"{address}/metrics", timeout=60).text
        assert "trustvlm_http_request_seconds_count" in metrics
    with trustvlm.open(home) as service:
        there = {row.name for row in service.list_labels("s")}
    assert {*acknowledged, *committed} <= there


@pytest.mark.slow
def test_a_worker_that_is_silent_for_a_while_stays(tmp_path: Path) -> None:
    """As one that imports on a busy machine for longer than uvicorn waits by itself (5 s)."""
    prepared(tmp_path / "home")
    with server(tmp_path / "home", "--workers", "2") as (process, address):
        ready(address)
        before = sorted(workers(process.pid))
        os.kill(before[0], signal.SIGSTOP)
        time.sleep(7)
        os.kill(before[0], signal.SIGCONT)
        time.sleep(1)
        assert sorted(workers(process.pid)) == before


@pytest.mark.slow
def test_it_is_ready_when_the_encoders_are_loaded_or_cannot_be(tmp_path: Path) -> None:
    """The first image finds them open; a space whose weights are gone keeps nothing else from being
    answered."""
    home = tmp_path / "home"
    prepared(home)
    specs = [make_clip(tmp_path / name, seed) for seed, name in enumerate(("kept", "gone"))]
    with trustvlm.open(home) as service:
        for name, spec in zip(("kept", "gone"), specs, strict=True):
            service.create_space(name, classifier=spec)
            service.register(name, [trustvlm.LabelInput("cat")])
    (tmp_path / "gone" / "open_clip_model.safetensors").unlink()
    log = tmp_path / "log"
    with server(home, log=log) as (_, address):
        ready(address)
        said = [json.loads(line) for line in log.read_text().splitlines()]
        assert {line["space"] for line in said if line["message"] == "encoders are loaded"} == {
            "kept",
            "s",
        }
        warned = [line for line in said if line["level"] == "warning"]
        assert [line["space"] for line in warned] == ["gone"]
        image = {"images": ("a.png", picture(1), "image/png")}
        assert (
            httpx.post(f"{address}/v1/spaces/kept/score", files=image, timeout=60).status_code
            == 200
        )
        refused = httpx.post(f"{address}/v1/spaces/gone/score", files=image, timeout=60)
        assert (refused.status_code, refused.json()["error"]["message"]) == (
            503,
            warned[0]["message"].partition(": ")[2],
        )
        assert httpx.get(f"{address}/v1/spaces/s/labels", timeout=60).status_code == 200
