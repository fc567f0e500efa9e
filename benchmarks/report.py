"""What every benchmark prints and stores beside its figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["ONE_THREAD", "arguments", "header", "machine", "on_one_thread", "store"]

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""The environment in which libraries of linear algebra use one thread; read when they load."""


def arguments(description: str | None, results: Path) -> argparse.ArgumentParser:
    """A parser with the option --json: where the figures go."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=kind)
    parser.add_argument("--json", type=Path, default=results, help="where the figures go")
    return parser


def on_one_thread(name: str) -> None:
    """Start the program `benchmarks.name` again with :data:`ONE_THREAD`, in this process's place,
    unless it has that already."""
    if not all(os.environ.get(variable) == "1" for variable in ONE_THREAD):
        command = [sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | ONE_THREAD)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "load": round(os.getloadavg()[0], 2),
        "sqlite": sqlite3.sqlite_version,
        **{name: version(name) for name in ("trustvlm", "numpy", "sqlalchemy")},
    }


def header(name: str) -> dict[str, Any]:
    """Which benchmark, when and where."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"benchmark": name, "measured_at": now, "machine": machine()}


def store(path: Path, report: dict[str, Any]) -> None:
    """Write a report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
