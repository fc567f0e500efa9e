"""What a space has is counted right after every kind of change, by the process that made it and by
others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from raw_sql import run_sql
from worlds import IMAGE_DIM, TEXT_DIM, make_space

import trustvlm
from trustvlm import LabelInput, TrustService
from trustvlm.catalog.rows import counts, spaces
from trustvlm.service.server.server_home import ServerHome

RNG = np.random.default_rng(0)


def label(name: str, supports: int) -> LabelInput:
    return LabelInput(
        name,
        text_vector=RNG.normal(size=TEXT_DIM),
        image_vectors=RNG.normal(size=(supports, IMAGE_DIM)),
    )


STEPS: dict[str, Callable[[TrustService], object]] = {
    "nothing": lambda s: None,
    "labels": lambda s: s.register("s", [label(f"n{i}", i % 3) for i in range(9)]),
    "more labels": lambda s: s.register("s", [label(f"m{i}", i % 2) for i in range(4)]),
    "nothing new": lambda s: s.register("s", []),
    "a label that is removed at once": lambda s: (
        s.register("s", [label("short", 2)]),
        s.remove_label("s", "short"),
    ),
    "a label that is purged at once": lambda s: (
        s.register("s", [label("gone", 2)]),
        s.remove_label("s", "gone", purge=True),
    ),
    "an older label purged, a new one": lambda s: (
        s.remove_label("s", "n2", purge=True),
        s.register("s", [label("new", 1)]),
    ),
    "support images": lambda s: s.add_support(
        "s", "n0", image_vectors=RNG.normal(size=(3, IMAGE_DIM))
    ),
    "one image less": lambda s: s.remove_support("s", [s.list_supports("s", "n0")[0].id]),
    "an alias": lambda s: s.alias("s", "n4", "n5"),
    "an alias of a new label": lambda s: (
        s.register("s", [label("x", 0)]),
        s.alias("s", "x", "m0"),
    ),
    "no alias": lambda s: s.unalias("s", "n4"),
    "a label back": lambda s: s.restore_label("s", "short"),
    "a name": lambda s: s.update_label("s", "n1", new_name="N1"),
    "a purge": lambda s: (s.remove_label("s", "n7"), s.purge(older_than=timedelta(0))),
}


def test_counts_follow_every_change(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service, trustvlm.open(home) as other:
        make_space(service)
        for what, step in STEPS.items():
            step(service)
            rows = list(service.list_labels("s"))
            unverified = sum(row.support_count == 0 and row.alias_of is None for row in rows)
            expected = len(rows), sum(row.support_count for row in rows), unverified
            for looking in (service, other, service):
                space = looking.get_space("s")
                found = (
                    space.label_count,
                    space.support_count,
                    ServerHome(looking).unverified_count("s"),
                )
                assert found == expected, what
                assert list(looking.list_spaces()) == [space]
        assert len(rows) == 14


@pytest.mark.parametrize("limit", [6, 20, 500])
def test_whether_there_are_many_support_images_is_told_from_the_changes(
    tmp_path: Path, limit: int
) -> None:
    """What a process remembers of their number says the truth after every change that does not
    purge."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        before: counts.SupportCount | None = None
        for what, step in STEPS.items():
            step(service)
            live = "SELECT count(*) FROM supports WHERE removed_revision IS NULL"
            ((number,),) = run_sql(tmp_path / "home", live)
            with service._home.catalog.read() as connection:
                space = spaces.find(connection, "s")
                if "purge" in what:
                    before = None
                before = counts.count_supports(connection, space.id, space.revision, limit, before)
            assert before.revision == space.revision
            assert before.least <= number <= before.most
            assert (before.most <= limit) == (number <= limit), what


def test_another_history_counts_anew(tmp_path: Path) -> None:
    """A restored home may be at a revision that was something else before."""
    home, backup = tmp_path / "home", tmp_path / "backup.zip"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", [label("a", 1)])
        service.backup(backup)
        service.register("s", [label("b", 1), label("c", 0)])
        assert service.get_space("s").label_count == 3
    trustvlm.restore(backup, home, replace=True)
    with trustvlm.open(home) as service:
        assert service.get_space("s").label_count == 1
        service.register("s", [label("d", 2)])
        assert (service.get_space("s").label_count, service.get_space("s").support_count) == (2, 3)


def test_pages_and_counts_read_the_indexes_alone(tmp_path: Path) -> None:
    """At a million labels of 768 dimensions the rows are gigabytes; a page may look at its own rows
    and no others."""
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", [label(f"n {i:04d}", 0) for i in range(3_000)])
        statements: list[tuple[str, object]] = []
        from sqlalchemy import event

        def note(_: object, __: object, statement: str, parameters: object, *___: object) -> None:
            statements.append((statement, parameters))

        event.listen(service._home.catalog._backend.engine, "before_cursor_execute", note)
        server = ServerHome(service)
        assert len(server.label_page("s", limit=10)) == 10
        assert [row.name for row, _ in server.label_page("s", after="n 2997", limit=10)] == [
            "n 2998",
            "n 2999",
        ]
        assert len(server.label_page("s", prefix="n 20", limit=10)) == 10
        assert len(server.label_page("s", contains="999", limit=10)) == 3
        assert service.get_space("s").label_count == server.unverified_count("s") == 3_000
        assert len(server.label_page_by_id("s", after=1_000, limit=10)) == 10
        assert sum(1 for _ in service.list_labels("s")) == 3_000
    with sqlite3.connect(home / "catalog.sqlite3") as connection:
        plans = [
            (statement, str(row[3]))
            for statement, parameters in statements
            if " labels" in statement
            for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[arg-type]
        ]
    assert len(plans) >= 6
    used = {plan for _, plan in plans if plan.startswith(("SEARCH", "SCAN"))}
    for plan in used:
        assert "ix_labels_space_id_revision" not in plan, plan
        assert not plan.startswith("SCAN"), plan
    assert any("ix_labels_space_id_support_count" in plan for plan in used)
    assert sum("ix_labels_space_id_id" in plan for _, plan in plans) >= 5, plans  # a page each
    by_id = [plan for statement, plan in plans if "IN (" in statement]
    assert by_id
    # Each row's attributes and parent are looked up by its id.
    looked_up = ("PRIMARY KEY", "INDEX sqlite_autoindex_", "(label_id=?)")
    for plan in by_id:
        if plan.startswith("SEARCH"):
            assert any(how in plan for how in looked_up), plan
