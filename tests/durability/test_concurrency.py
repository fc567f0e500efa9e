"""Readers and writers in several processes and threads: a verdict at revision r is that of a home
with the changes up to r.

Writers tell each change with the revision it got; readers keep what they were answered, with its
revision. Afterwards the changes are made again, one after the other, in a fresh home, and a service
that was just opened must give the same answers.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
from children import let_go, start, together
from crash_child import ids_of
from crash_state import (
    CATALOG,
    IMAGES,
    POOL,
    SUPPORTS,
    TEXTS,
    Op,
    create,
    label_input,
    queries,
    read_state,
    require_sound,
)
from sqlalchemy import event

import trustvlm
from trustvlm import LabelInput, TrustService
from trustvlm.catalog.store.backends.database import CHANGE

ASKED = queries(list(range(POOL - 6, POOL)))
RULES = ("posterior", "trustvlm", "msp")


def change(service: TrustService, op: Op) -> int:
    """Make a change; the revision it got."""
    kind, label = op["op"], op["label"]
    if kind == "register":
        return service.register("main", [label_input(label, op["text"], op["supports"])]).revision
    if kind == "add":
        return service.add_support("main", label, image_vectors=IMAGES[op["supports"]]).revision
    if kind == "take":
        return service.remove_support("main", ids_of(service, op | {"space": "main"}, "IS NULL"))
    if kind == "text":
        return service.update_label("main", label, text_vector=TEXTS[op["text"]])
    if kind == "rename":
        return service.update_label("main", label, new_name=op["new"])
    verbs = {"remove": service.remove_label, "restore": service.restore_label}
    return (
        verbs[kind]("main", label)
        if kind in verbs
        else service.remove_label("main", label, purge=True)
    )


class Writer:
    """Makes changes to labels of its own, so that writers contend for the lock and for nothing
    else."""

    def __init__(self, number: int) -> None:
        self.chance = random.Random(number)
        self.images = iter(self.chance.sample(SUPPORTS, len(SUPPORTS)))
        self.labels: dict[str, list[int]] = {}
        self.removed: list[str] = []
        self.name, self.count = f"writer {number}", 0

    def next(self) -> Op:
        kinds = ["register"] * (3 if len(self.labels) < 25 else 0)
        kinds += ["add", "text", "rename", "remove"] * (len(self.labels) > 2) + ["purge"] * (
            len(self.labels) > 15
        )
        kinds += ["restore"] * bool(self.removed) + ["take"] * any(
            len(own) > 1 for own in self.labels.values()
        )
        kind = self.chance.choice(kinds)
        if kind == "register":
            self.count += 1
            name, own = (
                f"{self.name} label {self.count}",
                [next(self.images) for _ in range(self.chance.randrange(4))],
            )
            self.labels[name] = own
            return {"op": kind, "label": name, "text": self.chance.randrange(POOL), "supports": own}
        if kind == "restore":
            name = self.removed.pop()
            self.labels[name] = []
            return {"op": kind, "label": name}
        name = self.chance.choice(
            [n for n, own in self.labels.items() if kind != "take" or len(own) > 1]
        )
        if kind == "add":
            more = [next(self.images) for _ in range(2)]
            self.labels[name] = self.labels[name] + more
            return {"op": kind, "label": name, "supports": more}
        if kind == "take":
            return {"op": kind, "label": name, "supports": [self.labels[name].pop()]}
        if kind == "text":
            return {"op": kind, "label": name, "text": self.chance.randrange(POOL)}
        if kind == "rename":
            self.count += 1
            new = f"{self.name} label {self.count}"
            self.labels[new] = self.labels.pop(name)
            return {"op": kind, "label": name, "new": new}
        del self.labels[name]
        if kind == "remove":
            self.removed.append(name)
        return {"op": kind, "label": name}


def write(home: str, numbers: str, seconds: str) -> None:
    """Child: one thread for each of the writers `numbers`, for so long; tells each change."""
    held: list[tuple[float, float]] = []

    def work(writer: Writer) -> None:
        while time.monotonic() < end:
            op = writer.next()
            os.write(1, (json.dumps([change(service, op), op]) + "\n").encode())

    with trustvlm.open(home) as service:
        time_locks(service, held)
        together()
        end = time.monotonic() + float(seconds)
        in_threads([lambda n=n: work(Writer(int(n))) for n in numbers.split(",")])  # type: ignore[misc]
    os.write(1, (json.dumps(["held", max(wall for wall, _ in held)]) + "\n").encode())


def read(home: str, threads: str, seconds: str) -> None:
    """Child: ask again and again, in so many threads; tells each answer."""

    def work(number: int) -> None:
        chance = random.Random(number)
        while time.monotonic() < end:
            rule = chance.choice(RULES)
            verdicts = service.score("main", ASKED, rule=rule)
            answer = [verdicts.revision, rule, verdicts.label.tolist(), verdicts.trust.tolist()]
            os.write(1, (json.dumps(answer) + "\n").encode())
            time.sleep(0.02)

    with trustvlm.open(home, read_only=True) as service:
        service.score("main", ASKED)
        together()
        end = time.monotonic() + float(seconds)
        in_threads([lambda n=n: work(n) for n in range(int(threads))])  # type: ignore[misc]


def disturb(home: str, seconds: str) -> None:
    """Child: purge and rebuild beside them."""
    with trustvlm.open(home) as service:
        together()
        end = time.monotonic() + float(seconds)
        while time.monotonic() < end:
            service.rebuild_index("main")
            service.purge(older_than=timedelta(hours=1))  # nothing is so old: the log is emptied
            time.sleep(0.1)


def in_threads(works: list[Callable[[], None]]) -> None:
    """Run all of these at once; the first error of any is raised."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def time_locks(service: TrustService, held: list[tuple[float, float]]) -> None:
    """From now on, note for how long each write transaction of the service has the write lock, from
    BEGIN IMMEDIATE to after its end: seconds on the clock, and of the processor, which do not
    depend on what else the machine is doing."""
    engine = service._home.catalog._backend.engine
    begun: dict[Any, tuple[float, float]] = {}

    def begin(connection: Any) -> None:
        if CHANGE in connection.get_execution_options():
            begun[connection.connection.dbapi_connection] = time.perf_counter(), time.thread_time()

    def end(dbapi_connection: Any, *_: object) -> None:
        if dbapi_connection in begun:
            clock, processor = begun.pop(dbapi_connection)
            held.append((time.perf_counter() - clock, time.thread_time() - processor))

    event.listen(engine, "begin", begin)  # after the listener that begins the transaction
    event.listen(
        engine, "checkin", end
    )  # for good: a background thread may be going through the listeners


