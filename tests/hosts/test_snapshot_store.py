"""Snapshots that machines share: a new machine starts from the newest one that is sound, and follows
the catalog from there; nothing that lies in the store makes a call fail or an answer wrong."""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from numbered import create, label, queries, require_equal
from thresholds import set_thresholds
from waiting import until

import trustvlm
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.index.shared import snapshot_store
from trustvlm.index.shared.snapshot_store import SnapshotStore
from trustvlm.index.snapshot_header import read_head
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.both_back_ends(slow=True)

LABELS = 30
COPY = re.compile(r"1\.[0-9a-f]{16}\.([0-9]{20})\.snapshot")


class Machine:
    """A machine of several: a home over the one catalog, and the store."""

    def __init__(self, folder: Path, store: str) -> None:
        self.home, self.store = folder, store
        set_thresholds(folder, snapshot_rows=10)
        with (folder / "trustvlm.toml").open("r+") as file:
            rest = file.read()
            file.seek(0)
            file.write(f"snapshot_store = {store!r}\n{rest}")

    def open(self) -> trustvlm.TrustService:
        return trustvlm.open(self.home, create=True)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def first(tmp_path: Path, store: Path) -> Machine:
    """A machine that has registered labels, answered, and shared its snapshot."""
    machine = Machine(tmp_path / "first", str(store))
    with machine.open() as service:
        create(service)
        service.register("space", [label(number) for number in range(LABELS)])
        service.score("space", queries())
    assert [revision for revision, _ in copies(store)] == [1]
    return machine


def copies(store: Path) -> list[tuple[int, Path]]:
    """(revision, file) of the shared copies of the labels' snapshot."""
    matches = [(COPY.fullmatch(path.name), path) for path in store.rglob("*")]
    return sorted((int(match[1]), path) for match, path in matches if match)


def another(first: Machine, name: str = "second") -> Machine:
    """A machine that has just been set up: over SQLite, in a copy of the home without snapshots."""
    home = first.home.with_name(name)
    if (first.home / "catalog.sqlite3").exists():
        ignored = shutil.ignore_patterns("snapshots")
        shutil.copytree(first.home, home, ignore=ignored)
        return Machine(home, first.store)
    return Machine(home, first.store)


def replayed(service: trustvlm.TrustService) -> int:
    """Labels that were read from the catalog, and not from a snapshot."""
    cache = service._home.caches.peek("space")
    assert cache is not None
    return cache.replayed


@pytest.mark.both_back_ends
def test_a_new_machine_starts_from_the_shared_snapshot(first: Machine, store: Path) -> None:
    """It reads only the labels that changed since, and answers as the first one does."""
    with first.open() as service:
        service.register("space", [label(50), label(51)])
        service.remove_label("space", label(3).name)
        expected = service.score("space", queries())
    second = another(first)
    with second.open() as service:
        require_equal(service.score("space", queries()), expected)
        assert replayed(service) == 2
        assert (second.home / "snapshots" / "1.snapshot").is_file()


