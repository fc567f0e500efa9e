"""Real servers: they finish what they accepted, several work on one home, and one of them may die."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
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


def label(i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    return {"name": f"label {i}", "text_vector": rng.normal(size=8).tolist(), "image_vectors": rng.normal(size=(2, 8)).tolist()}


def prepared(home: Path) -> None:
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        service.register("s", [trustvlm.LabelInput("first", text_vector=np.ones(8), image_vectors=np.ones((1, 8)))])


def quick(address: str) -> float:
    """Seconds that a small answer takes on a connection that is kept open: 0.04 more where it waits for an acknowledgement."""
    with httpx.Client() as client:
        took = []
        for _ in range(40):
            begin = time.perf_counter()
            client.get(f"{address}/healthz")
            took.append(time.perf_counter() - begin)
    return sorted(took[20:])[5]


def test_a_server_says_who_may_ask_and_finishes_what_it_accepted(tmp_path: Path) -> None:
    """SIGTERM while an import is under way: it is committed and answered, and the process ends with 0."""
    home = tmp_path / "home"
    prepared(home)
    with server(home) as (process, address):
        ready(address)
        assert quick(address) < 0.03
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
    """The other one answers, what was acknowledged stays, and clients that try again see no error."""
    home = tmp_path / "home"
    prepared(home)
    with server(home, "--workers", "2") as (process, address):
        ready(address)
        acknowledged: list[int] = []
        failures: list[str] = []
        stop = threading.Event()

        def ask(client: httpx.Client, method: str, path: str, **options: Any) -> httpx.Response | None:
            for attempt in range(60):
                try:
                    answer = client.request(method, f"{address}{path}", **options)
                except httpx.TransportError:
                    time.sleep(0.1)
                    continue
                if answer.status_code not in (429, 503):
                    return answer
                time.sleep(0.05 * (attempt + 1))
            return None

        def work(number: int) -> None:
            i = number * 100_000
            with httpx.Client(timeout=30) as client:
                while not stop.is_set():
                    key = {"idempotency-key": f"k{i}"}
                    written = ask(client, "POST", "/v1/spaces/s/labels", json={"labels": [label(i)]}, headers=key)
                    scored = ask(client, "POST", "/v1/spaces/s/score", json={"classifier": [label(i)["text_vector"]]})
                    for answer in (written, scored):
                        if answer is None or answer.status_code != 200:
                            failures.append("no answer" if answer is None else answer.text)
                    if written is not None and written.status_code == 200:
                        acknowledged.append(i)
                    i += 1

        clients = [threading.Thread(target=work, args=(number,)) for number in range(6)]
        for client in clients:
            client.start()
        time.sleep(3)
        children = [child for child in psutil.Process(process.pid).children() if "spawn_main" in " ".join(child.cmdline())]
        assert len(children) == 2
        os.kill(children[0].pid, signal.SIGKILL)
        before = len(acknowledged)
        time.sleep(8)
        stop.set()
        for client in clients:
            client.join(60)
        assert failures == []
        assert len(acknowledged) > before + 10
        metrics = httpx.get(f"{address}/metrics").text
        assert "trustvlm_http_request_seconds_count" in metrics
    with trustvlm.open(home) as service:
        there = {row.name for row in service.list_labels("s")}
    assert {f"label {i}" for i in acknowledged} <= there


def test_it_is_ready_when_the_encoders_are_loaded_or_cannot_be(tmp_path: Path) -> None:
    """The first image finds them open; a space whose weights are gone keeps nothing else from being answered."""
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
        assert {line["space"] for line in said if line["message"] == "encoders are loaded"} == {"kept", "s"}
        warned = [line for line in said if line["level"] == "warning"]
        assert [line["space"] for line in warned] == ["gone"]
        image = {"images": ("a.png", picture(1), "image/png")}
        assert httpx.post(f"{address}/v1/spaces/kept/score", files=image, timeout=60).status_code == 200
        refused = httpx.post(f"{address}/v1/spaces/gone/score", files=image, timeout=60)
        assert (refused.status_code, refused.json()["error"]["message"]) == (503, warned[0]["message"].partition(": ")[2])
        assert httpx.get(f"{address}/v1/spaces/s/labels").status_code == 200
