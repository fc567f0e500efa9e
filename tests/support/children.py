"""Functions of a test file in processes of their own: starting them, and what they tell.

Such a file ends with `globals()[sys.argv[1]](*sys.argv[2:])` where it is run as a script.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

from forked import Child


def start(
    verb: Callable[..., None], *arguments: object, wrapper: Sequence[str] = (), **options: Any
) -> Any:
    """Begin a function of a test file; its arguments arrive as strings. `wrapper`: words before the
    command. `options`: of Popen; without either, the zygote forks the child."""
    command = [inspect.getfile(verb), verb.__name__, *map(str, arguments)]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    if not wrapper and not options:
        return Child(command, environment)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE} | options
    command = [*wrapper, sys.executable, *command]
    return subprocess.Popen(command, text=True, env=environment, **pipes)


def run(verb: Callable[..., None], *arguments: object, wrapper: Sequence[str] = ()) -> list[str]:
    """Run it to its end, which must be a good one; the lines it told."""
    child = start(verb, *arguments, wrapper=wrapper)
    output, _ = child.communicate(timeout=120)
    assert child.returncode == 0, output
    return output.splitlines()


def let_go(children: Sequence[Any]) -> None:
    """Wait until each is at :func:`together`, then let them go on at once."""
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()


# What a child says


def tell(line: str) -> None:
    """One line to the parent in one system call: what was told before a kill has been told."""
    os.write(1, (line + "\n").encode())


def tell_json(value: object) -> None:
    """The same of a value."""
    tell(json.dumps(value))


def together() -> None:
    """Say that it is ready, and wait for the others."""
    tell("ready")
    sys.stdin.readline()
