"""Runs the command line in this process, or as a real one, and says what came out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from click.testing import CliRunner, Result
from forked import Child

from trustvlm.cli import main

COMMAND = (sys.executable, "-m", "trustvlm.cli")


class Cli:
    """The command line on one home, which the environment names: suggested commands stay short."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def run(self, *arguments: object, code: int = 0) -> Result:
        """What a command answers; it must end with exit code `code`, and say one line where that is
        an error."""
        home = {"TRUSTVLM_HOME": str(self.home)}
        result = CliRunner(env=home).invoke(main, [*map(str, arguments)], prog_name="trustvlm")
        trace = "".join(traceback.format_exception(result.exception)) if result.exception else ""
        assert result.exit_code == code, (
            f"exit code {result.exit_code}, expected {code}\n{result.output}\n{trace}"
        )
        if code > 2:
            assert result.stderr.splitlines()[-1].startswith("Error: ")
        return result

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """stdout of a command that succeeds; stderr of one that must not."""
        result = self.run(*arguments, code=code)
        return result.stderr if code else result.stdout

    def rows(self, *arguments: object) -> list[dict[str, Any]]:
        """What a command with --format jsonl answers."""
        return [json.loads(line) for line in self(*arguments, "--format", "jsonl").splitlines()]

    def process(
        self, *arguments: object, stdout: int | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """The same as a process of its own, with more variables. `stdout`: a descriptor."""
        command = [*COMMAND[1:], "--home", str(self.home), *map(str, arguments)]
        with Child(command, os.environ | environment, stderr=None, stdout=stdout) as child:
            output, errors = child.communicate(timeout=120)
        return subprocess.CompletedProcess(command, child.wait(), output, errors)


def commands(
    command: click.Command = main, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from commands(child, (*path, name))


def without_home_variables() -> dict[str, str]:
    """The environment but for what names a home or sets something of it; a catalog that is in a
    database (fixture `back_end`) stays there."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("TRUSTVLM_", "XDG_")) or name == "TRUSTVLM_DATABASE_URL"
    }


NAMES = ("airport", "beach", "sea [red]")


def save_labels(path: Path, shots: int = 2, **changes: Any) -> Path:
    """An npz of three labels: text vectors are the axes, support images lie close to them; "sea
    [red]" has none."""
    rng = np.random.default_rng(0)
    arrays: dict[str, Any] = {
        "label_names": np.array(NAMES),
        "text_vectors": np.eye(3, 4),
        "image_vectors": np.repeat(np.eye(2, 6), shots, axis=0)
        + 0.01 * rng.normal(size=(2 * shots, 6)),
        "image_labels": np.repeat([0, 1], shots),
    }
    np.savez(
        path, **{name: array for name, array in (arrays | changes).items() if array is not None}
    )
    return path


def save_queries(path: Path, **changes: Any) -> Path:
    """An npz of three queries: an airport, a beach whose picture is an airport's, and a sea."""
    arrays: dict[str, Any] = {
        "classifier": np.eye(3, 4) + 0.01,
        "verifier": np.eye(6)[[0, 0, 5]] + 0.01,
        "sources": np.array(["one.jpg", "[bold]two[/]", "drei ü.jpg"]),
    }
    np.savez(
        path, **{name: array for name, array in (arrays | changes).items() if array is not None}
    )
    return path