def test_the_copy_is_the_file_itself(first: Machine, store: Path) -> None:
    [(_, copy)] = copies(store)
    local = first.home / "snapshots" / "1.snapshot"
    assert copy.read_bytes() == local.read_bytes()
    with copy.open("rb") as file:
        key, _ = read_head(copy, file)
    assert copy.parent.name == key.epoch.replace("/", "-")
    assert not list(store.rglob(".*"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def foreign(path: Path) -> None:
    path.write_bytes(b"no snapshot at all" * 1000)


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def unreadable_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("spoil", [flip, cut, empty, foreign, folder, unreadable_link])
def test_a_spoilt_copy_is_passed_over(
    first: Machine, store: Path, spoil: Callable[[Path], None]
) -> None:
    with first.open() as service:
        expected = service.score("space", queries())
    spoil(copies(store)[0][1])
    second = another(first)
    with second.open() as service:
        require_equal(service.score("space", queries()), expected)
    assert not list((second.home / "snapshots").glob(".*"))  # closing waits for the local copy


def test_an_older_sound_copy_serves_in_place_of_a_spoilt_one(first: Machine, store: Path) -> None:
    with first.open() as service:
        service.register("space", [label(number) for number in range(40, 60)])
        expected = service.score("space", queries())
    assert [revision for revision, _ in copies(store)] == [1, 2]
    flip(copies(store)[1][1])
    with another(first).open() as service:
        require_equal(service.score("space", queries()), expected)


def test_a_copy_under_another_name_is_not_believed(first: Machine, store: Path) -> None:
    """One of an earlier revision that claims to be of this one would hide what changed since."""
    [(_, copy)] = copies(store)
    with first.open() as service:
        service.remove_label("space", label(3).name)
        expected = service.score("space", queries())
    copy.rename(copy.with_name(copy.name.replace(f"{1:020d}", f"{2:020d}")))
    with another(first).open() as service:
        require_equal(service.score("space", queries()), expected)


def test_a_copy_that_vanishes_is_passed_over(
    first: Machine, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another machine deletes it between its listing and its reading."""
    fetch = SnapshotStore._fetch

    def vanishing(self: SnapshotStore, info: object, *rest: object) -> None:
        copies(store)[0][1].unlink()
        fetch(self, info, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(SnapshotStore, "_fetch", vanishing)
    with another(first).open() as service:
        assert len(service.score("space", queries())) == 40


def test_a_store_that_is_away_fails_no_call_and_is_left_alone_for_a_while(
    first: Machine, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(store)
    store.write_text("a file in place of the folder")
    caplog.set_level(logging.WARNING)
    with another(first).open() as service:
        assert len(service.score("space", queries())) == 40
        service.register("space", [label(number) for number in range(60, 80)])
        assert len(service.score("space", queries())) == 40
    lines = [line for line in caplog.messages if line.startswith("snapshot_store")]
    assert lines
    assert str(store) in lines[0]


def test_old_copies_and_leavings_are_swept_and_other_files_left_alone(
    first: Machine, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [(_, copy)] = copies(store)
    elsewhere = store / "another-epoch" / copy.name
    elsewhere.parent.mkdir()
    shutil.copy(copy, elsewhere)
    leaving = copy.with_name(f".{copy.name}.{'0' * 32}.tmp")
    note = store / "README.txt"
    for path in (leaving, note):
        path.write_text("x")
    for path in (elsewhere, leaving, note):
        os.utime(path, (0, 0))
    with first.open() as service:
        for start in (100, 120, 140):
            service.register("space", [label(number) for number in range(start, start + 20)])
            service.score("space", queries())
            until(lambda: service._home.caches._shared._thread is None)
    assert len(copies(store)) == snapshot_store.KEPT
    assert not elsewhere.exists()
    assert not leaving.exists()
    assert note.exists()


def test_what_is_purged_leaves_the_store(first: Machine, store: Path) -> None:
    """Its copies of all epochs; a store that cannot be cleared is an error, as purging promises."""
    [(_, copy)] = copies(store)
    (store / "earlier-epoch").mkdir()
    shutil.copy(copy, store / "earlier-epoch" / copy.name)
    with first.open() as service:
        service.remove_label("space", label(3).name)
        service.purge(older_than=timedelta(0))
        assert copies(store) == []
        service.remove_label("space", label(4).name)
        shutil.rmtree(store)
        store.write_text("a file in place of the folder")
        with pytest.raises(Unavailable, match="may hold what was purged") as error:
            service.purge(older_than=timedelta(0))
        over_http = ServerHome(service).without_folders(str(error.value))
        assert over_http.startswith("snapshot_store SNAPSHOTS may hold")
        assert str(store) not in over_http


@pytest.mark.parametrize("url", ["relative/folder", "nonsense://x", "s3://", "~/x"])
def test_a_store_that_cannot_be(tmp_path: Path, url: str) -> None:
    with pytest.raises(InvalidInput, match="snapshot_store: expected an absolute path"):
        Machine(tmp_path / "home", url).open()


def test_a_store_through_fsspec(tmp_path: Path) -> None:
    """What has no rename of its own; object stores of pyarrow are reached the same way."""
    pytest.importorskip("fsspec")
    with Machine(tmp_path / "first", "fsspec+memory://shared/of").open() as service:
        create(service)
        service.register("space", [label(number) for number in range(20)])
        expected = service.score("space", queries())
    with another(Machine(tmp_path / "first", "fsspec+memory://shared/of")).open() as service:
        require_equal(service.score("space", queries()), expected)
        assert replayed(service) == 0
