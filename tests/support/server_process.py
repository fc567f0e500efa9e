"""A real `trustvlm serve` process, for tests."""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from cli_runner import COMMAND, without_home_variables
from forked import Child


@contextmanager
def server(
    home: Path, *options: str, log: Path | None = None, stderr: int | None = None, fault: str = ""
) -> Iterator[tuple[Child, str]]:
    """A server process, and its address. `log`: the file of its stderr; `stderr`: a descriptor in
    its place. `fault`: see :mod:`trustvlm.system.fault_points`."""
    command = [*COMMAND[1:], "--home", str(home), "serve", "--port", "0", *options]
    errors = (log or home.with_suffix(".log")).open("w")
    environment = without_home_variables() | ({"TRUSTVLM_FAULT": fault} if fault else {})
    process = Child(command, environment, errors.fileno() if stderr is None else stderr)
    try:
        greeting = process.stdout.readline()
        address = re.search(r"http://127\.0\.0\.1:\d+", greeting)
        assert address, greeting
        yield process, address[0]
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
        process.wait(30)
        process.close()
        errors.close()


def ready(address: str) -> None:
    deadline = time.monotonic() + 180  # it opens models, on a busy machine
    with httpx.Client(verify=False, timeout=60) as client:
        while time.monotonic() < deadline:
            try:
                if client.get(f"{address}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    raise AssertionError("the server never became ready")
