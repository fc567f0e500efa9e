"""The service where little is to be had: nobody reads its log, nothing can be written to /tmp, it
is process 1."""

from __future__ import annotations

import json
import logging
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from cli_runner import COMMAND, without_home_variables
from http_service import served
from server_process import ready, server
from waiting import until

import trustvlm
from trustvlm import __version__
from trustvlm.catalog.store import schema
from trustvlm.http.guard import logs
from trustvlm.http.guard.logs import QueuedLines


@contextmanager
def started(
    home: Path, *options: str, prefix: tuple[str, ...] = (), **streams: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A server process with these standard streams."""
    environment = without_home_variables() | streams.pop("env", {})
    command = [*prefix, *COMMAND, "--home", str(home), "serve", *options]
    process = subprocess.Popen(command, env=environment, **streams)
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def metric(text: str, name: str) -> float:
    found = re.search(rf"^{name}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
    assert found, name
    return float(found[1])


def test_a_log_that_nobody_reads(tmp_path: Path) -> None:
    """A pipe that is full: the service answers on, counts the lines that it drops, and ends when
    asked to."""
    reading, writing = os.pipe()
    try:
        with (
            server(tmp_path / "home", stderr=writing) as (process, address),
            httpx.Client(base_url=address, timeout=20) as client,
        ):
            ready(address)
            for _ in range(600):  # some 250 bytes each: twice what the pipe holds
                assert client.get("/healthz").status_code == 200
            assert client.get("/metrics").status_code == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
    finally:
        os.close(reading)
        os.close(writing)


@pytest.fixture
def lost() -> Iterator[list[int]]:
    """One entry for each log line that is dropped."""
    dropped: list[int] = []

    def count() -> None:
        dropped.append(1)

    logs.DROPPED.append(count)
    yield dropped
    logs.DROPPED.remove(count)


def test_lines_beyond_the_queue_are_dropped_and_counted(lost: list[int]) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    handler = QueuedLines(writing, 5)
    big = "x" * 70_000  # more than the pipe holds: the writer stands
    record = handler.handle
    record(logging.LogRecord("a", logging.INFO, "", 0, big, (), None))
    until(lambda: select.select([reading], [], [], 0)[0])  # it is being written
    begin = time.monotonic()
    for number in range(12):
        record(logging.LogRecord("a", logging.INFO, "", 0, f"line {number}", (), None))
    assert time.monotonic() - begin < 5
    assert len(lost) == 7
    data = b""
    deadline = time.monotonic() + 10
    while not data.endswith(b"line 4\n") and time.monotonic() < deadline:
        try:
            data += os.read(reading, 65536)
        except BlockingIOError:
            time.sleep(0.01)
    assert data == big.encode() + b"\n" + b"".join(b"line %d\n" % number for number in range(5))
    os.close(reading)
    record(logging.LogRecord("a", logging.INFO, "", 0, "nobody reads", (), None))
    handler.flush()
    assert len(lost) == 8
    os.close(writing)


@pytest.mark.slow  # .ci/run names this file
@pytest.mark.parametrize("kind", ["closed", "full and gone"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_streams_that_cannot_be_written(tmp_path: Path, kind: str) -> None:
    """Neither stdout (closed, or full) nor stderr (closed, or a pipe whose reader has gone): the
    service serves, counts what it could not write, leaves the home sound, and ends with 0."""
    home, port = tmp_path / "home", free_port()
    reading, writing = os.pipe()
    os.close(reading)
    redirect = ">&- 2>&- <&-" if kind == "closed" else ">/dev/full"
    prefix = ("sh", "-c", f'exec "$@" {redirect}', "sh")
    with started(home, "--port", str(port), prefix=prefix, stderr=writing) as process:
        os.close(writing)
        address = f"http://127.0.0.1:{port}"
        ready(address)
        created = httpx.post(
            f"{address}/v1/spaces", json={"name": "s", "classifier": "precomputed:4"}, timeout=60
        )
        assert created.status_code == 201
        if kind != "closed":
            text = httpx.get(f"{address}/metrics", timeout=60).text
            assert metric(text, "trustvlm_log_lines_dropped_total") > 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with trustvlm.open(home) as service:
        assert not service.verify().damage


@pytest.mark.skipif(sys.platform != "linux", reason="figures come from /proc")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_figures_of_the_processes_and_the_build(tmp_path: Path, workers: int) -> None:
    with server(tmp_path / "home", "--workers", str(workers)) as (_, address):
        ready(address)
        first = httpx.get(f"{address}/metrics", timeout=60).text
        for _ in range(10):
            httpx.get(f"{address}/v1/spaces", timeout=60)
        text = httpx.get(f"{address}/metrics", timeout=60).text
    assert (
        metric(text, "process_cpu_seconds_total")
        >= metric(first, "process_cpu_seconds_total")
        > 0.1 * workers
    )
    assert 50e6 * workers < metric(text, "process_resident_memory_bytes") < 4e9
    assert 5 * workers < metric(text, "process_open_fds") < metric(text, "process_max_fds")
    assert time.time() - 600 < metric(text, "process_start_time_seconds") < time.time() + 5
    (build,) = re.findall(r"^trustvlm_build_info\{(.*)\} 1\.0$", text, re.MULTILINE)
    assert f'version="{__version__}"' in build
    assert f'python="{sys.version.split()[0]}"' in build
    assert f'schema="{schema.head()}"' in build
    for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
        assert text.count(f"# TYPE {name} ") == 1, name


@pytest.mark.slow
def test_log_lines_have_the_address_of_the_client(tmp_path: Path) -> None:
    """Behind a proxy that is trusted, the one that it tells; of others, their own. And as many
    lines as the level says."""
    home = tmp_path / "home"
    home.mkdir()

    def addresses(settings: str) -> list[str | None]:
        (home / "trustvlm.toml").write_text(settings)
        log = tmp_path / "log"
        with server(home, log=log) as (_, address):
            ready(address)
            for forwarded in ("203.0.113.7", "203.0.113.8, 198.51.100.1", "<script>" * 50):
                httpx.get(
                    f"{address}/v1/limits", headers={"x-forwarded-for": forwarded}, timeout=60
                )
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        return [line.get("client") for line in lines if line.get("route") == "/v1/limits"]

    told = addresses('serve_forwarded_ips = ["127.0.0.1", "198.51.100.1"]')
    assert told[:2] == ["203.0.113.7", "203.0.113.8"]
    assert len(told[2] or "") <= 100
    assert addresses('serve_forwarded_ips = ["192.0.2.1"]') == ["127.0.0.1"] * 3
    assert addresses('serve_forwarded_ips = ["192.0.2.1"]\nserve_log_level = "warning"') == []
    (home / "trustvlm.toml").write_text('serve_log_level = "loud"')
    with pytest.raises(trustvlm.InvalidInput, match="serve_log_level"):
        trustvlm.open(home, create=True)


def test_uploads_need_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(tmp_path / "home") as http:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        http("POST", "/v1/spaces", json={"name": "s", "classifier": "precomputed:4"}, status=201)
        form = {"images": ("a.png", bytes(np.random.default_rng(0).bytes(2_000_000)), "image/png")}
        refused = http.ask("POST", "/v1/spaces/s/score", files=form, status=422).json()["error"]
        assert "precomputed" in refused["message"]


UNSHARE = ("unshare", "--fork", "--pid", "--mount-proc", "--kill-child")


def may_unshare() -> bool:
    return (
        shutil.which("unshare") is not None
        and not subprocess.run([*UNSHARE, "true"], capture_output=True, check=False).returncode
    )


@pytest.mark.slow  # a process that is not the first: test_a_log_that_nobody_reads; CI runs this, too
@pytest.mark.parametrize("workers", [1, 2])
def test_process_1_minds_sigterm(tmp_path: Path, workers: int) -> None:
    if not may_unshare():
        pytest.skip("this machine makes no process namespaces")
    port = free_port()
    options = ("--port", str(port), "--workers", str(workers))
    with started(
        tmp_path / "home",
        *options,
        prefix=UNSHARE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as outer:
        ready(f"http://127.0.0.1:{port}")
        (inner,) = Path(f"/proc/{outer.pid}/task/{outer.pid}/children").read_text().split()
        os.kill(int(inner), signal.SIGTERM)
        assert outer.wait(20) == 0


def test_a_log_line_has_the_address_and_the_level_is_a_setting(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with served(tmp_path / "home") as http, caplog.at_level(logging.INFO, "trustvlm.http"):
        http("GET", "/v1/limits")
    (record,) = (
        record for record in caplog.records if getattr(record, "route", None) == "/v1/limits"
    )
    assert record.__dict__["client"] == "127.0.0.1"
    assert json.loads(logs.JsonLines().format(record))["client"] == "127.0.0.1"
    (tmp_path / "home" / "trustvlm.toml").write_text('serve_log_level = "loud"')
    with pytest.raises(trustvlm.InvalidInput, match="serve_log_level"):
        trustvlm.open(tmp_path / "home")
