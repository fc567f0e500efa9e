"""A power cut, which a kill cannot show: what was written but not synced may be lost; what was
acknowledged may not.

A child is traced; then its files are made again as a power cut at any moment may have left them
(tests/disk.py).
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from crash_child import furnished, tour_of
from crash_state import create, label_input, read_state, require_sound, require_whole
from disk import CALLS, Folder, Replay, after_power_cut, contents, folder_of
from test_crash import CHILD, TIMEOUT_S, Told

import trustvlm


def traced(trace: Path, *arguments: object) -> list[str]:
    """The lines of a trace of a child of the crash tests."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run(
        [strace, "-f", "-o", os.devnull, "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("tracing processes is not permitted here")
    command = [strace, "-f", "-xx", "-s", "40000000", "-e", f"trace={CALLS}", "-o", str(trace)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    child = [sys.executable, str(CHILD), *map(str, arguments)]
    done = subprocess.run(
        [*command, *child],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("E\n")
    with trace.open(encoding="ascii", errors="replace") as lines:
        return list(lines)


def moments(changes: int, chance: random.Random, most: int | None) -> set[int]:
    """The changes to the disk after which the power goes: all, or some."""
    return (
        set(range(changes))
        if most is None
        else set(chance.sample(range(changes), min(most, changes)))
    )


STEPS = next(number for number, op in enumerate(tour_of()) if op["op"] == "import")
"""Of the tour: before those that start a process of their own, and those of the space of 2,000
labels."""

FEW = 3
"""Of the steps, those of the short form."""


@pytest.mark.parametrize(
    "most", [4, pytest.param(None, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_what_was_acknowledged_survives_a_power_cut(
    tmp_path: Path, most: int | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """With nothing that was not synced, with all of it, and with random parts of it: a state that
    was told, and sound."""
    home = tmp_path / "root" / "home"
    with trustvlm.open(home, create=True) as service:
        before = furnished(service)
    folder = folder_of(home.parent)
    steps = STEPS if most is None else FEW
    lines = traced(tmp_path / "trace", home, "tour", steps)
    replay, told, chance = Replay(home.parent, folder), Told(before), random.Random(7)
    chosen, cuts, acknowledged = (
        moments(len(lines), chance, None if most is None else most * 12),
        0,
        0,
    )
    seen = -1
    for number, line in enumerate(lines):
        if (said := replay.applied(line)) is not None:
            told.hear(said)
        changed = sum(
            map(
                hash, (tuple(len(f.pending) for f in _nodes(replay.folder)), told.done, told.chunks)
            )
        )
        if number not in chosen or changed == seen:
            continue
        seen = changed
        for keep in (0.0, 0.5, 1.0) if most is None else (chance.choice((0.0, 0.5, 1.0)),):
            place = tmp_path / "cut"
            after_power_cut(replay.folder, place, chance, keep)
            found = told.require(place / "home")
            require_sound(place / "home")
            if (
                cuts % (5 if told.op is not None and told.op["op"] in ("backup", "restore") else 20)
                == 0
            ):
                replace(told, ever=[*told.ever]).require_beside(place / "home", tmp_path / "again")
            if cuts % 20 == 0:
                require_whole(place / "home", found, tmp_path / "fresh")
                shutil.rmtree(tmp_path / "fresh")
            shutil.rmtree(place)
            cuts, acknowledged = cuts + 1, max(acknowledged, told.done)
    assert told.done == steps
    there = {
        str(path.relative_to(home.parent)): path.read_bytes()
        for path in home.parent.rglob("*")
        if path.is_file()
    }
    assert contents(replay.folder) == {
        path: data for path, data in there.items() if not path.endswith("-shm")
    }
    assert read_state(home) == told.state
    assert cuts >= (most or 500) // 2
    with capsys.disabled():
        if most is None:
            print(  # noqa: T201
                f"\n{cuts} power cuts, {told.done} changes: 0 acknowledged changes lost, 0 "
                f"unsound homes"
            )


def _nodes(folder: object) -> list:  # type: ignore[type-arg]
    assert isinstance(folder, Folder)
    inner = [node for node in folder.now.values() if isinstance(node, Folder)]
    return [
        folder,
        *(node for node in folder.now.values()),
        *(node for one in inner for node in _nodes(one)[1:]),
    ]


@pytest.mark.slow
def test_a_new_home_survives_a_power_cut_once_it_is_there(tmp_path: Path) -> None:
    """Its folder's name too. At an earlier cut the home may be missing or empty, and can then be
    made."""
    root = tmp_path / "root"
    root.mkdir()
    lines = traced(tmp_path / "trace", root / "deep" / "er", "create", 1)
    replay, chance = Replay(root, folder_of(root)), random.Random(8)
    begun = done = cuts = 0
    for line in lines:
        before = [len(node.pending) for node in _nodes(replay.folder)]
        said = replay.applied(line)
        begun += said is not None and said.startswith("B")
        done += said is not None and said.startswith("D")
        if not begun or (
            said is None and before == [len(node.pending) for node in _nodes(replay.folder)]
        ):
            continue
        cuts += 1
        if cuts % 8 and not done:
            continue
        place = tmp_path / "cut"
        after_power_cut(replay.folder, place, chance, chance.choice((0.0, 0.5, 1.0)))
        home = place / "deep" / "er" / "copy 0"
        assert not done or (home / "catalog.sqlite3").is_file(), "an acknowledged home is gone"
        with trustvlm.open(home, create=not done) as service:
            create(service, "main")
            service.register("main", [label_input("one", 1, [1])])
        require_sound(home)
        shutil.rmtree(place)
    assert begun == done == 1


WORDS = """
import ctypes, os, sys
def at(path): return sys.argv[1] + "/" + path
def mv(old, new): os.rename(at(old), at(new))
def ln(old, new): os.link(at(old), at(new))
def rm(path): os.unlink(at(path))
def rmdir(path): os.rmdir(at(path))
def rm_in(folder, name): os.unlink(name, dir_fd=os.open(at(folder), os.O_RDONLY))
def exchange(one, other): assert not ctypes.CDLL(None).renameat2(-100, at(one).encode(), -100, at(other).encode(), 2)
def sync(path): os.fsync(os.open(at(path), os.O_RDONLY))
"""
"""What the small children below can do."""


def test_the_model_of_the_disk_loses_what_is_not_synced(tmp_path: Path) -> None:
    """The test of the test: a change that is told before it is synced is found to be lost."""
    code = (
        "f = os.open(at('file'), os.O_RDWR | os.O_CREAT)\n"
        "os.pwrite(f, b'one', 0); os.fsync(f); sync('.')\n"
        "os.pwrite(f, b'two', 3); os.write(1, b'told\\n')\n"
    )
    folder, told = small_child(tmp_path, code)
    assert told == ["told\n"]
    assert left(folder, tmp_path) == ({"file": b"one"}, {"file": b"onetwo"})


RENAMES = {
    # What is done in a folder that holds, safely, "file" (b"f"), the folder "in" with "made"
    # (b"m"), and the empty folder "gone" → what a cut leaves at least, and at most, of what was not
    # there before.
    "mv('in/made', 'file')": ({"file": b"f", "in/made": b"m"}, {"file": b"m"}),
    "mv('in/made', 'file'); sync('.')": ({"file": b"m", "in/made": b"m"}, {"file": b"m"}),
    "mv('in/made', 'file'); sync('in')": ({"file": b"f"}, {"file": b"m"}),
    "mv('in/made', 'file'); sync('.'); sync('in')": ({"file": b"m"}, {"file": b"m"}),
    "ln('in/made', 'new'); rm('in/made'); sync('in')": (
        {"file": b"f"},
        {"file": b"f", "new": b"m"},
    ),
    "rm('in/made'); rmdir('in')": ({"file": b"f", "in/made": b"m"}, {"file": b"f"}),
    "rm_in('in', 'made'); sync('in')": ({"file": b"f"}, {"file": b"f"}),
    "exchange('in', 'gone'); sync('in')": (
        {"file": b"f", "in/made": b"m"},
        {"file": b"f", "gone/made": b"m"},
    ),
    "exchange('in', 'gone'); sync('.')": (
        {"file": b"f", "gone/made": b"m"},
        {"file": b"f", "gone/made": b"m"},
    ),
    "exchange('in/made', 'file'); sync('in'); sync('.')": (
        {"file": b"m", "in/made": b"f"},
        {"file": b"m", "in/made": b"f"},
    ),
}


@pytest.mark.parametrize("done", RENAMES)
def test_the_model_of_names(tmp_path: Path, done: str) -> None:
    """A name in another folder is safe with the sync of that folder, the old name's end with that
    of the old one."""
    (tmp_path / "root" / "in").mkdir(parents=True)
    (tmp_path / "root" / "gone").mkdir()
    (tmp_path / "root" / "file").write_bytes(b"f")
    (tmp_path / "root" / "in" / "made").write_bytes(b"m")
    folder, _ = small_child(tmp_path, done)
    assert left(folder, tmp_path) == RENAMES[done]


def small_child(place: Path, code: str) -> tuple[Folder, list[str]]:
    """Let a child do this in the folder `place`/root, traced: the model of what is there, and what
    it told."""
    root = place / "root"
    root.mkdir(exist_ok=True)
    replay = Replay(root, folder_of(root))
    trace = place / "trace"
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    traces = [strace, "-f", "-xx", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(trace)]
    if subprocess.run([*traces, "true"], check=False, capture_output=True).returncode:
        pytest.skip("tracing processes is not permitted here")
    subprocess.run(
        [*traces, sys.executable, "-S", "-E", "-c", WORDS + code, str(root)],
        check=True,
        capture_output=True,
    )
    told = [
        said
        for line in trace.read_text().splitlines()
        if (said := replay.applied(line)) is not None
    ]
    assert contents(replay.folder) == {
        str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()
    }
    return replay.folder, told


def left(folder: Folder, place: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What a power cut leaves at least and at most: path → bytes."""
    found = []
    for keep in (0.0, 1.0):
        cut = place / f"cut {keep}"
        after_power_cut(folder, cut, random.Random(0), keep)
        found.append(
            {
                str(path.relative_to(cut)): path.read_bytes()
                for path in cut.rglob("*")
                if path.is_file()
            }
        )
    return found[0], found[1]
