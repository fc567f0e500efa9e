"""Children that the zygote forks, with the methods of `subprocess.Popen` that tests use."""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO


@functools.cache
def _zygote(_: int) -> socket.socket:
    """The end of its socket in this process."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = str(Path(__file__).with_name("zygote.py"))
    process = subprocess.Popen(
        [sys.executable, program, str(there.fileno())],
        pass_fds=[there.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        cwd="/",
    )
    there.close()
    atexit.register(process.wait, 30)
    atexit.register(here.close)
    return here


def run_code(
    code: str, *arguments: object, timeout: float = 120, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python code to its end, in a child that has imported the package already."""
    with tempfile.NamedTemporaryFile("w", suffix=".py") as file:
        file.write(code)
        file.flush()
        command = [file.name, *map(str, arguments)]
        with Child(command, os.environ | environment, stderr=None) as child:
            output, errors = child.communicate(timeout=timeout)
    return subprocess.CompletedProcess(command, child.wait(), output, errors)


@functools.cache
def preload(*modules: str) -> None:
    """Let the children of this process begin with more modules imported: the encoders' libraries
    take seconds."""
    _zygote(os.getpid()).send(json.dumps({"modules": modules}).encode())


class Child:
    """A running child; `command`: a file of Python, or "-m" and a module, and its arguments.
    `stderr`: a descriptor; None: it is kept, for :meth:`communicate`. `stdout`: a descriptor in
    place of the pipe. Text is in the encoding that PYTHONIOENCODING names to the child."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        stderr: int | None = 2,
        stdout: int | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+") if stderr is None else None  # noqa: SIM115
        stdin, to_child = os.pipe()
        from_child, to_stdout = os.pipe()
        status, to_status = os.pipe()
        request = {
            "command": [*command], "environment": {**environment}, "folder": str(Path.cwd()),
        }  # fmt: skip
        message = json.dumps(request).encode()
        errors = self._errors.fileno() if stderr is None else stderr
        socket.send_fds(
            _zygote(os.getpid()),
            [message],
            [stdin, to_stdout if stdout is None else stdout, errors, to_status],
        )
        for descriptor in (stdin, to_stdout, to_status):
            os.close(descriptor)
        self.stdin: TextIO = os.fdopen(to_child, "w")
        self.stdout: TextIO = os.fdopen(from_child, encoding=environment.get("PYTHONIOENCODING"))
        self._status = os.fdopen(status)
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, as of a process that ended; None: it runs."""
        return self._ended(0)

    def _ended(self, seconds: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], seconds)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end. Raises subprocess.TimeoutExpired."""
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired("a child", timeout or 0)
        return code

    def communicate(self, text: str = "", timeout: float | None = None) -> tuple[str, str]:
        """Write `text`, close stdin, and read stdout and what was kept of stderr to the end. Raises
        subprocess.TimeoutExpired."""
        deadline = time.monotonic() + (timeout or 3_600)
        with contextlib.suppress(BrokenPipeError):
            self.stdin.write(text)
            self.stdin.close()
        output = self._drained(deadline)
        self.wait(max(0.0, deadline - time.monotonic()))
        return output, self._said()

    def _said(self) -> str:
        if self._errors is None:
            return ""
        with self._errors:
            self._errors.seek(0)
            return self._errors.read()

    def _drained(self, deadline: float) -> str:
        read: list[str] = []
        reader = threading.Thread(target=lambda: read.append(self.stdout.read()), daemon=True)
        reader.start()
        reader.join(max(0.0, deadline - time.monotonic()))
        if reader.is_alive():
            raise subprocess.TimeoutExpired("a child", 0)
        self.stdout.close()
        return read[0]

    def send_signal(self, number: int) -> None:
        """Send a signal to a child that runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def close(self) -> None:
        """Close the pipes to it."""
        for stream in (self.stdout, self.stdin, self._errors):
            if stream is not None:
                stream.close()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: object, trace: TracebackType | None
    ) -> None:
        self.close()
        self.wait()
