"""docs/two-hosts.sh: two hosts behind nginx, under a path, as a client sees them; one is killed."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from back_ends import Database
from numbered import label, queries

import trustvlm
from trustvlm.client import Client

DOCS = Path(__file__).resolve().parents[2] / "docs"


def missing() -> str | None:
    absent = [name for name in ("nginx", "curl") if shutil.which(name) is None]
    return f"needs {' and '.join(absent)}: apt install nginx curl" if absent else None


def calls_of_the_page(folder: Path, address: str) -> list[Callable[[], str]]:
    """The calls of curl that docs/hosts.md shows, each as a function that gives its answer."""
    page = (DOCS / "hosts.md").read_text()
    lines = [line for line in page.splitlines() if line.startswith("curl ")]
    key = (folder / "key").read_text().strip()
    commands = [
        line.replace("localhost:8080/trust", address).replace("$KEY", key) for line in lines
    ]

    def answer(command: str) -> str:
        words = [*shlex.split(command), "--silent", "--show-error", "--fail-with-body"]
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout

    return [functools.partial(answer, command) for command in commands]


def three_ports() -> int:
    """The first of three free ports that follow each other."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = first.getsockname()[1]
            try:
                for more in (1, 2):
                    socket.create_server(("127.0.0.1", port + more)).close()
                return int(port)
            except OSError:
                continue


@contextmanager
def balanced(folder: Path, database_url: str) -> Iterator[str]:
    """The walk-through in `folder`; the address of the balancer."""
    port = three_ports()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"])
    environment = os.environ | {"TRUSTVLM_DATABASE_URL": database_url, "PATH": path}
    with (folder / "script.log").open("w+") as log:
        command = ["sh", str(DOCS / "two-hosts.sh"), str(folder), str(port)]
        script = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
        try:
            deadline = time.monotonic() + 300
            while not re.search("^ready: ", (folder / "script.log").read_text(), re.MULTILINE):
                assert script.poll() is None, (folder / "script.log").read_text()
                assert time.monotonic() < deadline, (folder / "script.log").read_text()
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}/trust"
        finally:
            script.send_signal(signal.SIGTERM)
            script.wait(90)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.postgresql
@pytest.mark.skipif(missing() is not None, reason=str(missing()))
@pytest.mark.parametrize("back_end", ["postgresql"], indirect=True)
def test_two_hosts_behind_nginx(tmp_path: Path, back_end: Database) -> None:
    """Names with slashes go through; both hosts answer; a host that is killed while a client
    registers many labels is replaced by the other one, every label is there once, and the client
    sees nothing of it."""
    with balanced(tmp_path, back_end.url) as address:
        key = (tmp_path / "key").read_text().strip()
        assert httpx.get(f"{address}/readyz").status_code == 200
        assert "<title>" in httpx.get(f"{address}/").text
        assert httpx.get(address).headers["location"] == f"{address}/"
        assert httpx.get(f"{address}/v1/spaces").status_code == 401
        made, registered, scored = calls_of_the_page(tmp_path, address)
        assert "precomputed:2" in made()
        assert '"added_labels":1' in registered()
        with Client(address, key) as client:
            client.create_space("space", classifier="precomputed:32", verifier="precomputed:64")
            odd = trustvlm.LabelInput("a/b ..", text_vector=label(9_999).text_vector)
            client.register("space", [odd])
            assert client.remove_label("space", "a/b ..") == 2
            names = [label(number).name for number in range(3_000)]
            committed: list[str] = []
            failures: list[BaseException] = []

            def register() -> None:
                given = (label(number, supports=1) for number in range(len(names)))
                try:
                    client.register("space", given, on_commit=committed.extend)
                except BaseException as error:
                    failures.append(error)

            registering = threading.Thread(target=register)
            registering.start()
            deadline = time.monotonic() + 120
            while not committed and not failures:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.kill(int((tmp_path / "host-1.pid").read_text()), signal.SIGKILL)
            registering.join(240)
            assert failures == []
            assert committed == names
            assert client.get_space("space").label_count == len(names)
            for seed in range(5):
                assert len(client.score("space", queries(2, seed))) == 2
        assert '"label":"a"' in scored()
    for number in (1, 2):
        lines = (tmp_path / f"host-{number}.log").read_text()
        assert '"route": "/v1/spaces/{space}/labels"' in lines, number
        assert '"level": "error"' not in lines


def test_alerts_are_about_metrics_that_there_are() -> None:
    """And each says for whom and what happened."""
    yaml = pytest.importorskip("yaml")
    [group] = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    document = (DOCS / "service.md").read_text()
    described = set(re.findall(r"`((?:trustvlm|process)_\w+)`", document))
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        used = set(re.findall(r"\b(?:trustvlm|process)_\w+", rule["expr"]))
        named = {re.sub(r"_(bucket|count|sum)$", "", name) for name in used}
        assert named <= described, rule["alert"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) >= 8
