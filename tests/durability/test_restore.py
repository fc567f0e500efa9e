"""Restoring: the same verdicts from a new history, and nothing but a whole and honest archive is
ever made a home.

The children are real processes that run functions of this file (`python test_restore.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import stat
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from assets.make_schemas import unpack
from children import start
from cli_runner import Cli
from numbered import AT_ONCE, CATALOG, create, label, queries, require_equal
from raw_sql import run_sql

import trustvlm
from trustvlm.service.backup.restore import check_backup

DIGEST = 64


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a calibration, an alias, removed and purged rows; never changed by a test."""
    home = tmp_path_factory.mktemp("source") / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
        create(service, "empty")
        service.register("space", [label(number, supports=number % 4) for number in range(20)])
        service.remove_label("space", label(18).name, purge=True)
        service.remove_label("space", label(17).name)
        service.alias("space", label(3).name, label(2).name)
        asked = queries(80)
        truth = service.score("space", asked).label.tolist()
        service.calibrate("space", asked, truth, max_risk=0.5)
    return home


@pytest.fixture(scope="module")
def archive(source: Path) -> Path:
    path = source.parent / "b.zip"
    with trustvlm.open(source, read_only=True) as service:
        service.backup(path)
    return path


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A folder to restore into, in which a refused archive leaves nothing."""
    yield tmp_path / "there"
    assert not [name for name in names_in(tmp_path) if name.startswith(".")], (
        "a work folder was left behind"
    )


# What comes back


def test_a_restored_home_answers_exactly_the_same(source: Path, archive: Path, here: Path) -> None:
    """Verdicts bit by bit, hits with their ids, the calibration in force, and what can be brought
    back."""
    done = trustvlm.restore(archive, here)
    assert (done.home, done.replaced, done.outdated) == (here, None, False)
    assert names_in(here) == [CATALOG]
    with trustvlm.open(source, read_only=True) as one, trustvlm.open(here) as other:
        assert list(one.list_labels("space")) == list(other.list_labels("space"))
        assert list(one.list_spaces()) == list(other.list_spaces())
        assert one.list_calibrations("space") == other.list_calibrations("space")
        for rule in (None, "msp", "trustvlm"):
            expected, got = (
                service.score("space", queries(), rule=rule) for service in (one, other)
            )
            for name in (
                "label_id",
                "trust",
                "text_confidence",
                "image_similarity",
                "rival_trust",
                "accepted",
                "probability",
            ):
                np.testing.assert_array_equal(
                    getattr(got, name), getattr(expected, name), err_msg=name
                )
            assert (got.revision, got.tau, got.calibration_id) == (
                expected.revision,
                expected.tau,
                expected.calibration_id,
            )
            require_equal(got, expected)
            assert got.evidence(0) == expected.evidence(0)
        found, wanted = (service.search("space", queries(), k=5) for service in (other, one))
        np.testing.assert_array_equal(found.ids, wanted.ids)
        other.restore_label("space", label(17).name)
        other.unalias("space", label(3).name)


def test_the_history_is_a_new_one_and_ids_are_not_used_again(
    source: Path, archive: Path, here: Path
) -> None:
    done = trustvlm.restore(archive, here)
    epochs = {run_sql(home, "SELECT epoch FROM catalog_state")[0][0] for home in (source, here)}
    assert len(epochs) == 2
    assert done.catalog.epoch in epochs
    used = run_sql(source, "SELECT max(id) FROM labels")[0][0]
    with trustvlm.open(here) as service:
        new = service.register("space", [label(18)])
        assert new.label_ids[0] > max(
            used, run_sql(source, "SELECT max(row_id) FROM changes WHERE kind = 'label'")[0][0]
        )


def test_a_snapshot_of_the_old_history_is_not_believed(
    source: Path, archive: Path, here: Path
) -> None:
    """Snapshots copied from a home of another epoch are passed over; only with its epoch they would
    be taken."""
    trustvlm.restore(archive, here)
    with trustvlm.open(here) as service:
        service.rebuild_index("space")
    again = here.with_name("again")
    trustvlm.restore(archive, again)
    asked = trustvlm.Queries(np.asarray(label(0).text_vector)[None])
    for epoch, answer in (
        (None, "from the catalog"),
        (run_sql(here, "SELECT epoch FROM catalog_state")[0][0], label(0).name),
    ):
        shutil.copytree(here / "snapshots", again / "snapshots", dirs_exist_ok=True)
        run_sql(again, "UPDATE labels SET name = 'from the catalog' WHERE name = ?", label(0).name)
        if epoch is not None:
            run_sql(again, "UPDATE catalog_state SET epoch = ?", epoch)
        with trustvlm.open(again, read_only=True) as service:
            assert service.search("space", asked, kind="text", k=1).labels[0, 0] == answer


def test_an_older_schema_comes_back_as_it_is_and_names_the_command(tmp_path: Path) -> None:
    """The archive that an upgrade made is of the older schema: restored as it is, then upgraded."""
    home = tmp_path / "home"
    home.mkdir()
    unpack("0001", home / CATALOG)
    cli = Cli(home)
    cli("db", "upgrade")
    (backup,) = (home / "backups").iterdir()
    again = tmp_path / "again"
    assert f"trustvlm --home {again} db upgrade" in cli("restore", backup, "--to", again)
    assert run_sql(again, "SELECT version_num FROM alembic_version") == [("0001",)]
    with pytest.raises(trustvlm.SchemaMismatch, match="db upgrade"):
        trustvlm.open(again)
    Cli(again)("db", "upgrade")
    with trustvlm.open(again) as one, trustvlm.open(home) as other:
        assert list(one.list_labels("vectors")) == list(other.list_labels("vectors"))


# The target


def files(folder: Path) -> dict[str, str]:
    """Every file under a folder with the hash of its content."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in found
    }


