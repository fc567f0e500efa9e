"""Backups: taken while others write, of one moment, holding all that is not derived, and appearing
whole or not at all.

The children are real processes that run functions of this file (`python test_backup.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import json
import re
import resource
import select
import signal
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from children import start, tell_json
from numbered import AT_ONCE, CATALOG, create, label, queries, require_equal
from raw_sql import run_sql
from thresholds import set_thresholds

import trustvlm
from trustvlm.service.backup.restore import check_backup


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# While others write

MOST = 400


def change(service: trustvlm.TrustService, space: str, number: int, first: int = 0) -> None:
    """The change that leads to revision `number`: every fifth removes the label of the one before,
    the others add one."""
    if number % 5:
        service.register(space, [label(first + number, supports=number % 3)])
    else:
        service.remove_label(space, label(first + number - 1).name)


def names_at(revision: int, first: int = 0) -> set[str]:
    """The labels that a space has after the changes up to `revision`."""
    alive = {number for number in range(1, revision + 1) if number % 5}
    return {label(first + n).name for n in alive - {n - 1 for n in range(5, revision + 1, 5)}}


def keep_writing(home: str, own: str, first: str) -> None:
    """Child: change a space of its own and one that both write, telling each acknowledged change,
    until stdin ends."""
    with trustvlm.open(home) as service:
        for number in range(1, MOST):
            change(service, own, number)
            change(service, "both", number, int(first))
            tell_json(number)
            if select.select([0], [], [], 0)[0]:
                return


def test_a_backup_taken_while_two_processes_write_is_of_one_moment(tmp_path: Path) -> None:
    """Of every space exactly one revision's state: nothing acknowledged before is missing, nothing
    is half there."""
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        for name in ("one", "two", "both"):
            create(service, name)
        writers = [start(keep_writing, home, "one", 1_000), start(keep_writing, home, "two", 5_000)]
        acknowledged = [0, 0]
        backups: list[tuple[Path, list[int]]] = []
        for turn in range(2):
            for i, writer in enumerate(writers):
                assert writer.stdout is not None
                while acknowledged[i] < 3 + 4 * turn:
                    acknowledged[i] = json.loads(writer.stdout.readline())
            path = tmp_path / f"{turn}.zip"
            service.backup(path)
            backups.append((path, list(acknowledged)))
        last = []
        for writer in writers:
            out, _ = writer.communicate("x", timeout=60)
            assert writer.returncode == 0
            last.append(json.loads(out.splitlines()[-1]) if out else MOST)
    assert max(last) < MOST - 1, "the writers had ended before the last backup"
    for turn, (path, before) in enumerate(backups):
        restored = tmp_path / f"restored {turn}"
        stated = {space.name: space for space in trustvlm.restore(path, restored).catalog.spaces}
        with trustvlm.open(restored) as service:
            revisions = {row.name: row.revision for row in service.list_spaces()}
            assert revisions == {name: space.revision for name, space in stated.items()}
            for i, (space, first) in enumerate((("one", 1_000), ("two", 5_000))):
                revision = revisions[space]
                assert before[i] <= revision <= last[i] + 1
                require_state(service, space, revision, tmp_path / f"built {turn} {space}")
                shared = {
                    row.name
                    for row in service.list_labels("both")
                    if first < int(row.name[6:]) < first + MOST
                }
                # A process writes to the two spaces by turns, so that the moment shows in both.
                assert shared in (names_at(revision, first), names_at(revision - 1, first))
            later = (
                "SELECT * FROM labels JOIN spaces s ON s.id = space_id WHERE "
                "labels.revision > s.revision"
            )
            assert not run_sql(restored, later)
            assert run_sql(restored, "PRAGMA integrity_check") == [("ok",)]
            assert run_sql(restored, "PRAGMA foreign_key_check") == []


def require_state(service: trustvlm.TrustService, space: str, revision: int, built: Path) -> None:
    """The space is what a fresh home is after the changes up to that revision."""
    assert {row.name for row in service.list_labels(space)} == names_at(revision)
    with trustvlm.open(built, create=True) as fresh:
        create(fresh, space)
        for number in range(1, revision + 1):
            change(fresh, space, number)
        require_equal(service.score(space, queries()), fresh.score(space, queries()), ids=False)


def test_nobody_waits_for_a_backup_and_it_never_begins_anew(home: Path, tmp_path: Path) -> None:
    """A label is registered between any two pages: each goes in at once, the copy ends after one
    pass, without them."""
    set_thresholds(home, backup_pages=1)
    done: list[int] = []
    with trustvlm.open(home) as service, trustvlm.open(home) as writer:
        before = service.score("space", queries())

        def write(number: int, total: int) -> None:
            assert not done or done[-1] <= number <= total
            done.append(number)
            if len(done) <= 20:
                began = time.monotonic()
                writer.register("space", [label(100 + len(done))])
                assert time.monotonic() - began < 30

        service.backup(tmp_path / "b.zip", progress=write)
        assert service.get_space("space").revision == before.revision + 20
    assert len(done) > 20
    trustvlm.restore(tmp_path / "b.zip", tmp_path / "restored")
    with trustvlm.open(tmp_path / "restored") as service:
        assert service.get_space("space").revision == before.revision
        require_equal(service.score("space", queries()), before)


# What is in it


def test_the_manifest_says_what_is_in_it_and_derived_files_are_not(
    home: Path, tmp_path: Path
) -> None:
    """catalog, settings, originals; not snapshots, not other backups, not what is unfinished."""
    (home / "trustvlm.toml").write_text("undo_hours = 2\n")
    (home / "originals" / "ab").mkdir(parents=True)
    (home / "originals" / "ab" / ("ab" * 32)).write_bytes(b"an image")
    (home / "originals" / "ab" / ".unfinished.tmp").write_bytes(b"half")
    with trustvlm.open(home) as service:
        service.rebuild_index("space")
        made = service.backup(tmp_path / "b.zip")
        row = service.get_space("space")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        manifest = json.loads(archive.read("manifest.json"))
    original = f"originals/ab/{'ab' * 32}"
    assert names == [
        "TRUSTVLM-BACKUP.txt",
        "catalog.sqlite3",
        "trustvlm.toml",
        original,
        "manifest.json",
    ]
    assert manifest["spaces"] == [
        {
            "name": "space",
            "revision": row.revision,
            "labels": row.label_count,
            "supports": row.support_count,
        }
    ]
    assert manifest["trustvlm"] == trustvlm.__version__
    assert manifest["schema"] == run_sql(home, "SELECT version_num FROM alembic_version")[0][0]
    assert manifest["epoch"] == run_sql(home, "SELECT epoch FROM catalog_state")[0][0]
    assert manifest["members"].keys() == set(names) - {"manifest.json"}
    assert (made.originals, made.size) == (1, (tmp_path / "b.zip").stat().st_size)
    trustvlm.restore(tmp_path / "b.zip", tmp_path / "restored")
    assert (tmp_path / "restored" / original).read_bytes() == b"an image"
    assert (tmp_path / "restored" / "trustvlm.toml").read_text() == "undo_hours = 2\n"
    found = {
        str(path.relative_to(tmp_path / "restored"))
        for path in (tmp_path / "restored").rglob("*")
        if path.is_file()
    }
    assert found == {"catalog.sqlite3", "trustvlm.toml", original}


def test_a_link_among_the_originals_is_named(home: Path, tmp_path: Path) -> None:
    (home / "originals").mkdir()
    (home / "originals" / "secret").symlink_to("/etc/hostname")
    with (
        trustvlm.open(home) as service,
        pytest.raises(trustvlm.InvalidInput, match=r"originals/secret is a link"),
    ):
        service.backup(tmp_path / "b.zip")
    assert names_in(tmp_path) == ["home"]


def test_what_was_purged_before_is_not_in_it(home: Path, tmp_path: Path) -> None:
    """Free pages and the log are no hiding place; what was only removed is there, and can be
    restored."""
    purged, removed = (np.asarray(label(n, supports=2).image_vectors)[0].tobytes() for n in (6, 10))
    with trustvlm.open(home) as service:
        service.remove_label("space", label(6).name)
        service.purge(older_than=AT_ONCE)
        service.remove_label("space", label(10).name)
        service.backup(tmp_path / "b.zip")
    content = (tmp_path / "b.zip").read_bytes()
    assert purged not in content
    assert removed in content
    trustvlm.restore(tmp_path / "b.zip", tmp_path / "restored")
    with trustvlm.open(tmp_path / "restored") as service:
        service.restore_label("space", label(10).name)


def test_a_damaged_catalog_is_not_backed_up(home: Path, tmp_path: Path) -> None:
    """A page of zeros in the middle: Damaged, and no file that looks like a backup."""
    content = bytearray((home / CATALOG).read_bytes())
    root = run_sql(home, "SELECT rootpage FROM sqlite_master WHERE name = 'supports'")[0][0]
    page = run_sql(home, "PRAGMA page_size")[0][0]
    assert isinstance(root, int)
    assert isinstance(page, int)
    content[(root - 1) * page : root * page] = bytes(page)
    (home / CATALOG).write_bytes(content)
    with (
        trustvlm.open(home) as service,
        pytest.raises(trustvlm.Damaged, match=r"not a sound SQLite file"),
    ):
        service.backup(tmp_path / "b.zip")
    assert names_in(tmp_path) == ["home"]


# The file


def test_a_file_that_is_there_is_not_overwritten(home: Path, cli, tmp_path: Path) -> None:
    target = tmp_path / "b.zip"
    target.write_text("mine")
    assert "--force" in cli("backup", target, code=4)
    assert target.read_text() == "mine"
    assert re.search(
        r"^backed up schema \d+, 0 originals: .*b\.zip$",
        cli("backup", target, "--force"),
        re.MULTILINE,
    )
    assert check_backup(target).catalog.spaces[0].labels == 20
    assert "no folder" in cli("backup", tmp_path / "missing" / "b.zip", code=3)
    assert "is a folder" in cli("backup", tmp_path, code=2)
    assert names_in(tmp_path) == ["b.zip", "home"]


def test_a_home_that_is_only_read_can_be_backed_up(home: Path, tmp_path: Path) -> None:
    with trustvlm.open(home, read_only=True) as service:
        service.backup(tmp_path / "b.zip")
    assert check_backup(tmp_path / "b.zip").catalog.spaces[0].supports == sum(
        number % 4 for number in range(20)
    )


def backup_without_room(home: str, target: str, limit: str) -> None:
    """Child: back up where no file may grow beyond `limit` bytes."""
    with trustvlm.open(home) as service:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
        try:
            service.backup(target)
        except trustvlm.TrustVLMError as error:
            tell_json([type(error).__name__, str(error)])


def test_a_full_disk_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    """Without room for the copy, or for the archive only: Unavailable, and the folder is as it
    was."""
    size = (home / CATALOG).stat().st_size
    (tmp_path / "out").mkdir()
    for limit in (size // 2, size + 100):
        child = start(backup_without_room, home, tmp_path / "out" / "b.zip", limit)
        (told,) = (json.loads(line) for line in child.communicate(timeout=60)[0].splitlines())
        assert told[0] == "Unavailable", told
        assert names_in(tmp_path / "out") == []


def backup_slowly(home: str, target: str, steps: str) -> None:
    """Child: back up, and stand still after so many reports of progress."""
    set_thresholds(Path(home), backup_pages=1)
    left = int(steps)

    def wait(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            tell_json([done, total])
            time.sleep(60)

    with trustvlm.open(home) as service:
        service.backup(target, progress=wait)
        tell_json("done")


@pytest.mark.parametrize(
    "steps", [5, 1_000, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 10, 20))]
)
def test_a_killed_backup_leaves_no_file_and_the_next_one_clears_up(
    home: Path, tmp_path: Path, steps: int
) -> None:
    """Killed while the catalog is copied, or while it is archived: no file of that name; what lies
    about goes later."""
    out = tmp_path / "out"
    out.mkdir()
    pages = run_sql(home, "PRAGMA page_count")[0][0]
    assert isinstance(pages, int)
    child = start(backup_slowly, home, out / "b.zip", min(steps, pages + 1))
    assert child.stdout is not None
    json.loads(child.stdout.readline())
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert not (out / "b.zip").exists()
    assert len(names_in(out)) == 1  # hidden, and of no use to anybody
    with trustvlm.open(home) as service:
        service.backup(out / "b.zip")
    assert names_in(out) == ["b.zip"]
    check_backup(out / "b.zip")


def test_two_backups_into_one_folder_do_not_disturb_each_other(home: Path, tmp_path: Path) -> None:
    """The work of one that is under way is not taken for a remainder."""
    child = start(backup_slowly, home, tmp_path / "slow.zip", 3)
    assert child.stdout is not None
    json.loads(child.stdout.readline())
    with trustvlm.open(home) as service:
        service.backup(tmp_path / "fast.zip")
    assert len([name for name in names_in(tmp_path) if name.startswith(".")]) == 1
    child.kill()
    child.communicate()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
