"""A command on a real terminal: what it prints there, at a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import pytest

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def plain(said: bytes) -> str:
    """What a person reads: no colours, one kind of line end."""
    return ESCAPES.sub("", said.decode()).replace("\r\n", "\n")


@contextmanager
def terminal(said: bytearray, columns: int = 0) -> Iterator[int]:
    """The descriptor of a terminal of that width; `said` gets what is written there."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def read() -> None:
        while True:
            try:
                more = os.read(leader, 65_536)
            except OSError:  # Linux's end of file
                return
            if not more:
                return
            said.extend(more)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield follower
    finally:
        os.close(follower)
        reader.join()
        os.close(leader)


def on_terminal(command: list[str], columns: int, **environment: str) -> str:
    """stdout and stderr of a process on a terminal that is so wide."""
    said = bytearray()
    settings = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
    }
    with terminal(said, columns) as follower:
        subprocess.run(
            command,
            stdin=follower,
            stdout=follower,
            stderr=follower,
            check=True,
            timeout=120,
            env=settings | environment,
        )
    return plain(bytes(said))


@contextmanager
def stdout_on_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> Iterator[bytearray]:
    """stdout of this process is a terminal, whose width COLUMNS says; gives what was printed when
    the block has ended."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm-256color")
    said = bytearray()
    with (
        terminal(said, columns) as follower,
        os.fdopen(os.dup(follower), "w", encoding="utf-8") as stream,
        redirect_stdout(stream),
    ):
        yield said
