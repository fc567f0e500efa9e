"""Commands of bulk work that are killed: at a named step, or after a while."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil
from cli_runner import COMMAND
from forked import Child


def command(home: Path, given: Path, out: Path, *options: str) -> list[str]:
    return [*COMMAND, "--home", str(home), "bulk", "score", "space", str(given), str(out), *options]


def struck(arguments: Sequence[str], fault: str) -> int:
    """The exit code of a command in which a fault is due."""
    environment = os.environ | {"TRUSTVLM_FAULT": fault}
    with Child(arguments[1:], environment, stderr=None) as child:
        child.communicate(timeout=280)
    return child.wait()


def started(arguments: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(arguments, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def workers(parent: int) -> list[psutil.Process]:
    """The processes that work for a command, without their own children."""
    return [
        child
        for child in psutil.Process(parent).children()
        if "spawn_main" in " ".join(child.cmdline())
    ]


def killed(process: psutil.Process | subprocess.Popen[str]) -> None:
    os.kill(process.pid, signal.SIGKILL)