def output_of(children: list[subprocess.Popen[str]], seconds: float) -> list[list[Any]]:
    found = []
    for child in children:
        output, said = child.communicate(timeout=seconds)
        assert child.returncode == 0, said
        found += [json.loads(line) for line in output.splitlines()]
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_verdict_is_that_of_its_revision(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seconds = 12.0
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        create(service, "main")
        service.register("main", [label_input("first", 0, [5_999])])
    assert SUPPORTS[-1] == 5_999  # beyond the reach of few writers, and a conflict where it is not
    writers = [start(write, home, numbers, seconds) for numbers in ("1,2", "3")]
    readers = [start(read, home, threads, seconds + 0.5) for threads in (2, 1)]
    others = [start(disturb, home, seconds)]
    let_go([*writers, *readers, *others])
    told = output_of(writers, seconds + 120)
    answers = output_of(readers, seconds + 120)
    output_of(others, seconds + 120)
    held = max(line[1] for line in told if line[0] == "held")
    changes = sorted((line for line in told if line[0] != "held"), key=lambda line: line[0])
    assert [revision for revision, _ in changes] == list(range(2, len(changes) + 2)), (
        "a revision is missing or came twice"
    )
    seen: dict[int, list[list[Any]]] = {}
    for answer in answers:
        seen.setdefault(answer[0], []).append(answer)
    assert len(seen) > 2
    require_sound(home)
    compared = replayed(tmp_path / "again", changes, seen)
    assert read_state(home) == read_state(tmp_path / "again")
    with capsys.disabled():
        print(  # noqa: T201
            f"\n{len(changes)} changes by 3 writers, {compared} answers of 3 readers at "
            f"{len(seen)} revisions: all equal; write lock held {1000 * held:.0f} ms at most"
        )


def replayed(home: Path, changes: list[list[Any]], seen: dict[int, list[list[Any]]]) -> int:
    """Make the changes again, and compare what was answered at each revision with what a service
    that was just opened says."""
    compared = 0
    with trustvlm.open(home, create=True) as service:
        create(service, "main")
        service.register("main", [label_input("first", 0, [5_999])])
        for revision, op in [[1, None], *changes]:
            assert op is None or change(service, op) == revision
            if revision not in seen:
                continue
            with trustvlm.open(home, read_only=True) as fresh:
                for rule in RULES:
                    answers = [answer for answer in seen[revision] if answer[1] == rule]
                    if not answers:
                        continue
                    expected = fresh.score("main", ASKED, rule=rule)
                    assert expected.revision == revision
                    for _, _, labels, trust in answers:
                        assert labels == expected.label.tolist(), f"revision {revision}, {rule}"
                        np.testing.assert_allclose(
                            trust, expected.trust, atol=1e-5, rtol=0, err_msg=f"{revision} {rule}"
                        )
                        compared += 1
    return compared


# The write lock


def hold(home: str, seconds: str) -> None:
    """Child: hold the write lock with nothing but SQLite."""
    raw = sqlite3.connect(Path(home) / CATALOG, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    os.write(1, b"locked\n")
    time.sleep(float(seconds))
    raw.execute("ROLLBACK")
    raw.close()


@pytest.mark.slow
def test_almost_thirty_seconds_of_contention_are_waited_for(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service, "main")
        child = start(hold, tmp_path / "home", 27)
        assert child.stdout is not None
        assert child.stdout.readline() == "locked\n"
        began = time.monotonic()
        assert service.register("main", [label_input("one", 1, [1])]).added_labels == 1
        assert time.monotonic() - began > 25
        child.communicate(timeout=60)


DIM = 768
MANY = 10_000
MOST = 12
"""How many times as long as the plain insert below a transaction may have the lock. A second here:
another machine, or a busy one, takes longer for both."""


def plain_insert(path: Path, vectors: np.ndarray) -> float:
    """Seconds of the processor that SQLite alone takes to store vectors and their hashes in one
    transaction."""
    rows = [(hashlib.sha256(vector).digest(), vector.tobytes()) for vector in vectors]
    with closing(sqlite3.connect(path, isolation_level=None)) as plain:
        plain.execute("PRAGMA journal_mode = WAL")
        plain.execute("PRAGMA synchronous = FULL")
        plain.execute("CREATE TABLE vectors (label INTEGER, hash BLOB UNIQUE, vector BLOB)")
        plain.execute("CREATE INDEX of_label ON vectors (label)")
        began = time.thread_time()
        plain.execute("BEGIN IMMEDIATE")
        plain.executemany("INSERT INTO vectors VALUES (1, ?, ?)", rows)
        plain.execute("COMMIT")
        return time.thread_time() - began


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_transaction_holds_the_lock_for_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bulk registration, and removing, restoring and purging ten thousand support images of one
    label."""
    rng = np.random.default_rng(0)
    figures: dict[str, tuple[float, float]] = {}
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("main", classifier="precomputed:512", verifier=f"precomputed:{DIM}")
        texts = rng.standard_normal((1_000, 512)).astype(np.float32)
        images = rng.standard_normal((1_000, 16, DIM)).astype(np.float32)
        inputs = [
            LabelInput(f"label {i}", text_vector=t, image_vectors=own)
            for i, (t, own) in enumerate(zip(texts, images, strict=True))
        ]
        many = rng.standard_normal((MANY, DIM)).astype(np.float32)
        ids: list[int] = []
        held: list[tuple[float, float]] = []
        plain: list[float] = []
        time_locks(service, held)

        def measured(what: str, verb: Callable[[], Any]) -> None:
            plain.append(plain_insert(tmp_path / f"plain {len(plain)}", many))
            held.clear()
            ids.extend(getattr(verb(), "ids", ()))
            figures[what] = max(held)

        measured(
            "register 1,000 labels with 16 images of 768 numbers each",
            lambda: service.register("main", inputs),
        )
        service.register("main", [LabelInput("large", text_vector=texts[0])])
        ids.clear()
        measured(
            "add 10,000 support images to a label",
            lambda: service.add_support("main", "large", image_vectors=many),
        )
        measured("remove 5,000 support images", lambda: service.remove_support("main", ids[:5_000]))
        measured(
            "restore 5,000 support images", lambda: service.restore_support("main", ids[:5_000])
        )
        measured("remove a label with 10,000", lambda: service.remove_label("main", "large"))
        measured("restore a label with 10,000", lambda: service.restore_label("main", "large"))
        measured("remove and purge it", lambda: service.remove_label("main", "large", purge=True))
        measured("remove the space", lambda: service.remove_space("main"))
        measured("purge the space", lambda: service.purge(older_than=timedelta(0)))
    yardstick = median(plain)
    with capsys.disabled():
        lines = [
            f"{1e3 * wall:6.0f} ms, {1e3 * own:4.0f} of the processor: {what}"
            for what, (wall, own) in figures.items()
        ]
        table = "\n".join(lines)
        print(  # noqa: T201
            f"\nlongest write transaction of each (plain insert: {1e3 * yardstick:.0f} ms):\n{table}"
        )
    assert max(own for _, own in figures.values()) < MOST * yardstick, (yardstick, figures)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
