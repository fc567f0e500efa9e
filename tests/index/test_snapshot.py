"""Snapshot files: what goes in comes out, or the file is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import struct
import subprocess
import sys
import threading
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import run_code
from hypothesis import given
from hypothesis import strategies as st

from trustvlm.errors import Conflict, Damaged, InvalidInput, NotFound, ReadOnly, Unavailable
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import list_recipes
from trustvlm.index.snapshot import SnapshotWriter, read_snapshot, sweep, write_snapshot
from trustvlm.index.snapshot_header import SnapshotKey
from trustvlm.index.string_table import NameTable, pack_strings

KEY = SnapshotKey("0b6e-epoch", 7, 42, "flat", "precomputed:8#text", "same")


def small_arrays() -> dict[str, np.ndarray]:
    return {
        "ids": np.arange(5, dtype=np.int64),
        "rows": np.linspace(-1, 1, 15, dtype=np.float32).reshape(5, 3),
        "alive": np.array([True, False, True]),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "space.snapshot"
    write_snapshot(path, KEY, small_arrays())
    return path


def test_round_trip_of_every_kind_of_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    kinds = ["?", "i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
    arrays: dict[str, np.ndarray] = {
        f"kind {kind}": rng.integers(0, 2, (3, 5)).astype(kind) for kind in kinds
    }
    arrays |= {
        "empty": np.empty((0, 512), np.float32),
        "nothing": np.empty(0, np.int64),
        "scalar": np.array(3.5),
        "fortran": np.asfortranarray(rng.random((4, 6))),
        "strided": rng.random((8, 6))[::2, ::-1],
        "großer Name ☃": np.array([np.nan, -0.0, np.inf]),
    }
    write_snapshot(tmp_path / "new" / "folder" / "a.snapshot", KEY, arrays)
    found = read_snapshot(tmp_path / "new" / "folder" / "a.snapshot", KEY)
    assert found.key == KEY
    assert list(found.arrays) == list(arrays)
    for name, array in arrays.items():
        assert found.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(found.arrays[name], array)
        assert found.arrays[name].flags.writeable


def test_no_arrays(tmp_path: Path) -> None:
    write_snapshot(tmp_path / "none", KEY, {})
    assert read_snapshot(tmp_path / "none").arrays == {}


def test_other_keys_are_stale_but_another_revision_is_not(path: Path) -> None:
    assert read_snapshot(path, replace(KEY, revision=1)).key.revision == 42
    assert read_snapshot(path).key == KEY
    for change in (
        {"epoch": "other"}, {"space_id": 8}, {"recipe": "flat-fp16"}, {"classifier": "other"},
        {"verifier": "other"},
    ):  # fmt: skip
        with pytest.raises(Conflict, match=rf"stale.*{next(iter(change))}"):
            read_snapshot(path, replace(KEY, **change))  # type: ignore[arg-type]


def test_absent(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="absent"):
        read_snapshot(tmp_path / "absent")


def test_every_truncation_and_every_addition(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(Damaged, match=r"space\.snapshot"):
            read_snapshot(path, KEY)
    path.write_bytes(whole + b"\0")
    with pytest.raises(Damaged, match="grown"):
        read_snapshot(path, KEY)


def test_every_flipped_byte(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    for at in range(len(whole)):
        for mask in (0x01, 0xC0):
            whole[at] ^= mask
            path.write_bytes(whole)
            with pytest.raises(Damaged, match=r"space\.snapshot"):
                read_snapshot(path, KEY)
            whole[at] ^= mask
    path.write_bytes(whole)
    assert read_snapshot(path, KEY).key == KEY


def test_swapped_contents(tmp_path: Path) -> None:
    path = tmp_path / "swap"
    a, b = np.full(16, 1.5), np.full(16, 2.5)
    write_snapshot(path, KEY, {"a": a, "b": b})
    whole = path.read_bytes()
    at, bt = whole.index(a.tobytes()), whole.index(b.tobytes())
    path.write_bytes(whole[:at] + b.tobytes() + whole[at + 128 : bt] + a.tobytes())
    with pytest.raises(Damaged, match="'a'"):
        read_snapshot(path, KEY)


def forge(path: Path, change: Any, version: int = 1) -> None:
    """Rewrites the header of a file with a checksum that is right."""
    whole = path.read_bytes()
    _, _, length, _ = struct.unpack("<8sII32s", whole[:48])
    header = json.loads(whole[48 : 48 + length])
    text = change(header) if callable(change) else change
    text = text if isinstance(text, bytes) else json.dumps(header).encode()
    text = text.ljust(length)
    checksum = hashlib.sha256(struct.pack("<II", version, len(text)) + text).digest()
    path.write_bytes(
        struct.pack("<8sII32s", b"TVLMSNAP", version, len(text), checksum)
        + text
        + whole[48 + length :]
    )


def setting(array: int, **values: object) -> Any:
    return lambda header: header["arrays"][array].update(values)


def test_forging_is_what_it_seems(path: Path) -> None:
    forge(path, lambda header: None)
    assert read_snapshot(path, KEY).arrays.keys() == small_arrays().keys()


@pytest.mark.parametrize(
    "lie",
    [
        setting(0, shape=[2**60]),
        setting(0, shape=[2**40, 2**40]),
        setting(0, shape=[-5]),
        setting(0, shape=[5.0]),
        setting(0, shape=[True] * 5),
        setting(0, shape="5"),
        setting(0, shape=5),
        setting(0, shape=[0, 2**62]),
        setting(0, shape=[4]),
        setting(1, shape=[1] * 70 + [15]),
        setting(1, offset=0),
        setting(1, offset=-64),
        setting(1, offset="64"),
        setting(1, offset=2**50),
        setting(0, dtype="|O"),
        setting(0, dtype="<U2"),
        setting(0, dtype=">i8"),
        setting(0, dtype=None),
        setting(0, dtype=["<i8"]),
        setting(0, name="rows"),
        setting(0, name=3),
        setting(0, sha256=None),
        setting(0, sha256="00" * 32),
        setting(0, extra=1),
        lambda header: header.update(size=10),
        lambda header: header.update(size=None),
        lambda header: header.update(arrays=None),
        lambda header: header.update(arrays=[3]),
        lambda header: header["arrays"].reverse(),
        lambda header: header["arrays"].pop(),
        lambda header: header.pop("key"),
        lambda header: header["key"].pop("epoch"),
        lambda header: header["key"].update(extra=1),
        lambda header: header["key"].update(space_id="7"),
        lambda header: header["key"].update(epoch=7),
        lambda header: header.update(key=[]),
        b"not json",
        b"\xff",
        b"[]",
        b"null",
        b"[" * 400,
    ],
)
def test_lying_headers(path: Path, lie: Any) -> None:
    forge(path, lie)
    tracemalloc.start()
    try:
        with pytest.raises(Damaged, match=r"space\.snapshot"):
            read_snapshot(path, KEY)
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()


def test_future_version_and_other_files(path: Path) -> None:
    forge(path, lambda header: None, version=2)
    with pytest.raises(Damaged, match="version 2"):
        read_snapshot(path, KEY)
    forge(path, lambda header: None, version=0)
    with pytest.raises(Damaged, match="version 0"):
        read_snapshot(path, KEY)
    path.write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(Damaged, match="not a trustvlm snapshot"):
        read_snapshot(path, KEY)
    path.write_bytes(b"")
    with pytest.raises(Damaged):
        read_snapshot(path, KEY)


@pytest.mark.parametrize(
    "array",
    [
        np.array([object()]),
        np.array(["text"]),
        np.array([b"bytes"]),
        *(np.zeros(3, kind) for kind in (">f4", "M8[s]", "c16")),
    ],
)
def test_types_that_are_refused_leave_the_old_file(path: Path, array: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match="'bad'"):
        write_snapshot(path, KEY, {"bad": array})
    assert read_snapshot(path, KEY).arrays.keys() == small_arrays().keys()
    assert list(path.parent.iterdir()) == [path]


def test_a_disk_that_fills_up_leaves_the_old_file(path: Path) -> None:
    code = f"""
