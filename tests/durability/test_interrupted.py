"""Asked to end, out of room, on a failing disk: what was committed stays, what is said is right,
repeating completes."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from cli_runner import COMMAND
from crash_state import (
    CATALOG,
    IMAGES,
    TEXTS,
    create,
    label_input,
    read_state,
    require_sound,
    require_whole,
)
from forked import Child
from sqlalchemy import event
from thresholds import set_thresholds

import trustvlm
from trustvlm.system.signals import Terminated, leaving_on_sigterm, unbroken

MANY = 3_000


@pytest.fixture
def made(tmp_path: Path) -> Path:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service, "main")
    return tmp_path / "home"


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    """An npz of 3,000 labels with a support image each: three chunks."""
    arrays = {
        "label_names": np.array([f"label {i:04d}" for i in range(MANY)]),
        "text_vectors": TEXTS[:MANY],
        "image_vectors": IMAGES[:MANY],
        "image_labels": np.arange(MANY),
    }
    np.savez(tmp_path / "labels.npz", **arrays)
    return tmp_path / "labels.npz"


def register(home: Path, vectors: Path, fault: str = "") -> Child:
    command = [*COMMAND[1:], "--home", str(home), "register", "main", "--vectors", str(vectors)]
    environment = os.environ | {"TRUSTVLM_FAULT": fault, "OMP_NUM_THREADS": "1"}
    return Child(command, environment, stderr=None)


# Asked to end


def test_sigterm_in_a_transaction_ends_after_it(made: Path, vectors: Path) -> None:
    """The chunk under way is committed, the command says what is in and how to go on, and ends with
    143."""
    child = register(made, vectors, "register.labels:2:term")
    output, said = child.communicate(timeout=60)
    assert (child.returncode, output) == (143, "")
    assert said.splitlines() == [
        "2,000 of 3,000 labels are in; the same command again does the rest",
        "Error: ended by a signal; what was committed stays",
    ]
    assert len(read_state(made)["main"].labels) == 2_000
    with trustvlm.open(made) as service:
        assert (
            service.register(
                "main", [label_input(f"label {i:04d}", i, [i]) for i in range(MANY)]
            ).added_labels
            == 1_000
        )
    require_sound(made)


@pytest.mark.slow
@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_at_any_moment(made: Path, vectors: Path, ask: signal.Signals) -> None:
    """Whole chunks are there, at least those that the command speaks of."""
    child = register(made, vectors)
    for _ in range(600):
        time.sleep(0.02)
        if len(read_state(made)["main"].labels) > 0 or child.poll() is not None:
            break
    child.send_signal(ask)
    _, said = child.communicate(timeout=60)
    present = len(read_state(made)["main"].labels)
    assert present % 1_000 == 0
    if child.returncode != 0:  # else it was faster than the signal
        assert child.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130}[ask]
        claimed = int(said.split(" of ")[0].replace(",", ""))
        assert claimed <= present <= claimed + 1_000
    require_sound(made)


def go_on_after_sigterm(steps: list[str]) -> None:
    with unbroken(), unbroken():
        signal.raise_signal(signal.SIGTERM)
        steps.append("went on")


def test_leaving_waits_for_the_block_and_only_for_that() -> None:
    steps: list[str] = []
    before = signal.getsignal(signal.SIGTERM)
    with leaving_on_sigterm():
        with pytest.raises(Terminated):
            go_on_after_sigterm(steps)
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        with unbroken():
            steps.append("works again")
    assert steps == ["went on", "works again"]
    assert signal.getsignal(signal.SIGTERM) is before


def test_another_thread_neither_waits_nor_leaves() -> None:
    def work() -> None:
        with leaving_on_sigterm(), unbroken():
            done.append(signal.getsignal(signal.SIGTERM))

    done: list[object] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [signal.getsignal(signal.SIGTERM)]


def test_ctrl_c_within_a_statement_gives_up_the_write_lock(made: Path) -> None:
    """Also while somebody holds the exception, and with it the cursor that the statement ran on."""
    with trustvlm.open(made) as service:
        engine, interrupted = service._home.catalog._backend.engine, []
        three = [label_input(f"label {i}", i, [i]) for i in range(3)]

        def interrupt(connection: object, cursor: object, statement: str, *_: object) -> None:
            if statement.startswith(
                "SELECT labels.name, labels.id"
            ):  # what was just inserted: the lock is held
                interrupted.append(statement)
                raise KeyboardInterrupt

        event.listen(engine, "after_cursor_execute", interrupt)
        with pytest.raises(KeyboardInterrupt) as held:
            service.register("main", three)
        event.remove(engine, "after_cursor_execute", interrupt)
        assert len(interrupted) == 1
        other = sqlite3.connect(made / CATALOG, timeout=0, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")  # "database is locked" as long as the lock is held
        other.close()
        assert read_state(made)["main"].labels == {}
        assert service.register("main", three).added_labels == 3
        assert held.value is not None


# Out of room


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or os.getuid() != 0:
        pytest.skip("making a small file system takes root")
    if subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=3m", "none", str(place)],
        check=False,
        capture_output=True,
    ).returncode:
        pytest.skip("mounting is not permitted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_home_that_cannot_be_opened_says_why(small_disk: Path) -> None:
    """A full disk; and a file system without writing whose log holds changes: both are whole
    again where there is room, and where it can be written."""
    home = small_disk / "home"
    with trustvlm.open(home, create=True) as service:
        create(service, "main")
        shutil.copytree(home, small_disk / "killed")  # as a process that is killed leaves it
    ballast = small_disk / "ballast"
    with suppress(OSError), ballast.open("wb", buffering=0) as file:  # until the disk is full
        while True:
            file.write(bytes(4096))
    with pytest.raises(trustvlm.Unavailable, match="disk is full: make room; to read a home, too"):
        trustvlm.open(home, read_only=True)
    ballast.unlink()
    with trustvlm.open(home, read_only=True) as service:
        assert [space.name for space in service.list_spaces()] == ["main"]

    killed, view = small_disk / "killed", small_disk / "view"
    (killed / "catalog.sqlite3-shm").unlink()
    view.mkdir()
    subprocess.run(["mount", "--bind", str(killed), str(view)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(view)], check=True)
        with pytest.raises(trustvlm.Unavailable, match="sqlite3-wal holds changes, which can be"):
            trustvlm.open(view, read_only=True)
    finally:
        subprocess.run(["umount", "-l", str(view)], check=True)
    with trustvlm.open(killed) as service:
        assert [space.name for space in service.list_spaces()] == ["main"]


@pytest.mark.slow
def test_a_full_disk(small_disk: Path, tmp_path: Path) -> None:
    """A clear error, whole chunks, reading and removing go on; with more room the same call
    completes."""
    labels = [label_input(f"label {i:04d}", i, [i, i + 3_000]) for i in range(3_000)]
    home, committed = small_disk / "home", 0
    set_thresholds(home, transaction_labels=200)

    def count(names: list[str]) -> None:
        nonlocal committed
        committed += len(names)

    with trustvlm.open(home, create=True) as service:
        create(service, "main")
        with pytest.raises(trustvlm.Unavailable, match="full"):
            service.register("main", labels, on_commit=count)
        assert 0 < committed < 3_000
        assert service.get_space("main").label_count == committed
        service.score("main", trustvlm.Queries(TEXTS[:2], IMAGES[:2]))
    require_whole(home, read_state(home), tmp_path / "fresh")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    with trustvlm.open(home) as service:
        assert service.register("main", labels).added_labels == 3_000 - committed
        assert service.get_space("main").support_count == 6_000
    require_sound(home)


def test_no_room_for_a_home(small_disk: Path) -> None:
    """It is not made by half: the error says why, and with room it can be made."""
    (small_disk / "filler").write_bytes(bytes(3 * 2**20 - 60_000))
    with pytest.raises(trustvlm.Unavailable):
        trustvlm.open(small_disk / "home", create=True)
    (small_disk / "filler").unlink()
    with trustvlm.open(small_disk / "home", create=True) as service:
        create(service, "main")
        service.register("main", [label_input("one", 1, [1])])
    require_sound(small_disk / "home")


def test_a_snapshot_that_cannot_be_deleted_is_no_quiet_purge(made: Path) -> None:
    """It may hold what was purged: the purge says so, and is finished when it can be."""
    with trustvlm.open(made) as service:
        service.register("main", [label_input("one", 1, [1]), label_input("two", 2, [2])])
        service.rebuild_index("main")
        (snapshot,) = (made / "snapshots").iterdir()
        snapshot.unlink()
        (snapshot / "in the way").mkdir(parents=True)
        with pytest.raises(trustvlm.Unavailable, match="may hold what was purged"):
            service.remove_label("main", "one", purge=True)
        (snapshot / "in the way").rmdir()
        snapshot.rmdir()
        service.purge(older_than=timedelta(0))
    assert read_state(made)["main"].labels.keys() == {"two"}


def register_within(home: str, limit: str) -> None:
    """Child: register where no file may grow beyond so many bytes: a write fails in the middle, as
    on a failing disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    with trustvlm.open(home) as service:
        try:
            service.register("main", [label_input(f"label {i:04d}", i, [i]) for i in range(2_000)])
        except trustvlm.Unavailable as error:
            os.write(1, f"Unavailable {error}".encode())


@pytest.mark.slow
def test_a_disk_that_fails_in_the_middle_of_a_write(made: Path) -> None:
    for limit in (100_000, 200_000, 300_000, 400_000, 800_000):
        command = [sys.executable, __file__, "register_within", str(made), str(limit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout[:12]) == (0, "Unavailable "), done.stderr
        assert len(read_state(made)["main"].labels) % 1_000 == 0
        require_sound(made)
    with trustvlm.open(made) as service:
        service.register("main", [label_input(f"label {i:04d}", i, [i]) for i in range(2_000)])
    assert len(read_state(made)["main"].labels) == 2_000


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
