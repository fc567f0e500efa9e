"""Transactions of several processes on one catalog in PostgreSQL: none is lost, none is seen in
part, and revisions never go back."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import children
import postgres
import pytest
from numbered import create, label, queries, require_equal

import trustvlm
from trustvlm.catalog.rows import spaces

BUMPS = 20


@pytest.fixture
def url(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty catalog, also of children's homes."""
    address = postgres_server.create("isolation", "head")
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", address)
    yield address
    postgres_server.drop("isolation")


# Children


def bump(home: str) -> None:
    """Read a revision, raise it by one, and check that it is the next one."""
    with trustvlm.open(home, create=True) as service:
        catalog = service._home.catalog
        children.together()
        for _ in range(BUMPS):
            with catalog.write() as connection:
                before = spaces.find(connection, "space").revision
                after = spaces.advance(connection, 1)
                assert after == before + 1
            children.tell(str(after))


def add_labels(home: str, first: str, count: str) -> None:
    """Register labels one by one; tell the revision that each made."""
    with trustvlm.open(home, create=True) as service:
        children.together()
        for number in range(int(first), int(first) + int(count)):
            made = service.register("space", [label(number, supports=1)])
            children.tell(str(made.revision))


def fork(home: str) -> None:
    """A child of a fork ends in several ways; its parent goes on with the connections it has."""
    with trustvlm.open(home, create=True) as service:
        before = service.score("space", queries(4))
        for way in range(3):
            if (child := os.fork()) == 0:
                if way == 0:
                    service.close()
                elif way == 1:
                    sys.exit(0)
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
            require_equal(service.score("space", queries(4)), before)
            service.register("space", [label(900 + way, supports=0)])
            service.remove_label("space", label(900 + way).name)
    children.tell("done")


# Tests


@pytest.mark.slow  # by default: test_revisions_never_go_back_and_are_seen_whole
def test_no_bump_of_three_writers_is_lost(url: str, tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service)
        writers = [children.start(bump, tmp_path / f"node {i}") for i in range(3)]
        children.let_go(writers)
        told = [int(line) for one in writers for line in one.communicate(timeout=120)[0].split()]
        assert [one.returncode for one in writers] == [0, 0, 0]
        assert sorted(told) == list(range(1, 3 * BUMPS + 1))
        assert service.get_space("space").revision == 3 * BUMPS


def test_revisions_never_go_back_and_are_seen_whole(url: str, tmp_path: Path) -> None:
    """While two processes register label after label, threads that read see, at revision r, the r
    labels that made it; and the last revision that was acknowledged, or a later one."""
    count = 5
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service)
        seen: list[list[tuple[int, int]]] = [[], [], []]
        ended = threading.Event()

        def watch(states: list[tuple[int, int]]) -> None:
            while not ended.is_set():
                row = service.get_space("space")
                states.append((row.revision, row.label_count))
                time.sleep(0.001)

        watching = [threading.Thread(target=watch, args=(states,)) for states in seen]
        writers = [
            children.start(add_labels, tmp_path / f"node {i}", 100 * i, count) for i in range(2)
        ]
        children.let_go(writers)
        for thread in watching:
            thread.start()
        acknowledged = []
        with writers[0] as writer:
            assert writer.stdout is not None
            for line in writer.stdout:
                acknowledged.append(int(line))
                assert service.get_space("space").revision >= acknowledged[-1]
        others = writers[1].communicate(timeout=120)[0]
        assert [one.wait(120) for one in writers] == [0, 0]
        ended.set()
        for thread in watching:
            thread.join()
        told = [*acknowledged, *map(int, others.split())]
        assert sorted(told) == list(range(1, 2 * count + 1))
        for states in seen:
            assert states
            assert all(revision == labels for revision, labels in states)
            assert all(earlier <= later for earlier, later in pairwise(states))
        assert set(service.score("space", queries(4)).top_labels.ravel()) <= {
            row.name for row in service.list_labels("space")
        }


@pytest.mark.slow  # by default: tests/durability/test_processes.py
def test_a_fork_leaves_connections_to_the_parent(url: str, tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        create(service)
        service.register("space", [label(number) for number in range(8)])
    assert children.run(fork, tmp_path / "home") == ["done"]


def test_a_service_goes_on_when_the_server_comes_back(tmp_path: Path) -> None:
    """Reads and writes say Unavailable while the server is away; nothing is to be restarted."""
    with postgres.server() as server:
        url = server.create("recovered")
        with trustvlm.open(tmp_path / "home", create=True, database_url=url) as service:
            create(service)
            service.register("space", [label(number) for number in range(8)])
            before = service.score("space", queries(4))
            server.kill()
            for _ in range(2):
                with pytest.raises(trustvlm.Unavailable):
                    service.score("space", queries(4))
                with pytest.raises(trustvlm.Unavailable):
                    service.register("space", [label(8)])
            server.start()
            require_equal(service.score("space", queries(4)), before)
            assert service.register("space", [label(8)]).revision == before.revision + 1


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