import resource, numpy as np
from pathlib import Path
from trustvlm.errors import Unavailable
from trustvlm.index.snapshot import SnapshotKey, write_snapshot
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
try:
    write_snapshot(Path({str(path)!r}), SnapshotKey("e", 1, 1, "flat", "c", "v"), {{"big": np.zeros(1 << 20)}})
except Unavailable as error:
    assert "space.snapshot" in str(error)
else:
    raise SystemExit("written")
"""
    done = run_code(code)
    assert done.returncode == 0, done.stderr
    assert read_snapshot(path, KEY).key == KEY
    assert list(path.parent.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file_and_its_leavings_are_swept(path: Path) -> None:
    code = f"""
import os, signal, threading, numpy as np
from pathlib import Path
from trustvlm.index.snapshot import SnapshotKey, write_snapshot
path = Path({str(path)!r})
def kill():
    while len(os.listdir(path.parent)) == 1: pass
    os.kill(os.getpid(), signal.SIGKILL)
threading.Thread(target=kill, daemon=True).start()
write_snapshot(path, SnapshotKey("e", 1, 1, "flat", "c", "v"), {{"big": np.zeros(1 << 25)}})
"""
    assert run_code(code).returncode == -9
    assert read_snapshot(path, KEY).key == KEY
    left = [file for file in path.parent.iterdir() if file != path]
    assert len(left) == 1
    write_snapshot(path, KEY, {})
    assert list(path.parent.iterdir()) == [path]


def test_what_a_living_writer_writes_is_not_swept(path: Path) -> None:
    with SnapshotWriter.writing(path, KEY) as writer:
        write_snapshot(path, KEY, {"first": np.zeros(3)})
        sweep(path)
        writer.add("second", np.ones(3))
    assert list(read_snapshot(path, KEY).arrays) == ["second"]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_a_sweep_at_any_moment_takes_no_file_from_its_writer(path: Path) -> None:
    """Not even between the making of the file and its lock."""
    done = threading.Event()

    def sweep_on() -> None:
        while not done.is_set():
            sweep(path)

    sweeping = threading.Thread(target=sweep_on)
    sweeping.start()
    try:
        for revision in range(1_000):
            write_snapshot(path, replace(KEY, revision=revision), {"a": np.arange(3)})
    finally:
        done.set()
        sweeping.join()
    assert read_snapshot(path, None).key.revision == 999
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_bytes_are_on_disk_before_the_name_and_the_name_before_the_return(path: Path) -> None:
    code = f"""
