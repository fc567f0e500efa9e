"""Bulk work that is killed: the same command completes it, and every row is there once."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import psutil
import pyarrow.parquet as pq
import pytest
from bulk_worlds import FILES, ROWS, folder_of_vectors, sources
from kills import command, killed, started, struck, workers
from waiting import until

import trustvlm.bulk
from trustvlm.bulk.files import KEPT

POINTS = ("bulk.begun", "bulk.written", "bulk.synced", "bulk.renamed")
UNITS = 24


def leftovers(out: Path) -> list[str]:
    return [path.name for path in out.rglob("*") if path.name.startswith(".")]


def whole(out: Path) -> bool:
    """Whether each file that has its name can be read from end to end."""
    return all(len(pq.read_table(path)) for path in out.glob("*.parquet"))


def completed(home: Path, given: Path, out: Path, rows: int, **options: object) -> None:
    """Repeat the command in this process, and look at what is there."""
    assert whole(out)
    report = trustvlm.bulk.score(home, "space", given, out, **options)  # type: ignore[arg-type]
    names = sources(out)
    assert (report.rows, len(names), len(set(names))) == (rows, rows, rows)
    assert leftovers(out) == []
    assert not (out / KEPT).exists()


@pytest.mark.parametrize(
    "fault",
    ["bulk.synced:2:kill", *[pytest.param(f"{p}:1:kill", marks=pytest.mark.slow) for p in POINTS]],
)
def test_killed_at_a_named_step(home: Path, tmp_path: Path, fault: str) -> None:
    given, out = folder_of_vectors(tmp_path / "in"), tmp_path / "out"
    assert struck(command(home, given, out), fault) == -9
    completed(home, given, out, FILES * ROWS)


@pytest.mark.slow  # by default: test_killed_at_a_named_step
def test_a_disk_that_fails_is_said(home: Path, tmp_path: Path) -> None:
    given, out = folder_of_vectors(tmp_path / "in"), tmp_path / "out"
    assert struck(command(home, given, out), "bulk.written:2:enospc") == 5
    completed(home, given, out, FILES * ROWS)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(home: Path, tmp_path: Path) -> None:
    given, out = folder_of_vectors(tmp_path / "in", UNITS, 3_000), tmp_path / "out"
    with started(command(home, given, out, "--on", "processes:2")) as process:
        until(lambda: len(list(out.glob("*.parquet"))) >= 2)
        killed(workers(process.pid)[0])
        stdout, stderr = process.communicate(timeout=240)
    assert process.returncode == 0, stderr
    assert f"{UNITS} written now" in stdout
    names = sources(out)
    assert len(names) == len(set(names)) == UNITS * 3_000
    completed(home, given, out, UNITS * 3_000)


@pytest.mark.skipif(
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN, reason="Ctrl-C is ignored, as under nohup"
)
def test_ctrl_c_reaches_no_process_that_still_imports(home: Path, tmp_path: Path) -> None:
    """The terminal sends it to all; the command alone minds it, and says so in one sentence."""
    given, out = folder_of_vectors(tmp_path / "in"), tmp_path / "out"
    with started(command(home, given, out, "--on", "processes:1")) as process:
        until(lambda: workers(process.pid))
        (worker,) = workers(process.pid)
        until(lambda: any("numpy" in each.path for each in worker.memory_maps()))
        worker.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "Traceback" not in stderr


@pytest.mark.slow
def test_a_unit_over_which_all_workers_end_is_named(home: Path, tmp_path: Path) -> None:
    given, out = folder_of_vectors(tmp_path / "in"), tmp_path / "out"
    arguments = command(home, given, out, "--on", "processes:1")
    assert struck(arguments, "bulk.begun:1:kill") == 5
    completed(home, given, out, FILES * ROWS)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("on", ["here", "processes:2"])
def test_a_driver_that_is_killed_leaves_no_worker(home: Path, tmp_path: Path, on: str) -> None:
    given, out = folder_of_vectors(tmp_path / "in", UNITS, 3_000), tmp_path / "out"
    chance = random.Random(on)
    for attempt in range(4):
        with started(command(home, given, out, "--on", on)) as process:
            until(lambda n=attempt: len(list(out.glob("*.parquet"))) >= 2 * (n + 1))
            time.sleep(chance.uniform(0.0, 0.3))
            orphans = psutil.Process(process.pid).children(recursive=True)
            killed(process)
            process.communicate(timeout=60)
        assert whole(out)
        until(lambda some=orphans: not any(one.is_running() for one in some))
    completed(home, given, out, UNITS * 3_000)
