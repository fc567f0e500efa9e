"""Every statement of a service at work finds its rows by an index: none reads or sorts a table that
grows with the number of labels.

The statements are those that a service executes while it registers, scores, searches, follows
another process, fits and calibrates; SQLite says how it would run each.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import event
from thresholds import set_thresholds
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries, TrustService
from trustvlm.scoring.rules import RULES
from trustvlm.service.server.server_home import ServerHome

GROWING = ("labels", "supports", "thumbnails", "originals", "changes")
"""Tables that grow with the number of labels."""


class Statements:
    """The different statements that a service executes, each with the values of its first time."""

    def __init__(self, service: TrustService) -> None:
        self.values: dict[str, object] = {}
        event.listen(service._home.catalog._backend.engine, "before_cursor_execute", self._note)

    def _note(self, _: object, __: object, sql: str, values: object, ___: object, m: bool) -> None:
        if re.match(r"SELECT|INSERT|UPDATE|DELETE|WITH", sql):
            given = values[0] if m and isinstance(values, list) else values
            self.values.setdefault(re.sub(r"\(\?(, \?)*\)", "(?)", sql), (sql, given))

    def plans(self, catalog: Path) -> Iterator[tuple[str, str]]:
        """(statement, one step of its plan)."""
        connection = sqlite3.connect(catalog)
        try:
            for sql, values in self.values.values():  # type: ignore[misc]
                for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values):
                    yield sql, str(row[3])
        finally:
            connection.close()


def grows(sql: str, step: str) -> bool:
    """Whether a step of a statement's plan looks at all rows of a growing table, or sorts them."""
    if step.startswith("USE TEMP B-TREE"):
        # A column that looks one row up, as the name of a label by its id, is not what is sorted.
        looked_up = r"\(SELECT \S+\s+FROM \w+\s+WHERE \w+\.id = [^()]*\) AS \w+"
        sorted_from = re.sub(looked_up, "", sql)
        return any(re.search(rf"\b{table}\b", sorted_from) for table in GROWING)
    return re.match(rf"SCAN ({'|'.join(GROWING)})", step) is not None


def work(service: TrustService, other: TrustService, world: World) -> None:
    """Everything that a service with a large space does from day to day."""
    rng = np.random.default_rng(5)

    def new(name: str, images: int) -> LabelInput:
        vectors = rng.normal(size=(images, IMAGE_DIM)) if images else None
        return LabelInput(name, text_vector=rng.normal(size=TEXT_DIM), image_vectors=vectors)

    few = Queries(rng.normal(size=(3, TEXT_DIM)), rng.normal(size=(3, IMAGE_DIM)))

    def ask(rules: Iterable[str] = ("posterior", "knn")) -> None:
        for asking in (service, other):
            for rule in rules:
                verdicts = asking.score("s", few, rule=rule)
            verdicts.evidence(0)

    service.register("s", world.inputs(2))
    ask(RULES)
    images = rng.normal(size=(2, IMAGE_DIM))
    changes: list[Callable[[], object]] = [
        lambda: service.register("s", [new("one", 16)]),
        lambda: service.register("s", [new("two", 0), new("three", 1)]),
        lambda: service.register("s", [LabelInput("one", image_vectors=images)]),
        lambda: service.register("s", [LabelInput("two", image_vectors=images)]),
        lambda: service.add_support("s", "label 4", image_vectors=images[:1]),
        lambda: service.remove_support("s", [service.list_supports("s", "label 5")[0].id]),
        lambda: service.alias("s", "label 6", "label 7"),
        lambda: service.update_label("s", "label 8", new_name="label 8b"),
        lambda: service.remove_label("s", "label 9"),
        lambda: service.restore_label("s", "label 9"),
        lambda: service.unalias("s", "label 6"),
        lambda: other.register("s", [new("four", 3)]),
        lambda: other.remove_label("s", "label 10", purge=True),
    ]
    for change in changes:
        change()
        ask()
    service.score("s", few, labels=["one", "two"])
    for kind in ("support", "prototype"):
        service.search("s", Queries(verifier=few.verifier), kind=kind, k=3)
    service.search("s", Queries(few.classifier), kind="text", k=3)
    names = [row.name for row in service.list_labels("s")]
    labelled = world.queries(1)
    truth = [name if name in names else None for name in world.names]
    service.calibrate("s", labelled, truth)
    service.evaluate("s", labelled, truth)
    ask()
    service.register("s", [new("five", 2)])
    ask()
    service.feedback("s", few, names[:3], sampling="random", promote=True)
    ask()


@pytest.mark.parametrize(
    "fitted", ["by the write", pytest.param("in the background", marks=pytest.mark.slow)]
)
def test_no_statement_reads_or_sorts_all_labels(tmp_path: Path, fitted: str) -> None:
    home = tmp_path / "home"
    if fitted == "in the background":
        set_thresholds(home, fit_on_write_labels=1, fit_in_call_labels=1)
    with trustvlm.open(home, create=True) as service, trustvlm.open(home) as other:
        make_space(service)
        seen = [Statements(one) for one in (service, other)]
        work(service, other, World([f"label {i}" for i in range(40)]))
        seen += [Statements(third := trustvlm.open(home))]
        third.score("s", World(["label 1"]).queries())
        third.close()
    plans = [plan for statements in seen for plan in statements.plans(home / "catalog.sqlite3")]
    assert len({sql for sql, _ in plans}) > 40
    _check(plans)


def test_lists_trash_and_map_are_read_by_an_index(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", World([f"label {i}" for i in range(40)]).inputs(2))
        service.remove_label("s", "label 1")
        service.remove_support("s", [service.list_supports("s", "label 2")[0].id])
        seen, server = Statements(service), ServerHome(service)
        for after in (None, (2, 20)):
            server.label_page_by_images("s", after=after, limit=10, thumbnails=3)
        server.label_records.ranked("s", "errors", start=0, limit=10)
        server.label_records.errors("s", "label 3", 10)
        server.first_supports([2, 3], 4)
        server.get_label("s", "label 3")
        assert len(server.removed_rows("s").removed) == 2
        server.has_classifier_supports("s")
        service.project("s", limit=5)
    plans = list(seen.plans(home / "catalog.sqlite3"))
    assert len({sql for sql, _ in plans}) > 10
    _check(plans)


def _check(plans: list[tuple[str, str]]) -> None:
    growing = {f"{step}: {' '.join(sql.split())}" for sql, step in plans if grows(sql, step)}
    assert not growing, "\n".join(sorted(growing))