from pathlib import Path
from trustvlm.index.snapshot import SnapshotKey, write_snapshot
write_snapshot(Path({str(path)!r}), SnapshotKey("e", 1, 1, "flat", "c", "v"), {{}})
"""
    calls = [
        "strace",
        "-y",
        "-e",
        "trace=fsync,rename,renameat,renameat2",
        sys.executable,
        "-c",
        code,
    ]
    traced = subprocess.run(calls, capture_output=True, text=True, check=True).stderr
    steps = [line for line in traced.splitlines() if str(path.parent) in line]
    assert [line.split("(")[0].rstrip("at2") for line in steps] == ["fsync", "rename", "fsync"]
    assert ".tmp" in steps[0]
    assert f"{path.parent}>" in steps[2]


def test_folders_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable, match="file"):
        write_snapshot(tmp_path / "file" / "below", KEY, {})
    with pytest.raises(Unavailable):
        read_snapshot(tmp_path)
    if os.getuid():
        tmp_path.chmod(0o500)
        with pytest.raises(ReadOnly):
            write_snapshot(tmp_path / "a", KEY, {})
        tmp_path.chmod(0o700)


def test_large_arrays_are_not_copied(tmp_path: Path) -> None:
    array = np.random.default_rng(0).random(4 << 20)
    tracemalloc.start()
    try:
        write_snapshot(tmp_path / "large", KEY, {"large": array})
        assert tracemalloc.get_traced_memory()[1] < array.nbytes / 8
        tracemalloc.reset_peak()
        found = read_snapshot(tmp_path / "large", KEY)
        assert tracemalloc.get_traced_memory()[1] < array.nbytes * 1.1
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(found.arrays["large"], array)


@pytest.mark.parametrize("recipe", list_recipes(), ids=lambda recipe: recipe.name)
def test_an_index_through_a_file(tmp_path: Path, recipe: Any) -> None:
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(200, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = LiveIndex(recipe, 8)
    index.add(range(150), rows[:150])
    index.remove(range(30))
    write_snapshot(tmp_path / "index", replace(KEY, recipe=recipe.name), index.view().to_arrays())
    again = LiveIndex.from_arrays(recipe, 8, read_snapshot(tmp_path / "index").arrays)
    for one in (index, again):
        one.add(range(10, 20), rows[10:20])
        one.add(range(150, 200), rows[150:])
        one.remove([31])
        one.add([31], rows[:1])
    for k in (1, 50, 300):
        old, new = index.view().search(rows, k), again.view().search(rows, k)
        np.testing.assert_array_equal(old[0], new[0])
        np.testing.assert_array_equal(old[1], new[1])


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_strings_round_trip(strings: list[str]) -> None:
    data, offsets = pack_strings(strings)
    assert (data.dtype, offsets.dtype, len(offsets)) == (np.uint8, np.int64, len(strings) + 1)
    table = NameTable(data, offsets)
    assert [table[slot] for slot in range(len(table))] == strings


def test_strings_that_are_wrong() -> None:
    data, offsets = pack_strings(["sea", "größe"])
    for wrong in (
        offsets[:0],
        offsets[:2],
        offsets[::-1],
        offsets + 1,
        np.array([0, -1, 10]),
        offsets.reshape(1, -1),
    ):
        with pytest.raises(Damaged):
            NameTable(data, wrong)
    with pytest.raises(InvalidInput):
        pack_strings(["\ud800"])
