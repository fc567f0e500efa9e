"""What the tests of the page share: the demo's home."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from cli_runner import Cli

import trustvlm


@pytest.fixture(scope="session")
def demo_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's home, with a calibration that may correct labels, made once for all workers of
    pytest-xdist; tests work on copies (:func:`browsing.copied`)."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    home = folder / "demo"
    with (folder / "demo.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not home.exists():
            _make(folder / "demo-unfinished")
            (folder / "demo-unfinished").rename(home)
    return home


def _make(home: Path) -> None:
    Cli(home)("demo")
    with trustvlm.open(home) as service:
        keeping = service.list_calibrations("digits")[0]
        service.recalibrate(
            "digits",
            rule="trustvlm_star",
            params={"lambda": 3.0, "temperature": 0.03},
            may_correct=True,
        )
        service.remove_calibration("digits", keeping.id)
