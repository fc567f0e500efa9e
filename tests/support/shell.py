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

OUTPUT = ".output"
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


def run_here(kind: str, code: list[str], folder: Path, variables: Mapping[str, str]) -> None:
    """Run a trustvlm command or Python code in this process, which ends with its exit code."""
    with (folder / OUTPUT).open("w") as file:
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
    os.environ.update(variables)
    os.chdir(folder)
    if kind == "python":
        exec(compile(code[0], "<page>", "exec"), {"__name__": "__main__"})
    else:
        from trustvlm.cli import main

        main(args=code, prog_name="trustvlm")


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
            return self._forked("trustvlm", words[1:])
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

    def python(self, code: str) -> str:
        """What Python code prints, its traceback included."""
        return self._forked("python", [code])

    def _forked(self, kind: str, code: list[str]) -> str:
        process = self._processes.Process(
            target=run_here, args=(kind, code, self.folder, self.variables)
        )
        process.start()
        process.join(240)
        assert process.exitcode is not None, f"{code} did not end"
        return (self.folder / OUTPUT).read_text(encoding="utf-8")

    def _expanded(self, line: str) -> str:
        for name, value in self.variables.items():
            line = line.replace(f"${name}", value)
        return line
