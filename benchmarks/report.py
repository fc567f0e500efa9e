"""What every benchmark prints and stores beside its figures."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["arguments", "header", "machine", "store"]


def arguments(description: str | None, results: Path) -> argparse.ArgumentParser:
    """A parser with the option --json: where the figures go."""
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=description, formatter_class=kind)
    parser.add_argument("--json", type=Path, default=results, help="where the figures go")
    return parser


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
