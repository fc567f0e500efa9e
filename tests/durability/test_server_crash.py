"""Clients of a catalog in PostgreSQL that are killed at every named step of a change, and a server
that is killed under registrations: what was acknowledged is there, and nothing else."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import children
import numpy as np
import postgres
import pytest
from numbered import CATALOG, create, label, queries, text, vectors

import trustvlm
from trustvlm import Queries, TrustService
from trustvlm.catalog.store.location import FileLocation, parse
from trustvlm.catalog.upkeep.copy_tables import copy_tables
from trustvlm.service.server.server_home import ServerHome

DERIVED = ("fits", "clock_stamps", "catalog_state", "alembic_version", "api_keys")
"""Tables that hold what can be computed again, or what no two runs have alike."""

CHANGES = [
    "space.create",
    "space.remove",
    "space.restore",
    "space.recipe",
    "label.update",
    "label.remove",
    "label.restore",
    "label.alias",
    "label.unalias",
    "register",
    "support.remove",
    "support.restore",
    "support.update",
    "support.keep",
    "support.move",
    "space.attribute",
    "label.parent",
    "purge",
    "fit",
    "calibrate",
    "calibration.remove",
    "feedback",
    "promote",
    "review",
    "verdict_log",
]
"""What STEPS make, one after the other."""

POINTS = [f"{change}.{step}" for change in CHANGES for step in ("written", "committed")]


def images(count: int) -> tuple[Queries, list[str]]:
    """Images of the labels 0 to 9 that their text gives away."""
    numbers = np.arange(count) % 10
    classifier = np.array([text(number) for number in numbers])
    given = Queries(classifier + 0.1 * vectors(9, n=count, dim=32), vectors(8, n=count, dim=64))
    return given, [label(number).name for number in numbers]


def first_support(service: TrustService) -> list[int]:
    return [service.list_supports("space", label(3).name)[0].id]


def removed_support(service: TrustService) -> list[int]:
    rows = ServerHome(service).removed_rows("space").removed
    return [row.id for row in rows if row.kind == "support"]


def calibration(service: TrustService) -> int:
    return service.list_calibrations("space")[0].id


STEPS: tuple[Callable[[TrustService], Any], ...] = (
    create,
    lambda s: s.register("space", [label(number) for number in range(10)]),
    lambda s: s.update_label("space", label(1).name, new_name="renamed"),
    lambda s: s.remove_label("space", label(2).name),
    lambda s: s.restore_label("space", label(2).name),
    lambda s: s.remove_support("space", first_support(s)),
    lambda s: s.restore_support("space", removed_support(s)),
    lambda s: s.update_support("space", first_support(s)[0], attributes={"season": "summer"}),
    lambda s: s.index_attribute("space", "season"),
    lambda s: s.keep_support("space", first_support(s)),
    lambda s: s.move_support("space", first_support(s), label(5).name),
    lambda s: s.set_parents("space", {label(3).name: "node"}),
    lambda s: s.alias("space", label(4).name, label(5).name),
    lambda s: s.unalias("space", label(4).name),
    lambda s: s.rebuild_index("space", recipe="flat-fp16"),
    lambda s: s.update_label("space", "renamed", new_name=label(1).name),
    lambda s: s.calibrate("space", *images(200), rule="msp", max_risk=0.2),
    lambda s: s.feedback("space", *images(20), sampling="random"),
    lambda s: s.feedback("space", *images(1), promote=True),
    lambda s: s.remove_calibration("space", calibration(s)),
    lambda s: s.review("space").collect(True),
    lambda s: s.verdict_log("space").switch(True),
    lambda s: s.remove_space("space"),
    lambda s: s.restore_space("space"),
    lambda s: s.register("space", [label(number) for number in range(10, 80)]),
    lambda s: s.remove_label("space", label(20).name),
    lambda s: s.purge(older_than=timedelta(0)),
)


# Children


def tour(home: str, first: str) -> None:
    """Do the steps from `first` on; tell the number of each that is acknowledged."""
    with trustvlm.open(home, create=True) as service:
        for number, step in enumerate(STEPS[int(first) :], int(first)):
            step(service)
            children.tell(str(number))


def register_until_told(home: str, first: str, count: str) -> None:
    """Register labels one by one, each until it is acknowledged, however often the server is
    away; tell each."""
    with trustvlm.open(home, create=True) as service:
        children.together()
        for number in range(int(first), int(first) + int(count)):
            while True:
                try:
                    service.register("space", [label(number, supports=2)])
                    break
                except trustvlm.Unavailable:
                    children.tell("away")
            children.tell(str(number))


# Tests


def rows(url: str) -> dict[str, list[str]]:
    """Every row of every table but the derived ones, without times and the secret of a draw."""
    import psycopg

    with psycopg.connect(url, options="-c search_path=trustvlm") as connection:
        columns = connection.execute(
            "SELECT table_name, string_agg(quote_ident(column_name), ', ' ORDER BY "
            "ordinal_position) FROM information_schema.columns WHERE table_schema = 'trustvlm' "
            "AND data_type <> 'timestamp without time zone' AND column_name <> 'seed' "
            "GROUP BY table_name"
        ).fetchall()
        return {
            table: sorted(map(repr, connection.execute(f"SELECT {names} FROM {table}".encode())))
            for table, names in columns
            if table not in DERIVED
        }


def require_sound(url: str, folder: Path) -> None:
    """A copy of the catalog in a file is without damage."""
    copy_tables(parse(url), FileLocation(folder / CATALOG))
    with trustvlm.open(folder, database_url=f"sqlite:///{folder / CATALOG}") as service:
        report = service.verify()
        assert report.clean, report


@pytest.fixture(scope="module")
def states(
    postgres_server: postgres.Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[dict[str, list[str]]]]:
    """The rows before the first step, and after each."""
    url = postgres_server.create("undisturbed", "head")
    made = [rows(url)]
    home = tmp_path_factory.mktemp("undisturbed")
    with trustvlm.open(home, create=True, database_url=url) as service:
        for step in STEPS:
            step(service)
            made.append(rows(url))
    yield made
    postgres_server.drop("undisturbed")


@pytest.fixture
def struck(postgres_server: postgres.Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of an empty catalog, also of children's homes."""
    url = postgres_server.create("struck", "head")
    monkeypatch.setenv("TRUSTVLM_DATABASE_URL", url)
    yield url
    postgres_server.drop("struck")


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_client_is_killed_at_a_step(
    point: str,
    states: list[dict[str, list[str]]],
    struck: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before its commit a change has done nothing; after it, everything; and the next client does
    the rest."""
    with monkeypatch.context() as fault:
        fault.setenv("TRUSTVLM_FAULT", f"{point}:1:kill")
        child = children.start(tour, tmp_path / "home", 0)
        told = child.communicate(timeout=300)[0].split()
    assert child.returncode == -signal.SIGKILL
    done = len(told) + point.endswith(".committed")
    found = rows(struck)
    if point.startswith("fit."):  # in the background, and not among the rows that are compared
        assert found in states[len(told) : len(told) + 2]
    elif point.startswith("purge."):  # of several transactions
        assert found["labels"] in [one["labels"] for one in states[len(told) :]]
    else:
        expected = states[done]
        if point == "promote.written":  # all but the mark that it became a support image
            expected = states[done + 1] | {"observations": found["observations"]}
            assert len(found["observations"]) == len(states[done + 1]["observations"])
        assert found == expected
        rest = children.run(tour, tmp_path / "home", done)
        assert len(rest) == len(STEPS) - done
    require_sound(struck, tmp_path / "copy")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kills", [6])
def test_the_server_is_killed_under_registrations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kills: int
) -> None:
    """Two clients register; the server is killed again and again. They go on by themselves; in the
    end every acknowledged label is there, once, and no other."""
    count = 60
    with postgres.server() as server:
        url = server.create("catalog")
        monkeypatch.setenv("TRUSTVLM_DATABASE_URL", url)
        with trustvlm.open(tmp_path / "home", create=True) as service:
            create(service)
        clients = [
            children.start(register_until_told, tmp_path / f"node {i}", 1_000 * i, count)
            for i in range(2)
        ]
        children.let_go(clients)
        away = 0
        for told in interleaved(clients):
            if told and told % (2 * count // (kills + 1)) == 0:
                server.kill()
                away += 1
                server.start()
        assert away >= kills
        assert [one.wait(60) for one in clients] == [0, 0]
        for one in clients:
            one.communicate()
        with trustvlm.open(tmp_path / "home") as service:
            expected = [label(1_000 * i + n).name for i in range(2) for n in range(count)]
            stored = list(service.list_labels("space"))
            assert sorted(row.name for row in stored) == sorted(expected)
            assert {row.support_count for row in stored} == {2}
            assert service.get_space("space").support_count == 2 * len(expected)
            assert len(service.score("space", queries(4))) == 4
        require_sound(url, tmp_path / "copy")


def interleaved(clients: list[Any]) -> Iterator[int]:
    """How many labels are acknowledged, each time that one client tells of another."""
    import selectors

    waiting = selectors.DefaultSelector()
    for one in clients:
        os.set_blocking(one.stdout.fileno(), True)
        waiting.register(one.stdout, selectors.EVENT_READ)
    acknowledged = 0
    while waiting.get_map():
        for key, _ in waiting.select(timeout=120):
            told = os.read(key.fd, 1 << 16)
            if not told:
                waiting.unregister(key.fileobj)
            for line in told.split():
                if line != b"away":
                    acknowledged += 1
                    yield acknowledged


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
