"""Several processes and threads on one home: everybody sees everything, nothing is lost, no answer
mixes two states.

The children are real processes that run functions of this file (`python test_processes.py NAME
ARGUMENTS`).
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import let_go, start, tell, tell_json, together
from numbered import (
    AT_ONCE,
    CATALOG,
    VERIFIER,
    create,
    label,
    queries,
    require_equal,
    text,
    vectors,
)

import trustvlm
from trustvlm import Queries, TrustService

RULES = ("trustvlm", "trustvlm_star", "msp")


def require_same_view(watcher: TrustService, home: Path, space: str = "space") -> None:
    """What a long-lived service answers is what one that has just been opened answers, in every
    verb that reads."""
    asked = queries()
    with trustvlm.open(home, read_only=True) as fresh:
        assert list(watcher.list_labels(space)) == list(fresh.list_labels(space))
        for rule in RULES:
            got, expected = (
                watcher.score(space, asked, rule=rule),
                fresh.score(space, asked, rule=rule),
            )
            assert got.revision == expected.revision
            require_equal(got, expected)
        for kind in ("support", "prototype", "text"):
            found, wanted = (
                watcher.search(space, asked, kind=kind, k=7),
                fresh.search(space, asked, kind=kind, k=7),
            )
            np.testing.assert_array_equal(found.ids, wanted.ids, err_msg=kind)
            np.testing.assert_array_equal(found.labels, wanted.labels, err_msg=kind)
            np.testing.assert_allclose(found.similarity, wanted.similarity, atol=1e-5, err_msg=kind)


class Other:
    """Another process with the same home open, that does what it is told, as long as the test
    lasts."""

    def __init__(self, home: Path) -> None:
        self._process = start(obey, home)
        assert self._answer() == "ready"

    def __call__(self, expression: str) -> Any:
        """The value of a Python expression over `service` and the functions of this file, as JSON
        knows it."""
        assert self._process.stdin is not None
        self._process.stdin.write(expression + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the other process has died"
        return json.loads(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._process.stdout.close()


def obey(home: str) -> None:
    """Child: evaluate each line of stdin and answer its value."""
    with trustvlm.open(home) as service:
        tell('"ready"')
        for line in sys.stdin:
            value = eval(line, globals() | {"service": service})
            tell_json(value if isinstance(value, bool | int | str | list) else None)


@pytest.fixture
def watcher(home: Path) -> Iterator[TrustService]:
    with trustvlm.open(home) as service:
        service.score("space", queries())  # so that it has caches to be wrong with
        service.search("space", queries(), kind="support")
        yield service


@pytest.fixture
def other(home: Path) -> Iterator[Other]:
    process = Other(home)
    yield process
    process.close()


def support_ids(service: TrustService, space: str, number: int, first: int = 0) -> list[int]:
    """Ids of the support images of label `number` that :func:`label` gave it, from image `first`
    on."""
    asked = Queries(verifier=label(number, supports=number % 4).image_vectors)
    return [
        int(found) for found in service.search(space, asked, kind="support", k=1).ids[first:, 0]
    ]


Step = Callable[[TrustService, str], Any]
CHANGES: dict[str, list[Step]] = {
    "register a label": [lambda s, space: s.register(space, [label(100)])],
    "register text only": [lambda s, space: s.register(space, [label(100, supports=0)])],
    "add supports": [lambda s, space: s.register(space, [label(5, first=10)])],
    "add the first supports": [lambda s, space: s.register(space, [label(4, supports=2)])],
    "rename": [lambda s, space: s.update_label(space, "label 0005", new_name="elephant")],
    "rename and use the name again": [
        lambda s, space: s.update_label(space, "label 0005", new_name="elephant"),
        lambda s, space: s.register(space, [label(5, version=3)]),
    ],
    "swap two names": [
        lambda s, space: s.update_label(space, "label 0005", new_name="elephant"),
        lambda s, space: s.update_label(space, "label 0006", new_name="label 0005"),
        lambda s, space: s.update_label(space, "elephant", new_name="label 0006"),
    ],
    "new text vector": [
        lambda s, space: s.update_label(space, "label 0005", text_vector=text(5, 9))
    ],
    "remove a label": [lambda s, space: s.remove_label(space, "label 0005")],
    "remove and purge a label": [lambda s, space: s.remove_label(space, "label 0006", purge=True)],
    "remove a label and register it anew": [
        lambda s, space: s.remove_label(space, "label 0005"),
        lambda s, space: s.register(space, [label(5, version=2, first=7)]),
    ],
    "remove and restore a label": [
        lambda s, space: s.remove_label(space, "label 0007"),
        lambda s, space: s.restore_label(space, "label 0007"),
    ],
    "remove a support image": [
        lambda s, space: s.remove_support(space, support_ids(s, space, 7, first=2))
    ],
    "remove every support image of a label": [
        lambda s, space: s.remove_support(space, support_ids(s, space, 7))
    ],
    "remove and restore a support image": [
        lambda s, space: s.remove_support(
            space, [space_state.setdefault(space, support_ids(s, space, 7))[0]]
        ),
        lambda s, space: s.restore_support(space, space_state[space][:1]),
    ],
    "remove and purge": [
        lambda s, space: s.remove_support(space, support_ids(s, space, 7, first=1)),
        lambda s, space: s.remove_label(space, "label 0006"),
        lambda s, space: s.purge(older_than=AT_ONCE),
    ],
    "purge, register and purge again": [
        lambda s, space: s.remove_label(space, "label 0006", purge=True),
        lambda s, space: s.register(space, [label(6, version=4)]),
        lambda s, space: s.remove_label(space, "label 0006", purge=True),
    ],
    "another recipe": [lambda s, space: s.rebuild_index(space, recipe="flat-fp16")],
}
space_state: dict[str, list[int]] = {}


@pytest.mark.slow  # in short: tests/query/test_unchanged.py
@pytest.mark.parametrize(
    "looks_between", [True, False], ids=["look after each step", "look at the end"]
)
def test_the_next_call_sees_what_another_process_changed(
    home: Path, other: Other, looks_between: bool
) -> None:
    """After every kind of change made elsewhere, a service with warm caches answers like one that
    was just opened."""
    with trustvlm.open(home) as watcher:
        for number, (change, steps) in enumerate(CHANGES.items()):
            if len(steps) == 1 and not looks_between:
                continue
            space = f"space {number}"
            create(watcher, space)
            watcher.register(space, [label(number, supports=number % 4) for number in range(20)])
            require_same_view(watcher, home, space)
            for step in range(len(steps)):
                other(f"CHANGES[{change!r}][{step}](service, {space!r})")
                if looks_between or step == len(steps) - 1:
                    try:
                        require_same_view(watcher, home, space)
                    except AssertionError as error:
                        raise AssertionError(f"{change}, step {step}: {error}") from error


def test_what_is_registered_elsewhere_is_predicted_here(
    home: Path, watcher: TrustService, other: Other
) -> None:
    """Not only the same caches: a query on the very vectors of the new label gets that label, then
    no longer."""
    new = label(500)
    asked = Queries(np.array([new.text_vector]), np.asarray(new.image_vectors)[:1])
    assert watcher.score("space", asked).label[0] != new.name
    revision = other("service.register('space', [label(500)]).revision")
    verdicts = watcher.score("space", asked)
    assert verdicts.label[0] == new.name
    assert verdicts.revision == revision
    assert not verdicts.unverified[0]
    assert verdicts.evidence(0).label[0].similarity == pytest.approx(1.0, abs=1e-6)
    assert watcher.search("space", asked, kind="support", k=1).labels[0, 0] == new.name
    other("service.update_label('space', 'label 0500', new_name='zebra')")
    assert watcher.score("space", asked).label[0] == "zebra"
    other("service.remove_label('space', 'zebra')")
    assert watcher.score("space", asked).label[0] not in (new.name, "zebra")
    other("service.restore_label('space', 'zebra')")
    assert watcher.score("space", asked).label[0] == "zebra"
    other("service.remove_label('space', 'zebra', purge=True)")
    assert watcher.score("space", asked).label[0] not in (new.name, "zebra")


def test_a_space_made_again_under_its_name(home: Path, watcher: TrustService, other: Other) -> None:
    """Another process removes the space and makes it again with other labels: nothing of the old
    one shows, at the same revision number and with the same label names."""
    before = watcher.get_space("space")
    other("service.remove_space('space')")
    with pytest.raises(trustvlm.NotFound):
        watcher.score("space", queries())
    other("create(service)")
    other(
        "service.register('space', [label(n, version=1, first=20, supports=(n + 1) % 4) for "
        "n in range(20)]).revision"
    )
    after = watcher.get_space("space")
    assert (after.id != before.id, after.revision) == (True, before.revision)
    require_same_view(watcher, home)
    new = label(3, version=1)
    assert (
        watcher.score("space", Queries(np.array([new.text_vector])), rule="msp").label[0]
        == new.name
    )
    other("service.remove_space('space')")
    other("service.purge(older_than=AT_ONCE)")
    other("create(service)")
    other("service.register('space', [label(1)]).revision")
    assert set(watcher.score("space", queries()).label) == {"label 0001"}
    require_same_view(watcher, home)


def test_a_read_only_service_follows_too(home: Path, other: Other) -> None:
    """A service opened read-only on a home that others write sees their commits like any other."""
    with trustvlm.open(home, read_only=True) as reader:
        reader.score("space", queries())
        other("service.register('space', [label(200)]).revision")
        require_same_view(reader, home)
        other("service.remove_label('space', 'label 0200', purge=True)")
        require_same_view(reader, home)
        with pytest.raises(trustvlm.ReadOnly):
            reader.register("space", [label(201)])


# Four at once

EACH, BULK = 2, range(100, 106)


def register_alone(home: str, worker: str) -> None:
    """Child: together with the others, register labels of its own one by one and in bulk, and
    labels that all four register."""
    who = int(worker)
    with trustvlm.open(home) as service:
        together()
        for number in range(EACH):
            own = service.register("space", [label(1000 * (who + 1) + number)])
            # All four register label 900 + n with the same text and with support images of which
            # two are common.
            shared = service.register("space", [label(900 + number, first=2 * who, supports=4)])
            for result in (own, shared):
                tell_json(
                    [
                        result.revision,
                        result.added_labels,
                        result.added_supports,
                        result.skipped_duplicates,
                    ]
                )
        bulk = service.register(
            "space", [label(1000 * (who + 1) + number, supports=2) for number in BULK]
        )
        tell_json([bulk.revision, bulk.added_labels, bulk.added_supports, bulk.skipped_duplicates])


def test_four_processes_register_at_once(home: Path) -> None:
    """Disjoint and overlapping labels: nothing is lost or doubled, and every commit has a revision
    of its own."""
    with trustvlm.open(home) as service:
        before = service.get_space("space")
        children = [start(register_alone, home, worker) for worker in range(4)]
        let_go(children)
        seen = [service.score("space", queries(4)).revision for _ in range(20)]
        outputs = [child.communicate(timeout=120)[0] for child in children]
        assert [child.returncode for child in children] == [0] * 4
        results = [[json.loads(line) for line in output.splitlines()] for output in outputs]
        changed = [result[0] for worker in results for result in worker if result[1] or result[2]]
        assert sorted(changed) == list(
            range(before.revision + 1, before.revision + 1 + len(changed))
        )
        assert service.get_space("space").revision == max(changed)
        for worker in results:
            own = [result[0] for result in worker if result[1] or result[2]]
            assert own == sorted(own)
        assert seen == sorted(seen)
        counts = {row.name: row.support_count for row in service.list_labels("space")}
        expected = {f"label {1000 * (who + 1) + n:04d}": 3 for who in range(4) for n in range(EACH)}
        expected |= {f"label {1000 * (who + 1) + n:04d}": 2 for who in range(4) for n in BULK}
        expected |= {
            f"label {900 + n:04d}": 10 for n in range(EACH)
        }  # support images 0 to 9 of each
        assert {name: counts[name] for name in expected} == expected
        assert len(counts) == 20 + len(expected)
        assert sum(result[1] for worker in results for result in worker) == len(expected)
        assert sum(result[2] for worker in results for result in worker) == sum(expected.values())
        with trustvlm.open(home.parent / "alone", create=True) as alone:
            create(alone)
            alone.register("space", [label(number, supports=number % 4) for number in range(20)])
            alone.register("space", [label(900 + n, supports=10) for n in range(EACH)])
            for who in range(4):
                alone.register("space", [label(1000 * (who + 1) + n) for n in range(EACH)])
                alone.register("space", [label(1000 * (who + 1) + n, supports=2) for n in BULK])
            require_equal(
                service.score("space", queries()), alone.score("space", queries()), ids=False
            )
    with sqlite3.connect(home / CATALOG) as raw:
        assert raw.execute("SELECT count(*), count(DISTINCT name) FROM labels").fetchone() == (
            len(counts),
            len(counts),
        )
        doubled = "SELECT label_id, content_hash FROM supports GROUP BY 1, 2 HAVING count(*) > 1"
        assert raw.execute(doubled).fetchall() == []
    raw.close()


def make_homes() -> None:
    """Child: open homes that may not be there yet, each at the moment it is told."""
    with trustvlm.open(Path(sys.stdin.readline().strip()), create=True):
        pass  # so that everything is imported
    tell("ready")
    for line in sys.stdin:
        moment, _, home = line.strip().partition(" ")
        while time.monotonic() < float(moment):
            pass
        try:
            with trustvlm.open(home, create=True) as service:
                tell(f"fine {len(list(service.list_spaces()))}")
        except BaseException as error:
            tell(f"{type(error).__name__}: {error}".replace("\n", " "))


def test_several_processes_create_one_home_at_once(tmp_path: Path) -> None:
    """open(create=True) in three processes at the same moment: one home, one epoch, and no error in
    any of them."""
    children = [start(make_homes) for _ in range(3)]
    for number, child in enumerate(children):
        assert child.stdin is not None
        child.stdin.write(f"{tmp_path / f'own-{number}'}\n")
        child.stdin.flush()
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
    answers = []
    for attempt in range(2):
        home = tmp_path / f"home-{attempt}"
        moment = time.monotonic() + 0.05
        for number, child in enumerate(children):
            assert child.stdin is not None
            # In some attempts all at once, in others a little one after the other.
            child.stdin.write(f"{moment + 0.004 * number * (attempt % 4)} {home}\n")
            child.stdin.flush()
        for child in children:
            assert child.stdout is not None
            answers.append(child.stdout.readline().strip())
        raw = sqlite3.connect(home / CATALOG)
        assert raw.execute("SELECT count(*) FROM catalog_state").fetchone() == (1,)
        raw.close()
    for child in children:
        child.communicate(timeout=30)
    assert answers == ["fine 0"] * len(answers), {
        answer: answers.count(answer) for answer in answers
    }


# Threads


def script(seed: int, count: int) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """A random sequence of changes, each valid where it stands and each one revision: (verb,
    arguments, keywords)."""
    rng = np.random.default_rng(seed)
    alive = {number: f"label {number:04d}" for number in range(30)}
    removed: list[int] = []
    supports = {number: (number % 4) for number in range(30)}
    steps: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    fresh = 100
    for _ in range(count):
        kind = rng.choice(
            ["new", "more", "rename", "text", "remove", "restore"],
            p=[0.3, 0.2, 0.1, 0.15, 0.15, 0.1],
        )
        number = int(rng.choice(sorted(alive)))
        if kind == "restore" and removed:
            back = removed.pop()
            alive[back] = f"label {back:04d}"
            steps.append(("restore_label", (f"label {back:04d}",), {}))
        elif kind == "more":
            extra = vectors(2, number, n=60, dim=VERIFIER)[supports[number] : supports[number] + 2]
            supports[number] += 2
            steps.append(("add_support", (alive[number],), {"image_vectors": extra}))
        elif kind == "rename":
            name = f"renamed {fresh}"
            fresh += 1
            steps.append(("update_label", (alive[number],), {"new_name": name}))
            alive[number] = name
        elif kind == "text":
            other = {"text_vector": text(number, len(steps) + 1)}  # else it is no change
            steps.append(("update_label", (alive[number],), other))
        elif kind == "remove" and len(alive) > 10 and alive[number].startswith("label"):
            del alive[number]
            removed.append(number)
            steps.append(("remove_label", (f"label {number:04d}",), {}))
        else:
            alive[fresh], supports[fresh] = f"label {fresh:04d}", fresh % 4
            steps.append(("register", ([label(fresh, supports=fresh % 4)],), {}))
            fresh += 1
    return steps


def begin(home: Path) -> TrustService:
    service = trustvlm.open(home, create=True)
    create(service)
    service.register("space", [label(number, supports=number % 4) for number in range(30)])
    return service


@pytest.mark.parametrize("count", [16, pytest.param(200, marks=pytest.mark.slow)])
def test_threads_score_and_search_while_one_changes(tmp_path: Path, count: int) -> None:
    """Every answer is that of a home built from the changes up to its revision, and no thread goes
    back in time."""
    steps = script(11, count)
    asked = queries(12)
    seen: dict[str, list[list[Any]]] = {
        kind: [] for kind in ("trustvlm", "trustvlm_star", "support", "prototype", "text")
    }
    errors: list[BaseException] = []
    stop = threading.Event()
    with begin(tmp_path / "home") as service:

        def look(kind: str) -> None:
            answers: list[Any] = []
            seen[kind].append(answers)
            try:
                while not stop.is_set():
                    if kind in RULES:
                        answers.append(service.score("space", asked, rule=kind))
                    else:
                        answers.append(service.search("space", asked, kind=kind, k=5))
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=look, args=(kind,)) for kind in (*seen, "trustvlm")]
        for thread in threads:
            thread.start()
        first = service.get_space("space").revision
        try:
            for verb, arguments, keywords in steps:
                getattr(service, verb)("space", *arguments, **keywords)
                time.sleep(0.01)
            if count > 100:
                service.purge(older_than=AT_ONCE)
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not errors, errors
    wanted = {answer.revision for runs in seen.values() for answers in runs for answer in answers}
    assert len(wanted) > min(count, 100) // 4, "the threads hardly overlapped with the changes"
    # The same changes, one after the other, each looked at by a service that has just been opened:
    # no threads, no caches.
    expected: dict[int, dict[str, Any]] = {}
    with begin(tmp_path / "replay") as replay:
        for step in range(len(steps) + 1):
            if step:
                verb, arguments, keywords = steps[step - 1]
                getattr(replay, verb)("space", *arguments, **keywords)
            revision = first + step
            assert replay.get_space("space").revision == revision
            if revision in wanted:
                with trustvlm.open(tmp_path / "replay", read_only=True) as fresh:
                    expected[revision] = {
                        kind: fresh.score("space", asked, rule=kind)
                        if kind in RULES
                        else fresh.search("space", asked, kind=kind, k=5)
                        for kind in seen
                    }
    for kind, runs in seen.items():
        for answers in runs:
            revisions = [answer.revision for answer in answers]
            assert revisions == sorted(revisions), kind
            for answer in answers:
                known = expected[answer.revision][kind]
                if kind in RULES:
                    require_equal(answer, known)
                else:
                    np.testing.assert_array_equal(answer.ids, known.ids)
                    np.testing.assert_array_equal(answer.labels, known.labels)
                    np.testing.assert_allclose(answer.similarity, known.similarity, atol=1e-5)


def flip(home: str) -> None:
    """Child: until stdin ends, make one label's text vector and support image now these, now
    those."""
    with trustvlm.open(home) as service:
        stop = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
        turn = 0
        kept = list(support_ids(service, "space", 1))
        extra: list[int] = []
        tell("ready")
        while not stop.is_set():
            turn += 1
            service.update_label(
                "space", "label 0001", text_vector=text(1, turn % 2), new_name="label 0001"
            )
            if extra:
                service.remove_support("space", extra)
                extra = []
            else:
                extra = list(
                    service.register(
                        "space", [label(1, first=50, supports=1, version=turn % 2)]
                    ).ids
                )
        tell_json([turn, kept])


@pytest.mark.slow
def test_one_call_is_one_state(home: Path) -> None:
    """All rows of a call that overlaps with another process's commits, and the evidence, come from
    one revision.

    3,000 times the same query, while the label it is nearest to keeps changing: all rows must be
    alike, and like one of the few states that there are.
    """
    asked = label(1)
    many = 3000
    repeated = Queries(
        np.repeat([np.asarray(asked.text_vector)], many, axis=0),
        np.repeat(np.asarray(asked.image_vectors)[:1], many, axis=0),
    )
    child = start(flip, home)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    revisions, states = [], set()
    with trustvlm.open(home) as service:
        try:
            for _ in range(4):
                before = service.get_space("space").revision
                verdicts = service.score("space", repeated, top_k=3)
                revisions.append((before, verdicts.revision, service.get_space("space").revision))
                rows = np.stack(
                    [verdicts.trust, verdicts.text_confidence, verdicts.image_similarity], axis=1
                )
                np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), atol=1e-6)
                assert len(set(verdicts.label)) == 1
                assert len({tuple(names) for names in verdicts.top_labels}) == 1
                states.add(tuple(rows[0].round(6)))
                first, last = verdicts.evidence(0, k=9), verdicts.evidence(many - 1, k=9)
                assert [near.id for near in first.label] == [near.id for near in last.label]
                hits = service.search(
                    "space", Queries(verifier=repeated.verifier), kind="support", k=5
                )
                assert (hits.ids == hits.ids[0]).all()
        finally:
            child.communicate(timeout=30)
    assert child.returncode == 0
    assert all(before <= seen <= after for before, seen, after in revisions)
    assert sum(before < after for before, _, after in revisions) > 1, (
        "the calls did not overlap with commits"
    )
    assert 1 < len(states) <= 4  # two text vectors, with and without the further support image


# The write lock


def hold_lock(home: str) -> None:
    """Child: hold the catalog's write lock with nothing but SQLite, until it is killed."""
    raw = sqlite3.connect(Path(home) / CATALOG, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("UPDATE spaces SET revision = revision + 100")
    tell("locked")
    time.sleep(600)


def impatient(home: str, timeout: str) -> None:
    """Child: register with a short busy timeout while another process holds the lock."""
    import trustvlm.catalog.store.sqlite as settings

    settings.BUSY_TIMEOUT_S = float(timeout)
    with trustvlm.open(home) as service:
        done: list[str] = []
        try:
            service.register(
                "space", [label(number) for number in range(300, 310)], on_commit=done.extend
            )
            tell("registered")
        except trustvlm.Busy as error:
            tell(f"Busy {len(done)} {error}")
        asked = queries(4)
        tell(f"{service.score('space', asked).revision} {len(list(service.list_labels('space')))}")
        tell(sys.stdin.readline().strip())
        tell(
            str(
                service.register(
                    "space", [label(number) for number in range(300, 310)]
                ).added_labels
            )
        )


def test_a_writer_waits_for_another(home: Path) -> None:
    """While another process holds the write lock, readers answer and a writer waits; it succeeds
    when the lock is free."""
    with trustvlm.open(home) as service, ThreadPoolExecutor(1) as pool:
        holder = start(hold_lock, home)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        before = service.score("space", queries(4)).revision
        writing = pool.submit(service.register, "space", [label(300)])
        assert not wait([writing], timeout=0.3).done
        holder.kill()
        holder.communicate()
        result = writing.result(60)
        assert (result.added_labels, result.revision) == (1, before + 1)


@pytest.mark.slow  # by default: test_a_writer_waits_for_another
def test_a_writer_that_waited_too_long_says_busy(home: Path) -> None:
    """Beyond the busy timeout: one clear error, nothing half-registered, reading goes on, and later
    it works."""
    holder = start(hold_lock, home)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "locked\n"
    with trustvlm.open(home) as service:
        revision = service.get_space("space").revision
        child = start(impatient, home, 0.5)
        assert child.stdout is not None
        said = child.stdout.readline()
        assert said.startswith("Busy 0 ")
        assert "write lock" in said
        assert "try again" in said
        assert child.stdout.readline() == f"{revision} 20\n"
        holder.kill()
        holder.communicate()
        output, _ = child.communicate("go\n", timeout=30)
        assert output == "go\n10\n"
        assert service.get_space("space").revision == revision + 1
        require_same_view(service, home)


# Forks


def fork(home: str) -> None:
    """Child: open a service, use it, fork, and use it on both sides."""
    service = trustvlm.open(home)
    before = service.score("space", queries(4))
    child = os.fork()
    if child == 0:
        said = set()
        verbs: list[Callable[[], Any]] = [
            lambda: service.score("space", queries(4)),
            lambda: service.search("space", queries(4)),
            lambda: service.register("space", [label(400)]),
            lambda: service.remove_label("space", "label 0001"),
            lambda: service.purge(),
            lambda: service.get_space("space"),
            lambda: list(service.list_spaces()),
            lambda: list(service.list_labels("space")),
            lambda: service.create_space("another", classifier="precomputed:4"),
            lambda: service.thumbnail(1),
            lambda: before.evidence(0),
        ]
        for verb in verbs:
            try:
                verb()
                said.add("no error")
            except trustvlm.Unavailable as error:
                said.add(str(error))
        service.close()
        with trustvlm.open(home) as own:  # what the message says works
            own.register("space", [label(401)])
        tell_json(sorted(said))
        sys.exit(0)  # not os._exit: what Python does at its end must not hurt the parent either
    assert os.waitpid(child, 0)[1] == 0
    service.register("space", [label(402)])
    names = {row.name for row in service.list_labels("space")}
    after = service.score("space", queries(4))
    tell_json(
        [
            {"label 0400", "label 0401", "label 0402"} & names == {"label 0401", "label 0402"},
            after.revision,
        ]
    )
    service.close()


def test_a_service_does_not_work_after_fork_and_says_so(home: Path) -> None:
    """Every verb in the forked child says to open anew; doing so works; the parent's service goes
    on as if nothing was."""
    with trustvlm.open(home) as service:
        revision = service.get_space("space").revision
    child = start(fork, home)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    said, (kept, after) = map(json.loads, output.splitlines())
    assert len(said) == 1
    assert "fork" in said[0]
    assert "trustvlm.open" in said[0]
    assert kept
    assert after == revision + 2
    with trustvlm.open(home) as service:
        require_same_view(service, home)
    with sqlite3.connect(home / CATALOG) as raw:
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    raw.close()


def die_in_transaction(home: str) -> None:
    """Child: stand inside a write transaction until killed."""
    raw = sqlite3.connect(Path(home) / CATALOG, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    raw.execute("UPDATE labels SET name = 'broken ' || name")
    tell("inside")
    signal.pause()


def test_a_process_that_dies_in_a_transaction_leaves_nothing(home: Path) -> None:
    """A writer that is killed inside its transaction takes its lock and its half-made changes with
    it."""
    child = start(die_in_transaction, home)
    assert child.stdout is not None
    assert child.stdout.readline() == "inside\n"
    with trustvlm.open(home) as service:
        child.kill()
        child.communicate()
        assert service.register("space", [label(300)]).added_labels == 1
        assert all(row.name.startswith("label") for row in service.list_labels("space"))
        require_same_view(service, home)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