def test_a_relative_home_is_made(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / "home") in Cli(Path("home"))("restore", archive)
    assert "--replace" in Cli(Path("home"))("restore", archive, code=4)
    Cli(Path("home"))("restore", archive, "--replace")
    assert files(tmp_path / "home").keys() == {CATALOG}


def test_a_home_is_replaced_only_when_asked_and_stays_beside(archive: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    cli = Cli(home)
    with trustvlm.open(home, create=True) as service:
        create(service, "other")
        service.register("other", [label(1)])
    (home / "notes.txt").write_text("mine")
    before = files(home)
    assert "--replace" in cli("restore", archive, code=4)
    assert files(home) == before
    out = cli("restore", archive, "--replace")
    (aside,) = tmp_path.glob("home.aside-*")
    assert f"the home that was there is now {aside}" in out
    assert files(home).keys() == {CATALOG}
    assert files(aside).keys() == {CATALOG, "notes.txt"}
    with trustvlm.open(aside) as old, trustvlm.open(home) as new:
        assert [row.name for row in old.list_spaces()] == ["other"]
        assert [row.name for row in old.list_labels("other")] == [label(1).name]
        assert [row.name for row in new.list_spaces()] == ["empty", "space"]
    assert names_in(tmp_path) == ["home", aside.name]


def test_a_home_in_use_is_not_replaced(home: Path, archive: Path, tmp_path: Path) -> None:
    """An open service, even an idle one, would go on with the old files: Busy, and nothing
    happens."""
    with trustvlm.open(home) as service:
        list(service.list_spaces())
        with pytest.raises(trustvlm.Busy, match=r"in use by another process; stop"):
            trustvlm.restore(archive, home, replace=True)
        assert service.register("space", [label(50)]).added_labels == 1
    assert names_in(tmp_path) == ["home"]
    trustvlm.restore(archive, home, replace=True)


def test_targets_that_are_no_homes(archive: Path, tmp_path: Path) -> None:
    """Files of other people are never moved; an empty folder is taken; a link to a home stays
    one."""
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "one.txt").write_text("Dear")
    (tmp_path / "file").write_text("text")
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for target in ("letters", "file"):
        for replace in (False, True):
            with pytest.raises(trustvlm.InvalidInput, match="expected"):
                trustvlm.restore(archive, tmp_path / target, replace=replace)
    with pytest.raises(trustvlm.NotFound, match="no folder"):
        trustvlm.restore(archive, tmp_path / "missing" / "home")
    trustvlm.restore(archive, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert names_in(tmp_path / "empty") == [CATALOG]
    assert (tmp_path / "letters" / "one.txt").read_text() == "Dear"


# A crash on the way

STEPS = ("extracted", "renewed", "before the exchange", "after the exchange", "at the end")


def restore_and_die(archive: str, home: str, step: str) -> None:
    """Child: replace a home and be killed at one step, by real calls around which the kill is
    put."""
    import trustvlm.catalog.upkeep.copy_catalog as copies
    import trustvlm.service.backup.restore as module
    from trustvlm.service.backup.archive import Archive

    def die(before: Callable[..., Any] | None, after: bool) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> None:
            if after and before is not None:
                before(*arguments, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        return run

    if step == "extracted":
        Archive.extract = die(Archive.extract, True)  # type: ignore[method-assign]
    elif step == "renewed":
        copies.renew_epoch_of = die(copies.renew_epoch_of, True)
    elif step == "at the end":
        module.Restored = die(None, False)  # type: ignore[misc,assignment]
    else:
        module.exchange = die(module.exchange, step.startswith("after"))
    trustvlm.restore(archive, home, replace=True)


@pytest.mark.parametrize(
    "step",
    [step if "exchange" in step else pytest.param(step, marks=pytest.mark.slow) for step in STEPS],
)
def test_a_crash_leaves_the_old_home_or_the_new_one(
    home: Path, archive: Path, tmp_path: Path, step: str
) -> None:
    """At every step one whole home is in place, both are somewhere on disk from the exchange on,
    and trying again works."""
    child = start(restore_and_die, archive, home, step)
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    done = step in ("after the exchange", "at the end")
    with trustvlm.open(home) as service:
        assert [row.name for row in service.list_spaces()] == (
            ["empty", "space"] if done else ["space"]
        )
        assert service.get_space("space").label_count == (18 if done else 20)
        service.score("space", queries())
    whole = list(tmp_path.glob("home.aside-*"))
    assert len(whole) == (0 if step in ("extracted", "renewed") else 1)
    for other in whole:
        with trustvlm.open(other) as service:
            assert service.get_space("space").label_count == (20 if done else 18)
    trustvlm.restore(archive, home, replace=True)
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]
    assert len(list(tmp_path.glob("home.aside-*"))) == len(whole) + 1


# Archives that are not what they should be


def test_every_byte_counts(archive: Path, tmp_path: Path) -> None:
    """A bit changed anywhere, an archive cut off or extended anywhere: refused, and which kind it
    is said in one line."""
    content = archive.read_bytes()
    spoilt = tmp_path / "spoilt.zip"
    chance = random.Random(1)
    positions = {
        *range(0, 120, 7),
        *range(len(content) - 400, len(content), 7),
        *chance.sample(range(len(content)), 120),
    }
    for position in sorted(positions):
        altered = bytearray(content)
        altered[position] ^= 1 << chance.randrange(8)
        spoilt.write_bytes(altered)
        refused(spoilt, tmp_path / "home", "altered|cut off|later|newer")
    for length in (0, 1, 4, 29, 30, 100, *chance.sample(range(len(content)), 20), len(content) - 1):
        spoilt.write_bytes(content[:length])
        refused(spoilt, tmp_path / "home", "cut off|no backup")
    for wrong in (
        content + b"\0",
        content + content,
        b"\0" + content,
        content[:-DIGEST] + content[-DIGEST:].upper(),
    ):
        spoilt.write_bytes(wrong)
        refused(spoilt, tmp_path / "home", "extended|no backup|altered")


def refused(archive: Path, home: Path, why: str) -> None:
    """Restoring raises one line of ours that says `why`, and there is no home."""
    with pytest.raises(trustvlm.TrustVLMError, match=why) as caught:
        trustvlm.restore(archive, home)
    assert len(str(caught.value).splitlines()) == 1
    assert str(archive) in str(caught.value)
    assert not home.exists()
    assert not isinstance(caught.value, trustvlm.Busy | trustvlm.ReadOnly)


def seal(path: Path, version: int = 1) -> None:
    """Give an archive the seal that it would have if it were ours."""
    content = path.read_bytes()
    content = content[:-DIGEST].replace(b"trustvlm-backup/1 ", b"trustvlm-backup/%d " % version)
    path.write_bytes(content + hashlib.sha256(content).hexdigest().encode())


class Forgery:
    """An archive with members of one's own, a manifest that lists them truthfully unless told
    otherwise, and a true seal."""

    def __init__(self, archive: Path) -> None:
        with zipfile.ZipFile(archive) as found:
            self.members = {name: found.read(name) for name in found.namelist()}
        self.manifest = json.loads(self.members.pop("manifest.json"))
        self.infos: dict[str, dict[str, Any]] = {}
        self.twice: list[str] = []
        self.text: bytes | None = None

    def add(self, name: str, content: bytes = b"content", **info: Any) -> None:
        self.members[name] = content
        self.manifest["members"][name] = {
            "size": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        self.infos[name] = info

    def write(self, path: Path) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            for name in [*self.members, *self.twice]:
                self._write(archive, name, self.members[name])
            text = json.dumps(self.manifest).encode() if self.text is None else self.text
            self._write(archive, "manifest.json", text)
            archive.comment = b"trustvlm-backup/1 sha256:" + b"0" * DIGEST
        seal(path)
        return path

    def _write(self, archive: zipfile.ZipFile, name: str, content: bytes) -> None:
        info = zipfile.ZipInfo(name)
        for key, value in self.infos.get(name, {}).items():
            setattr(info, key, value)
        archive.writestr(info, content)


def spoil_catalog(*statements: str) -> Callable[[Forgery], None]:
    """The catalog after statements, listed truthfully: what the manifest says of its content no
    longer holds."""

    def spoil(forgery: Forgery) -> None:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(
            forgery.members[CATALOG][:18] + b"\1\1" + forgery.members[CATALOG][20:]
        )
        for statement in statements:
            connection.execute(statement)
        connection.commit()
        forgery.add(CATALOG, connection.serialize())
        connection.close()

    return spoil


def of_manifest(*path: Any, value: Any) -> Callable[[Forgery], None]:
    """One entry of the manifest says something else."""

    def spoil(forgery: Forgery) -> None:
        place = forgery.manifest
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return spoil


def of_text(text: bytes) -> Callable[[Forgery], None]:
    return lambda forgery: setattr(forgery, "text", text)


LINK = (stat.S_IFLNK | 0o777) << 16
FORGERIES: dict[str, tuple[Callable[[Forgery], object], str]] = {
    "climbs out": (lambda f: f.add("originals/../../evil"), "no place in a backup"),
    "climbs out at once": (lambda f: f.add("../evil"), "no place in a backup"),
    "absolute": (lambda f: f.add("/etc/evil"), "no place in a backup"),
    "drive": (lambda f: f.add("C:\\evil"), "no place in a backup"),
    "backslashes": (lambda f: f.add("originals\\..\\evil"), "no place in a backup"),
    "hidden": (lambda f: f.add("originals/.evil"), "no place in a backup"),
    "line break": (lambda f: f.add("originals/a\n"), "no place in a backup"),
    "folder": (lambda f: f.add("originals/", b""), "no place in a backup"),
    "another file": (lambda f: f.add("snapshots/x.snapshot"), "no place in a backup"),
    "link": (
        lambda f: f.add("originals/a", b"/etc/passwd", external_attr=LINK, create_system=3),
        "no place in a backup",
    ),
    "compressed": (
        lambda f: f.add("originals/a", bytes(10**7), compress_type=zipfile.ZIP_DEFLATED),
        "compressed",
    ),
    "twice": (lambda f: f.twice.append(CATALOG), "twice"),
    "without a catalog": (lambda f: f.members.pop(CATALOG), "missing"),
    "listed, but not there": (
        of_manifest("members", "originals/a", value={"size": 1, "sha256": "0"}),
        "not those",
    ),
    "there, but not listed": (lambda f: f.members.update({"originals/a": b"1"}), "not those"),
    "size that lies": (
        of_manifest("members", CATALOG, "size", value=1),
        "does not match the manifest",
    ),
    "digest that lies": (
        of_manifest("members", CATALOG, "sha256", value="0" * 64),
        "does not match the manifest",
    ),
    "size below 0": (of_manifest("members", CATALOG, "size", value=-1), "manifest cannot be read"),
    "number as text": (of_manifest("spaces", 0, "revision", value="1"), "manifest cannot be read"),
    "truth as number": (
        of_manifest("spaces", 0, "revision", value=True),
        "manifest cannot be read",
    ),
    "no spaces": (of_manifest("spaces", value=None), "manifest cannot be read"),
    "no date": (of_manifest("created_at", value="yesterday"), "manifest cannot be read"),
    "format of the future": (of_manifest("version", value=2), "manifest cannot be read"),
    "something else": (of_manifest("format", value="holidays"), "manifest cannot be read"),
    "schema of the future": (of_manifest("schema", value="9999"), r"9999.*upgrade trustvlm"),
    "no JSON": (of_text(b"hello"), "manifest cannot be read"),
    "no UTF-8": (of_text(b'{"format": "\xff"}'), "manifest cannot be read"),
    "deep JSON": (of_text(b"[" * 100_000), "manifest cannot be read"),
    "long number": (of_text(b'{"format": ' + b"9" * 10_000 + b"}"), "manifest cannot be read"),
    "no object": (of_text(b"[]"), "manifest cannot be read"),
    "no database": (lambda f: f.add(CATALOG, b"holidays" * 10_000), "not a sound SQLite file"),
    "another database": (spoil_catalog("DELETE FROM alembic_version"), "no schema"),
    "a trigger": (
        spoil_catalog("CREATE TRIGGER t AFTER UPDATE ON spaces BEGIN SELECT 1; END"),
        "holds the trigger t",
    ),
    "a view": (spoil_catalog("CREATE VIEW v AS SELECT 1"), "holds the view v"),
    "another revision": (
        spoil_catalog("UPDATE spaces SET revision = revision + 1"),
        "not the one that its manifest",
    ),
    "labels gone": (
        spoil_catalog("UPDATE labels SET removed_revision = 1"),
        "not the one that its manifest",
    ),
    "another schema": (
        spoil_catalog("UPDATE alembic_version SET version_num = '0001'"),
        "not the one that its manifest",
    ),
    "no epoch": (spoil_catalog("DELETE FROM catalog_state"), "lost its epoch"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("what", FORGERIES)
def test_a_forged_archive_is_refused(archive: Path, here: Path, what: str) -> None:
    """Sealed like ours, with one lie each: refused in one line that says what is wrong."""
    forge, why = FORGERIES[what]
    forgery = Forgery(archive)
    forge(forgery)
    forged = forgery.write(here.parent / "forged.zip")
    with pytest.raises(trustvlm.TrustVLMError, match=why) as caught:
        trustvlm.restore(forged, here)
    assert len(str(caught.value).splitlines()) == 1
    assert names_in(here.parent) == ["forged.zip"]


def test_a_forgery_without_a_lie_is_restored(archive: Path, here: Path) -> None:
    """So that the refusals above are for the lies, not for the forging."""
    forgery = Forgery(archive)
    forgery.add("originals/ab/" + "ab" * 32, b"picture")
    trustvlm.restore(forgery.write(here.parent / "forged.zip"), here)
    assert (here / "originals" / "ab" / ("ab" * 32)).read_bytes() == b"picture"
    with trustvlm.open(here) as service:
        service.score("space", queries())


def test_members_that_overlap_are_refused(archive: Path, here: Path) -> None:
    """Many entries for one stretch of bytes would fill the disk; the sum of the sizes gives them
    away."""
    forged = Forgery(archive).write(here.parent / "forged.zip")
    content = forged.read_bytes()
    start_of_list = content.index(b"PK\1\2")
    entries = content[start_of_list : content.index(b"PK\5\6")]
    about, catalog, manifest = (b"PK\1\2" + entry for entry in entries.split(b"PK\1\2")[1:])
    more = b"".join(catalog.replace(b"catalog.sqlite3", b"originals/%05d" % n) for n in range(30))
    listed = about + catalog + more + manifest
    end = bytearray(content[content.index(b"PK\5\6") :])
    for at, value, size in ((8, 33, 2), (10, 33, 2), (12, len(listed), 4)):
        end[at : at + size] = value.to_bytes(size, "little")
    forged.write_bytes(content[:start_of_list] + listed + bytes(end))
    seal(forged)
    refused(forged, here, "overlap")


def test_other_files(archive: Path, here: Path) -> None:
    """No archive at all, an archive of something else, a format of the future, nothing: each named
    for what it is."""
    folder = here.parent
    plain = folder / "plain.zip"
    with zipfile.ZipFile(plain, "w") as other:
        other.writestr("letter.txt", "Dear")
    refused(plain, here, "no backup of trustvlm")
    (folder / "text").write_text("hello")
    refused(folder / "text", here, "no backup of trustvlm")
    (folder / "folder").mkdir()
    refused(folder / "folder", here, "no file")
    os.mkfifo(folder / "pipe")
    refused(folder / "pipe", here, "no file")
    with pytest.raises(trustvlm.NotFound):
        trustvlm.restore(folder / "missing", here)
    future = folder / "future.zip"
    future.write_bytes(archive.read_bytes())
    seal(future, version=2)
    with pytest.raises(trustvlm.SchemaMismatch, match=r"format 2.*upgrade trustvlm"):
        trustvlm.restore(future, here)


def test_check_only_looks(archive: Path, here: Path) -> None:
    cli = Cli(here)
    assert "space" in cli("restore", archive, "--check")
    assert not here.exists()
    found = check_backup(archive)
    assert [space.name for space in found.catalog.spaces] == ["empty", "space"]
    spoilt = here.parent / "spoilt.zip"
    spoilt.write_bytes(archive.read_bytes()[:-3])
    assert "cut off" in cli("restore", spoilt, "--check", code=5)


def test_a_purge_after_restoring_is_a_purge(archive: Path, here: Path) -> None:
    """What was removed before the backup leaves its undo window in the restored home as well."""
    trustvlm.restore(archive, here)
    secret = np.asarray(label(17, supports=1).image_vectors)[0].tobytes()
    assert secret in (here / CATALOG).read_bytes()
    with trustvlm.open(here) as service:
        service.purge(older_than=AT_ONCE)
    assert not [path for path in here.rglob("*") if path.is_file() and secret in path.read_bytes()]


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
