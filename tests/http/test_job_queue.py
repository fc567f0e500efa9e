"""No job keeps the queue: each can be cancelled, ends in time, and is interrupted when the service
is asked to end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from http_service import Http, served
from server_process import ready, server
from waiting import until

import trustvlm
from trustvlm.http.app import create_app
from trustvlm.http.work.job_queue import Jobs, Progress
from trustvlm.http.work.upkeep import Upkeep
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.both_back_ends(slow=True)

LABELS = 20


def prepared(home: Path) -> None:
    rng = np.random.default_rng(0)
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        service.register(
            "s",
            [
                trustvlm.LabelInput(
                    f"l{i}", text_vector=rng.normal(size=8), image_vectors=rng.normal(size=(16, 8))
                )
                for i in range(LABELS)
            ],
        )


def labelled(count: int) -> dict[str, Any]:
    rng = np.random.default_rng(1)
    return {
        "classifier": rng.normal(size=(count, 8)).round(3).tolist(),
        "truth": [f"l{i % LABELS}" for i in range(count)],
    }


LONG = labelled(30_000) | {"draws": 100}
"""Minutes of work."""


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_back_end: None) -> Iterator[Http]:
    home = tmp_path_factory.mktemp("jobs") / "home"
    prepared(home)
    with served(home, job_s=30.0) as http:
        yield http


def running(ask: Any, job: dict[str, Any]) -> None:
    """Wait until a job is past its beginning."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        found = ask("GET", f"/v1/jobs/{job['id']}")
        if found["state"] == "running" and found["phase"] not in ("begun", "waiting"):
            time.sleep(0.1)
            return
        assert found["state"] in ("queued", "running"), found
        time.sleep(0.02)
    raise AssertionError("the job never began")


@pytest.mark.parametrize(("path", "body"), [
    pytest.param("evaluate", LONG, marks=pytest.mark.slow),
    pytest.param("evaluate", LONG | {"draws": 0}, marks=pytest.mark.slow),
    ("calibrate", labelled(30_000)),
], ids=["curve", "intervals", "calibrate"])  # fmt: skip
def test_a_job_stops_soon_after_it_is_cancelled(
    http: Http, path: str, body: dict[str, Any]
) -> None:
    job = http("POST", f"/v1/spaces/s/{path}", status=202, json=body)
    running(http, job)
    begin = time.monotonic()
    assert http("POST", f"/v1/jobs/{job['id']}/cancel")["cancelling"]
    assert http.job(job)["state"] == "cancelled"
    assert time.monotonic() - begin < 30  # of minutes
    after = http(
        "POST", "/v1/spaces/s/evaluate", status=202, json=labelled(20) | {"rules": ["msp"]}
    )
    assert http.job(after)["state"] == "done"
    assert http("GET", "/v1/spaces/s/calibrations")["calibrations"] == []


def test_a_job_that_waits_is_cancelled_at_once(http: Http) -> None:
    first = http("POST", "/v1/spaces/s/evaluate", status=202, json=LONG)
    running(http, first)
    second = http("POST", "/v1/spaces/s/evaluate", status=202, json=labelled(20))
    assert http("POST", f"/v1/jobs/{second['id']}/cancel")["state"] == "cancelled"
    http("POST", f"/v1/jobs/{first['id']}/cancel")
    assert http.job(first)["state"] == "cancelled"
    assert http.job(second)["state"] == "cancelled"


def test_a_job_that_never_looks_is_left_behind(http: Http) -> None:
    """What it does after that changes nothing of how it ended; and the next one is done
    meanwhile."""
    jobs = Jobs(http.serving.home, http.serving.worker, 30.0, stopping_s=0.3)
    entered, going, told = threading.Event(), threading.Event(), []

    def stubborn(progress: Progress) -> dict[str, Any]:
        entered.set()
        going.wait(60)
        try:
            progress.tell("late", 1, 1)
        except Exception as error:
            told.append(type(error).__name__)
        return {"done": True}

    record = jobs.start("evaluate", "s", "", stubborn)
    assert entered.wait(30)
    http("POST", f"/v1/jobs/{record.id}/cancel")
    assert http.job({"id": record.id})["state"] == "cancelled"
    after = http(
        "POST", "/v1/spaces/s/evaluate", status=202, json=labelled(20) | {"rules": ["msp"]}
    )
    assert http.job(after)["state"] == "done"
    going.set()
    deadline = time.monotonic() + 10
    while not told and time.monotonic() < deadline:
        time.sleep(0.01)
    assert told == ["Stopped"]
    assert http.job({"id": record.id})["state"] == "cancelled"


def test_a_job_takes_no_longer_than_it_may(tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepared(home)
    with served(home, job_s=1.0) as http:
        ended = http.job(http("POST", "/v1/spaces/s/evaluate", status=202, json=LONG))
        assert ended["state"] == "failed"
        assert ended["error"]["kind"] == "Overloaded"
        assert "more than 1 s (setting serve_job_s)" in ended["error"]["message"]


@pytest.mark.slow  # by default: tests/http/test_http_processes.py
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_service_with_a_running_job_ends_when_asked(tmp_path: Path, workers: int) -> None:
    """Within seconds, with 0; the job, and the one that waits behind it, are interrupted and say
    what to do."""
    home = tmp_path / "home"
    prepared(home)
    with (
        server(home, "--workers", str(workers)) as (process, address),
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        ready(address)

        def ask(method: str, path: str, **options: Any) -> Any:
            return client.request(method, path, **options).json()

        begun = [ask("POST", "/v1/spaces/s/evaluate", json=LONG) for _ in range(2)]
        running(ask, begun[0])
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0
    with trustvlm.open(home) as service:
        for job in begun:
            record = ServerHome(service).get_job(job["id"])
            assert record.state == "interrupted", record
            assert record.error is not None
            assert "start the job again" in record.error["message"]


def test_upkeep_ends_in_silence_when_its_service_is_closed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As in a test or a notebook that makes an application and closes the service itself."""
    service = trustvlm.open(tmp_path / "home", create=True)
    serving = create_app(service).state.serving
    upkeep = Upkeep(serving.home, serving.worker, every_s=0.01)
    service.close()
    until(lambda: not upkeep.is_running)
    assert not [record for record in caplog.records if record.name == "trustvlm.http"]
    serving.close()
