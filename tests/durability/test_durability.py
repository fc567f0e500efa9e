"""What was acknowledged survives a kill, what was removed can be restored, what was purged is gone
from every file.

The children are real processes that run functions of this file (`python test_durability.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import json
import os
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from children import run, start, tell
from numbered import (
    AT_ONCE,
    CATALOG,
    CLASSIFIER,
    VERIFIER,
    create,
    label,
    queries,
    require_equal,
    vectors,
)
from raw_sql import run_sql
from thresholds import set_thresholds
from waiting import own_messages

import trustvlm
from trustvlm import LabelInput, Queries, TrustService

# kill -9

LABELS = 1_000


def register_many(home: str, chunk: str) -> None:
    """Child: register a thousand labels in one call, telling what is acknowledged."""
    if int(chunk):
        set_thresholds(Path(home), transaction_labels=int(chunk))
    with trustvlm.open(home) as service:
        service.register(
            "space",
            [label(number) for number in range(LABELS)],
            on_commit=lambda names: tell("\t".join(names)),
        )


def require_whole(home: Path, acknowledged: set[str]) -> int:
    """Every acknowledged label is there, every label that is there is whole; how many are."""
    assert run_sql(home, "PRAGMA integrity_check") == [("ok",)]
    assert run_sql(home, "PRAGMA foreign_key_check") == []
    present = run_sql(home, "SELECT id, name, support_count, text_prototype, prototype FROM labels")
    names = {name for _, name, *_ in present}
    assert acknowledged <= names
    owned: dict[int, set[bytes]] = {}
    for owner, embedding in run_sql(home, "SELECT label_id, embedding FROM supports"):
        owned.setdefault(owner, set()).add(embedding)
    for owner, name, count, text, prototype in present:
        given = label(int(name.removeprefix("label ")))
        images = np.asarray(given.image_vectors)
        assert count == len(images)
        assert owned.pop(owner) == {image.tobytes() for image in images}, name
        mean = images.astype(np.float64).mean(axis=0)
        np.testing.assert_allclose(
            np.frombuffer(prototype, "<f4"), mean / np.linalg.norm(mean), atol=1e-6
        )
        given_text = np.asarray(given.text_vector, dtype=np.float64)
        np.testing.assert_allclose(
            np.frombuffer(text, "<f4"), given_text / np.linalg.norm(given_text), atol=1e-6
        )
    assert not owned, "support images without a label"
    return len(names)


def killed_again_and_again(home: Path, chunk: int, seed: int, kills: int) -> list[int]:
    """Kill a registering process `kills` times, each time further on; how many labels were there
    after each."""
    chance = random.Random(seed)
    acknowledged: set[str] = set()
    found = []
    for _ in range(kills):
        child = start(register_many, home, chunk)
        assert child.stdout is not None
        for _ in range(len(acknowledged) // chunk + chance.randint(1, 8)):
            acknowledged |= set(child.stdout.readline().rstrip("\n").split("\t")) - {""}
        time.sleep(chance.random() * 0.02)  # anywhere in a transaction, or between two
        child.kill()
        rest, _ = child.communicate()
        whole = rest[: rest.rfind("\n") + 1]
        acknowledged |= {name for line in whole.splitlines() for name in line.split("\t")}
        found.append(require_whole(home, acknowledged))
    return found


@pytest.mark.slow
def test_kill_while_registering(tmp_path: Path) -> None:
    """kill -9 at random moments: all that was acknowledged is there, nothing is half there, and
    repeating completes it."""
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
    found = killed_again_and_again(home, chunk=10, seed=2, kills=6)
    assert found == sorted(found)
    assert 0 < found[0] < LABELS, "the kill came too early or too late to show anything"
    with trustvlm.open(home) as service:
        before = service.get_space("space")
        assert before.label_count == found[-1]
        assert before.support_count == 3 * found[-1]
        service.score("space", queries())
        again = service.register("space", [label(number) for number in range(LABELS)])
        assert again.added_labels == LABELS - found[-1]
        assert again.added_supports == 3 * again.added_labels
        assert again.skipped_duplicates == 3 * found[-1]
        assert require_whole(home, {f"label {number:04d}" for number in range(LABELS)}) == LABELS
        with trustvlm.open(tmp_path / "never killed", create=True) as other:
            create(other)
            other.register("space", [label(number) for number in range(LABELS)])
            require_equal(
                service.score("space", queries()), other.score("space", queries()), ids=False
            )


# Acknowledged means synced


def register_chunks(home: str) -> None:
    """Child: register in several chunks, and change things in the other ways, telling each
    acknowledgement."""
    set_thresholds(Path(home), transaction_labels=10)
    with trustvlm.open(home) as service:
        service.register(
            "space",
            [label(number) for number in range(100, 150)],
            on_commit=lambda _: tell("acknowledged"),
        )
        service.remove_label("space", "label 0100")
        tell("acknowledged")
        service.restore_label("space", "label 0100")
        tell("acknowledged")
        service.update_label("space", "label 0100", new_name="zebra")
        tell("acknowledged")


def test_a_sync_of_the_log_precedes_each_acknowledgement(home: Path, tmp_path: Path) -> None:
    """Under strace: after the last write to the write-ahead log, and before the acknowledgement,
    the log is synced."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    if subprocess.run(
        [strace, "-f", "-o", os.devnull, "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("tracing processes is not permitted here")
    trace = tmp_path / "trace"
    calls = "trace=fsync,fdatasync,write,writev,pwrite64,pwritev"
    # -y writes the path behind each descriptor.
    told = run(
        register_chunks,
        home,
        wrapper=(strace, "-f", "-y", "-s", "64", "-e", calls, "-o", str(trace)),
    )
    assert told == ["acknowledged"] * 8
    unsynced = synced = acknowledged = 0
    pending: dict[str, str] = {}
    for line in trace.read_text(errors="replace").splitlines():
        process, _, call = line.partition(" ")
        if call.rstrip().endswith("<unfinished ...>"):
            pending[process] = call
            if "write" not in call.split("(")[0]:
                continue  # a sync counts from where it has ended, a write from where it begins
        resumed = re.match(r"\s*<\.\.\. \w+ resumed>", call)
        if resumed:
            call = pending.pop(process)
            if "write" in call.split("(")[0]:
                continue
        match = re.match(r"\s*(\w+)\((\d+)<([^>]*)>", call)
        if match is None:
            continue
        name, descriptor, path = match.groups()
        if path.endswith(CATALOG + "-wal"):
            if "write" in name:
                unsynced += 1
            else:
                synced, unsynced = synced + unsynced, 0
        elif descriptor == "1" and "acknowledged" in call:
            acknowledged += 1
            assert unsynced == 0, f"acknowledgement {acknowledged} came before the log was synced"
            assert synced > 0, f"acknowledgement {acknowledged} came without a write to the log"
            synced = 0
    assert acknowledged == 8


# The undo window


def prototypes(home: Path) -> dict[str, tuple[bytes, bytes | None, int]]:
    query = (
        "SELECT name, text_prototype, prototype, support_count FROM labels WHERE "
        "removed_revision IS NULL"
    )
    return {name: tuple(rest) for name, *rest in run_sql(home, query)}  # type: ignore[misc]


def test_a_label_comes_back_as_it_was(home: Path) -> None:
    """remove_label, then restore_label: the same ids, bit-equal prototypes, equal verdicts, its
    support images with it."""
    with trustvlm.open(home) as service:
        before, rows, bits = (
            service.score("space", queries()),
            list(service.list_labels("space")),
            prototypes(home),
        )
        hits = service.search("space", queries(), kind="support", k=9)
        gone = service.remove_label("space", "label 0007")
        assert "label 0007" not in prototypes(home)
        without = service.score("space", queries())
        assert "label 0007" not in without.top_labels
        assert without.revision == gone
        assert "label 0007" not in service.search("space", queries(), kind="support", k=40).labels
        back = service.restore_label("space", "label 0007")
        assert back > gone
        assert prototypes(home) == bits
        require_equal(service.score("space", queries()), before)
        np.testing.assert_array_equal(
            service.search("space", queries(), kind="support", k=9).ids, hits.ids
        )
        after = list(service.list_labels("space"))
        assert [(row.id, row.name, row.support_count) for row in after] == [
            (r.id, r.name, r.support_count) for r in rows
        ]
    with trustvlm.open(home) as fresh:
        require_equal(fresh.score("space", queries()), before)


def test_only_what_went_with_the_label_comes_back_with_it(home: Path) -> None:
    """A support image removed before its label was removed stays removed when the label is
    restored."""
    with trustvlm.open(home) as service:
        asked = Queries(verifier=label(7).image_vectors)
        ids = service.search("space", asked, kind="support", k=1).ids[:, 0].tolist()
        service.remove_support("space", ids[:1])
        bits = prototypes(home)
        service.remove_label("space", "label 0007")
        service.restore_label("space", "label 0007")
        assert prototypes(home) == bits
        assert service.search("space", asked, kind="support", k=1).ids[0, 0] != ids[0]
        service.restore_support("space", ids[:1])
        assert service.search("space", asked, kind="support", k=1).ids[:, 0].tolist() == ids


def test_support_images_come_back_as_they_were(home: Path) -> None:
    """remove_support, then restore_support: bit-equal prototypes and equal verdicts; all of a
    label's, or some."""
    with trustvlm.open(home) as service:
        before, bits = service.score("space", queries()), prototypes(home)
        asked = Queries(
            verifier=np.concatenate(
                [np.asarray(label(7).image_vectors), np.asarray(label(1, supports=1).image_vectors)]
            )
        )
        ids = service.search("space", asked, kind="support", k=1).ids[:, 0].tolist()
        service.remove_support(
            "space", [*ids[1:3], ids[3]]
        )  # two of three, and the only one of label 1
        assert prototypes(home)["label 0001"][1:] == (None, 0)
        assert prototypes(home)["label 0007"][2] == 1
        assert service.score("space", queries()).revision == before.revision + 1
        with pytest.raises(trustvlm.NotFound):
            service.remove_support(
                "space", [ids[0], ids[1]]
            )  # one of them is removed already: none goes
        assert prototypes(home)["label 0007"][2] == 1
        service.restore_support("space", ids[1:])
        assert prototypes(home) == bits
        require_equal(service.score("space", queries()), before)


def test_a_removed_support_image_registered_again(home: Path) -> None:
    """The same vector may come again while the old one can still be restored; restoring is then a
    Conflict."""
    with trustvlm.open(home) as service:
        bits, before = prototypes(home), service.score("space", queries())
        old = service.search(
            "space", Queries(verifier=label(1, supports=1).image_vectors), kind="support", k=1
        ).ids[0, 0]
        service.remove_support("space", [old])
        again = service.register("space", [label(1, supports=1)], bring_back=True)
        assert (again.added_supports, again.added_labels) == (1, 0)
        assert again.ids[0] > old
        assert prototypes(home) == bits
        require_equal(service.score("space", queries()), before)
        revision = service.get_space("space").revision
        with pytest.raises(trustvlm.Conflict):
            service.restore_support("space", [old])
        assert service.get_space("space").revision == revision


def test_evidence_is_that_of_the_verdicts_revision(home: Path) -> None:
    """Evidence is read lazily, but shows the support images as they were, whatever was added,
    removed or restored since."""
    with trustvlm.open(home) as service:
        asked = label(7)
        same = Queries(np.array([asked.text_vector]), np.asarray(asked.image_vectors)[:1])
        ids = [near.id for near in service.score("space", same).evidence(0, k=9).label]
        assert len(ids) == 3
        with_all = service.score("space", same)
        service.remove_support("space", ids[:1])
        without = service.score("space", same)
        added = service.add_support(
            "space", "label 0007", image_vectors=vectors(9, n=1, dim=VERIFIER)
        )
        with_new = service.score("space", same)
        assert [near.id for near in with_all.evidence(0, k=9).label] == ids
        assert [near.id for near in without.evidence(0, k=9).label] == ids[1:]
        assert {near.id for near in with_new.evidence(0, k=9).label} == {*ids[1:], *added.ids}
        service.restore_support("space", ids[:1])
        assert {near.id for near in service.score("space", same).evidence(0, k=9).label} == {
            *ids,
            *added.ids,
        }
        assert [near.id for near in with_all.evidence(0, k=9).label] == ids
        try:
            then = [near.id for near in without.evidence(0, k=9).label]
        except trustvlm.Unavailable:
            return  # an honest answer too: what was hidden then cannot be told any more
        assert then == ids[1:], (
            "a support image that was restored later is shown as evidence of a time when it was "
            "removed"
        )


# Purging


def files_with(home: Path, needle: bytes) -> list[str]:
    return [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and needle in path.read_bytes()
    ]


def test_purged_vectors_are_in_none_of_the_files(home: Path) -> None:
    """purge(older_than=0): what was removed cannot be restored, its bytes are nowhere in the home,
    others are as before."""
    with trustvlm.open(home) as service, trustvlm.open(home) as watcher:
        watcher.score("space", queries())
        asked = Queries(verifier=label(7).image_vectors)
        watcher.search("space", asked, kind="support", k=1)
        service.rebuild_index("space")  # writes a snapshot, which holds prototypes
        ids = service.search("space", asked, kind="support", k=1).ids[:, 0].tolist()
        secrets = {
            "support image of a label": np.asarray(label(6, supports=2).image_vectors)[0].tobytes()
        }
        secrets["support image"] = np.asarray(label(7).image_vectors)[0].tobytes()
        secrets["text prototype"], secrets["prototype"], _ = prototypes(home)["label 0006"]  # type: ignore[assignment]
        secrets["prototype of more support images"] = prototypes(home)["label 0007"][1]  # type: ignore[assignment]
        assert all(files_with(home, secret) for secret in secrets.values())
        label_id = next(row.id for row in service.list_labels("space") if row.name == "label 0006")
        service.remove_label("space", "label 0006")
        service.remove_support("space", ids[:1])
        before = service.score("space", queries())
        assert service.purge() == 0  # the undo window has not passed
        service.restore_support("space", ids[:1])
        service.remove_support("space", ids[:1])
        assert (
            service.purge(older_than=AT_ONCE) == 4
        )  # a label with two support images, and one of another
        require_equal(service.score("space", queries()), before)
        require_equal(watcher.score("space", queries()), before)
        np.testing.assert_array_equal(
            watcher.search("space", asked, kind="support", k=30).ids,
            service.search("space", asked, kind="support", k=30).ids,
        )
        with pytest.raises(trustvlm.NotFound):
            service.restore_label("space", "label 0006")
        with pytest.raises(trustvlm.NotFound):
            service.restore_support("space", ids[:1])
        left = {what: files_with(home, secret) for what, secret in secrets.items()}
        assert not any(left.values()), left
        assert service.purge(older_than=AT_ONCE) == 0
        new = service.register("space", [label(6, supports=2)])
        assert new.label_ids[0] > label_id
        assert min(new.ids) > max(ids)


def test_remove_label_with_purge_leaves_nothing(home: Path) -> None:
    """remove_label(purge=True) does the same for one label, and leaves what else was removed
    restorable."""
    secret = np.asarray(label(6, supports=2).image_vectors)[1].tobytes()
    with trustvlm.open(home) as service:
        service.remove_label("space", "label 0007")
        assert files_with(home, secret)
        service.remove_label("space", "label 0006", purge=True)
        assert files_with(home, secret) == []
        with pytest.raises(trustvlm.NotFound):
            service.restore_label("space", "label 0006")
        service.restore_label("space", "label 0007")


def test_a_removed_space_comes_back_or_is_purged(home: Path) -> None:
    """restore_space brings everything back; after a purge it is NotFound and its vectors are in no
    file."""
    with trustvlm.open(home) as service:
        before = service.score("space", queries())
        service.rebuild_index("space")
        service.remove_space("space")
        service.restore_space("space")
        require_equal(service.score("space", queries()), before)
        service.remove_space("space")
        service.purge(older_than=AT_ONCE)
        with pytest.raises(trustvlm.NotFound):
            service.restore_space("space")
        for number in range(1, 20):
            for image in np.asarray(label(number).image_vectors)[: number % 4]:
                assert files_with(home, image.tobytes()) == []
        assert list(service.list_spaces()) == []


def test_a_purge_waits_for_readers(home: Path) -> None:
    """Another process's reading transaction pins the log; the purge waits for it and then leaves
    nothing behind."""
    secret = np.asarray(label(6, supports=2).image_vectors)[0].tobytes()
    reader = sqlite3.connect(home / CATALOG, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM labels").fetchone()
    with trustvlm.open(home) as service:
        service.remove_label("space", "label 0006")
        timer = threading.Timer(0.7, reader.execute, ["ROLLBACK"])
        timer.start()
        assert service.purge(older_than=AT_ONCE) == 3
        assert files_with(home, secret) == []
        timer.join()
    reader.close()


def purge_impatiently(home: str) -> None:
    """Child: purge with a short busy timeout, and once more when told."""
    import trustvlm.catalog.store.sqlite as settings

    settings.BUSY_TIMEOUT_S = 0.3
    with trustvlm.open(home) as service:
        service.remove_label("space", "label 0006")
        for _ in range(2):
            try:
                service.purge(older_than=AT_ONCE)
                tell("purged")
            except trustvlm.Busy:
                tell("Busy")
            sys.stdin.readline()


def test_a_purge_that_could_not_clear_the_log_says_so(home: Path) -> None:
    """A reader outlasts the purge's patience: it must not claim to have purged while the log still
    holds the bytes; and purging again, when the reader is gone, finishes what was left."""
    secret = np.asarray(label(6, supports=2).image_vectors)[0].tobytes()
    reader = sqlite3.connect(home / CATALOG, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM labels").fetchone()
    child = start(purge_impatiently, home)
    assert child.stdin is not None
    assert child.stdout is not None
    answer = child.stdout.readline().strip()
    left = files_with(home, secret)
    reader.execute("ROLLBACK")
    reader.close()
    child.stdin.write("go on\n")
    child.stdin.flush()
    again = child.stdout.readline().strip()
    finally_left = files_with(home, secret)
    child.communicate("\n", timeout=30)
    assert (again, finally_left) == ("purged", [])
    assert answer == "Busy" or left == []


@pytest.mark.slow  # by default: test_a_purge_waits_for_readers
def test_purges_at_once_do_not_disturb_each_other(home: Path) -> None:
    """A checkpoint that meets another waits for it instead of saying that the log is in use."""
    failures: list[Exception] = []

    def work(service: TrustService, part: int) -> None:
        for number in range(100 + 8 * part, 108 + 8 * part):
            service.register("space", [label(number)])
            try:
                service.remove_label("space", f"label {number:04d}", purge=True)
            except trustvlm.TrustVLMError as error:
                failures.append(error)

    with trustvlm.open(home) as service:
        threads = [threading.Thread(target=work, args=(service, part)) for part in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


# Snapshots

MANY = 5_200


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with enough labels for a snapshot, which a query has written; some labels have support
    images."""
    home = tmp_path_factory.mktemp("large") / "home"
    rng = np.random.default_rng(0)
    texts = rng.standard_normal((MANY, CLASSIFIER)).astype(np.float32)
    with trustvlm.open(home, create=True) as service:
        create(service)
        service.register(
            "space",
            [
                LabelInput(
                    f"label {i:04d}",
                    text,
                    image_vectors=None if i % 100 else vectors(2, i, n=2, dim=VERIFIER),
                )
                for i, text in enumerate(texts)
            ],
        )
        assert not list(home.rglob("*.snapshot"))
        service.score("space", queries())
    assert len(list(home.rglob("*.snapshot"))) == 1
    return home


@pytest.fixture
def copied(large: Path, tmp_path: Path) -> Path:
    return shutil.copytree(large, tmp_path / "home")


def mark_catalog(home: Path) -> None:
    """Make the catalog and its snapshot differ, behind everybody's back, so that one can see where
    an answer came from."""
    run_sql(home, "UPDATE labels SET name = 'from the catalog' WHERE name = 'label 0000'")


def source(service: TrustService) -> str:
    """Where the service's knowledge of the marked label comes from."""
    asked = Queries(
        np.random.default_rng(0).standard_normal((MANY, CLASSIFIER)).astype(np.float32)[:1]
    )
    return str(service.search("space", asked, kind="text", k=1).labels[0, 0])


def test_a_new_process_starts_from_the_snapshot(
    copied: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the snapshot, equal verdicts; also after further changes, which the catalog adds to
    it."""
    with trustvlm.open(copied) as service:
        before = service.score("space", queries())
        assert not own_messages(caplog)
    (snapshot,) = copied.rglob("*.snapshot")
    snapshot.unlink()
    with trustvlm.open(copied) as service:
        require_equal(service.score("space", queries()), before)
    (snapshot,) = copied.rglob("*.snapshot")  # written again
    mark_catalog(copied)
    with trustvlm.open(copied) as service:
        assert source(service) == "label 0000"  # from the snapshot
        service.register("space", [label(9_000)])
        service.update_label("space", "label 0100", new_name="zebra")
        service.remove_label("space", "label 0200")
        service.remove_label("space", "label 0300")  # (a purge would take the snapshot with it)
        service.add_support("space", "label 0001", image_vectors=vectors(8, n=2, dim=VERIFIER))
    with trustvlm.open(copied) as service:
        after = service.score("space", queries())
    run_sql(copied, "UPDATE labels SET name = 'label 0000' WHERE name = 'from the catalog'")
    shutil.rmtree(snapshot.parent)
    with trustvlm.open(copied) as service:
        require_equal(after, service.score("space", queries()))
        assert after.revision == before.revision + 5


def test_every_file_but_the_catalog_can_go(copied: Path) -> None:
    """Deleting all that is not the catalog loses nothing."""
    with trustvlm.open(copied) as service:
        before = service.score("space", queries())
    for path in copied.iterdir():
        if path.name != CATALOG:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with trustvlm.open(copied) as service:
        require_equal(service.score("space", queries()), before)
        assert service.register("space", [label(9_000)]).added_labels == 1


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def flip_a_bit_of_the_header(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


def of_another_space(path: Path) -> None:
    home = path.parent.parent
    with trustvlm.open(home) as service:
        service.create_space(
            "another", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}"
        )
        service.register("another", [label(1)])
        service.rebuild_index("another")
    (other,) = (
        file for file in path.parent.iterdir() if file != path and file.suffix == path.suffix
    )
    other.replace(path)


def of_another_epoch(path: Path) -> None:
    run_sql(path.parent.parent, "UPDATE catalog_state SET epoch = 'another'")


def in_the_future(path: Path) -> None:
    """As after a restored backup that kept its epoch by mistake: the snapshot is ahead of the
    catalog."""
    run_sql(path.parent.parent, "UPDATE spaces SET revision = revision - 1")


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize(
    "spoil",
    [
        truncate,
        empty,
        flip_a_bit,
        flip_a_bit_of_the_header,
        of_another_space,
        of_another_epoch,
        in_the_future,
        a_folder,
    ],
)
def test_a_spoilt_snapshot_is_ignored(
    copied: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    """It is not believed: one line in the log, the state is built from the catalog, and a good
    snapshot replaces it."""
    mark_catalog(copied)
    (snapshot,) = copied.rglob("*.snapshot")
    spoil(snapshot)
    caplog.clear()
    with trustvlm.open(copied) as service:
        assert source(service) == "from the catalog"
        got = service.score("space", queries())
        warnings = [
            record.getMessage() for record in caplog.records if record.levelname == "WARNING"
        ]
        assert any(str(snapshot) in warning for warning in warnings) or spoil is in_the_future
    if spoil is not a_folder:
        caplog.clear()
        with trustvlm.open(copied) as service:
            require_equal(service.score("space", queries()), got)
        assert not own_messages(caplog)
    shutil.rmtree(snapshot.parent)
    with trustvlm.open(copied) as service:
        require_equal(service.score("space", queries()), got)


def test_an_epoch_change_discards_what_is_in_memory(copied: Path) -> None:
    """Another epoch under a running service (a restored backup): its caches are rebuilt, though the
    revision is the same."""
    with trustvlm.open(copied) as service:
        before = service.score("space", queries())
        service.search("space", queries(), kind="support")
        mark_catalog(copied)
        assert source(service) == "label 0000"
        of_another_epoch(next(copied.rglob("*.snapshot")))
        assert source(service) == "from the catalog"
        with pytest.raises(trustvlm.Unavailable, match="score again"):
            before.evidence(0)


def score_without_room(home: str) -> None:
    """Child: score where no file may grow beyond 64 KiB, so that a snapshot cannot be written."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (65_536, 65_536))
    with trustvlm.open(home) as service:
        tell(json.dumps(service.score("space", queries()).trust.tolist()))


def test_a_snapshot_that_cannot_be_written_costs_no_answer(copied: Path) -> None:
    """A disk without room for the snapshot: the query is answered all the same, and no remains are
    left."""
    with trustvlm.open(copied, read_only=True) as service:
        expected = service.score("space", queries()).trust
    shutil.rmtree(copied / "snapshots")
    (got,) = run(score_without_room, copied)
    np.testing.assert_allclose(json.loads(got), expected, atol=1e-5)
    assert not (copied / "snapshots").exists() or not list((copied / "snapshots").iterdir())


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
