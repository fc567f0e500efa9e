"""Runs the commands of documentation pages in order, as a reader types them.

Each `trustvlm` command is a process of its own, forked from one that has imported PyTorch already:
importing it takes longer than most commands. Other lines go through a shell.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_PRELOAD = (
    "pytest",
    "open_clip",
    "timm",
    "faiss",
    "scipy.optimize",
    "alembic.command",
    "trustvlm.settings",
    "trustvlm.demo.run",
    "shell",
)


def run_trustvlm(
    arguments: list[str], folder: Path, variables: Mapping[str, str], output: Path
) -> None:
    """Run one command in this process, which ends with its exit code."""
    from trustvlm.cli import main

    with output.open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.update(variables)
    os.chdir(folder)
    main(args=arguments, prog_name="trustvlm")


class Shell:
    """A folder to work in and variables that stay set, like an interactive shell's."""

    def __init__(self, folder: Path, **variables: str) -> None:
        self.folder, self.variables = folder, variables
        self._processes = multiprocessing.get_context("forkserver")
        self._processes.set_forkserver_preload(list(_PRELOAD))

    def run(self, line: str) -> str:
        """What a line prints, errors included."""
        words = shlex.split(self._expanded(line))
        if words[0] == "export":
            self.variables.update(word.split("=", 1) for word in words[1:])
            return ""
        if words[0] == "trustvlm":
            return self._command(words[1:])
        scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return subprocess.run(
            line,
            shell=True,  # the line is a shell command, and it is ours
            cwd=self.folder,
            env=os.environ | self.variables | {"PATH": scripts},
            text=True,
            timeout=240,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        ).stdout

    def _command(self, arguments: list[str]) -> str:
        output = self.folder / ".output"
        process = self._processes.Process(
            target=run_trustvlm, args=(arguments, self.folder, self.variables, output)
        )
        process.start()
        process.join(240)
        assert process.exitcode is not None, f"{arguments} did not end"
        return output.read_text(encoding="utf-8")

    def _expanded(self, line: str) -> str:
        for name, value in self.variables.items():
            line = line.replace(f"${name}", value)
        return line
