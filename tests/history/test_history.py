"""What happened to a space, when and by whom; and a copy elsewhere that follows its changes."""

from __future__ import annotations

import getpass
import random
import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from http_service import served
from served_client import application, client_of
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import InvalidInput, LabelInput, NotFound
from trustvlm.catalog.rows.history import revisions

pytestmark = pytest.mark.both_back_ends(slow=True)

NAMES = ["airport", "beach", "bridge", "desert"]


@pytest.fixture
def named(tmp_path: Path) -> Any:
    """An open home whose changes are made by Anna, with the space "s" of four labels."""
    with trustvlm.open(tmp_path / "home", create=True, author="Anna") as service:
        make_space(service)
        service.register("s", World(NAMES).inputs(2))
        yield service


def test_each_change_says_when_by_whom_and_how_much(named: trustvlm.TrustService) -> None:
    before = datetime.now(UTC) - timedelta(seconds=60)
    first = [row.id for row in named.list_supports("s", "airport")]
    named.remove_support("s", first[:1])
    named.restore_support("s", first[:1])
    named.update_label("s", "desert", new_name="dune")
    named.alias("s", "dune", of="beach")
    named.unalias("s", "dune")
    named.remove_label("s", "bridge")
    named.restore_label("s", "bridge")
    rows = list(named.history("s"))
    assert [(row.action, row.labels, row.supports) for row in rows] == [
        ("register", 4, 8),
        ("support.remove", 0, 1),
        ("support.restore", 0, 1),
        ("label.update", 1, 0),
        ("label.alias", 1, 0),
        ("label.unalias", 1, 0),
        ("label.remove", 1, 2),
        ("label.restore", 1, 2),
    ]
    assert [row.revision for row in rows] == list(range(1, 9))
    assert {row.author for row in rows} == {"Anna"}
    assert all(before < row.at < before + timedelta(hours=1) for row in rows)
    assert [row.revision for row in named.history("s", since=6)] == [7, 8]
    assert list(named.history("s", since=8)) == []


def test_bad_questions_are_refused(named: trustvlm.TrustService) -> None:
    with pytest.raises(NotFound, match="no space 'other'"):
        named.history("other")
    for wrong in (-1, True, "1", 2**63):
        with pytest.raises(InvalidInput, match="since: expected a whole number"):
            named.history("s", since=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="limit: expected a whole number from 1 to 10000"):
        named.changes("s", limit=0)
    for cursor in ("", "7", "1-label-x", "1-image-2", 5):
        with pytest.raises(InvalidInput, match="cursor: expected the next_cursor of a page"):
            named.changes("s", cursor=cursor)  # type: ignore[arg-type]


@pytest.mark.parametrize("author", ["", "x" * 201, "two\nlines", 7])
def test_an_author_is_a_short_text(tmp_path: Path, author: Any) -> None:
    with pytest.raises(InvalidInput, match="author: expected 1 to 200 printable characters"):
        trustvlm.open(tmp_path / "home", create=True, author=author)


class Copy:
    """What a program elsewhere holds of a space, from pages of changes only."""

    def __init__(self, service: Any, limit: int) -> None:
        self.service, self.limit = service, limit
        self.since, self.labels, self.supports = 0, dict[int, str](), dict[int, int]()

    def follow(self) -> None:
        cursor, revision = None, None
        while True:
            page = self.service.changes("s", self.since, limit=self.limit, cursor=cursor)
            assert page.complete
            assert len(page.changes) <= self.limit
            revision = page.revision if revision is None else revision
            for row in page.changes:
                kept: dict[int, Any] = self.labels if row.kind == "label" else self.supports
                if row.change in ("removed", "purged"):
                    kept.pop(row.id, None)
                else:
                    kept[row.id] = row.label if row.kind == "label" else row.label_id
            cursor = page.next_cursor
            if cursor is None:
                break
        self.since = revision or 0

    def check(self) -> None:
        rows = list(self.service.list_labels("s"))
        assert self.labels == {row.id: row.name for row in rows}
        owners = {row.name: row.id for row in rows}
        images = [image for name in owners for image in self.service.list_supports("s", name)]
        assert set(self.supports) == {image.id for image in images}


def test_the_documented_program_follows(named: trustvlm.TrustService) -> None:
    page = (Path(__file__).parents[2] / "docs" / "history.md").read_text(encoding="utf-8")
    block = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert block is not None
    names: dict[str, Any] = {}
    exec(block[1], names)
    copy: dict[str, Any] = {"since": 0, "labels": {}}

    def check() -> None:
        names["follow"](named, "s", copy)
        assert copy["labels"] == {row.id: row.name for row in named.list_labels("s")}

    check()
    named.update_label("s", "desert", new_name="dune")
    named.remove_label("s", "beach", purge=True)
    check()
    ids = [
        row.id for name in ("airport", "bridge", "dune") for row in named.list_supports("s", name)
    ]
    vectors = {number: np.arange(8) + number for number in ids}
    named.reembed_space("s", verifier="precomputed:8", image_vectors=vectors)
    check()


@pytest.mark.both_back_ends
@pytest.mark.parametrize("limit", [1, pytest.param(3, marks=pytest.mark.slow), 1_000])
def test_a_copy_that_follows_has_what_the_space_has(
    named: trustvlm.TrustService, limit: int
) -> None:
    draw, rng = random.Random(limit), np.random.default_rng(limit)
    copy, removed = Copy(named, limit), list[str]()

    def register() -> None:
        name = f"label {draw.randrange(10**6)}"
        images = rng.normal(size=(draw.randrange(3), IMAGE_DIM))
        vector = rng.normal(size=TEXT_DIM)
        named.register("s", [LabelInput(name, text_vector=vector, image_vectors=images)])

    def remove_label() -> None:
        if names := [row.name for row in named.list_labels("s")]:
            removed.append(draw.choice(names))
            named.remove_label("s", removed[-1])

    def restore_label() -> None:
        if removed:
            named.restore_label("s", removed.pop())

    def remove_support() -> None:
        names = [row.name for row in named.list_labels("s")]
        images = [image.id for name in names for image in named.list_supports("s", name)]
        if images:
            named.remove_support("s", draw.sample(images, 1))

    def purge() -> None:
        named.purge(older_than=timedelta(0))
        removed.clear()

    for step in range(15):
        draw.choice([register, register, remove_label, restore_label, remove_support, purge])()
        if step % 3 == 0:
            copy.follow()
            copy.check()
    copy.follow()
    copy.check()


def test_another_parent_is_a_change_of_the_label(named: trustvlm.TrustService) -> None:
    since = named.get_space("s").revision
    named.set_parents("s", {"airport": "travel", "beach": "nature", "travel": "all"})
    (one, two), revision = named.changes("s", since).changes, since + 1
    for row, label in ((one, "airport"), (two, "beach")):
        assert (row.kind, row.change, row.label) == ("label", "changed", label)
        assert (row.revision, row.action, row.author) == (revision, "label.parent", "Anna")
    named.set_parents("s", {"airport": None})
    named.update_label("s", "beach", attributes={"coast": True})
    first = named.changes("s", since, limit=2)
    rest = named.changes("s", since, cursor=first.next_cursor)
    seen = [(row.label, row.revision - since) for row in (*first.changes, *rest.changes)]
    assert seen == [("beach", 1), ("airport", 2), ("beach", 3)]
    assert rest.next_cursor is None
    named.remove_label("s", "airport")
    assert named.changes("s", since + 3).changes[0].change == "removed"


def test_what_is_purged_has_no_name_left(named: trustvlm.TrustService) -> None:
    named.remove_label("s", "bridge", purge=True)
    changed = named.changes("s", 1).changes
    assert {(row.kind, row.change, row.label) for row in changed} == {
        ("label", "purged", None),
        ("support", "purged", None),
    }
    assert "bridge" not in repr([*named.history("s"), *changed])


def test_a_re_embedded_space_keeps_its_history_and_has_another_epoch(
    named: trustvlm.TrustService,
) -> None:
    world, before = World(NAMES), named.changes("s")
    ids = [row.id for name in NAMES for row in named.list_supports("s", name)]
    named.reembed_space(
        "s",
        verifier="precomputed:8",
        image_vectors={number: np.arange(8) + number for number in ids},
    )
    rows, after = list(named.history("s")), named.changes("s")
    assert [row.action for row in rows] == ["register", "reembed.cut_over"]
    assert after.epoch != before.epoch
    assert {row.label for row in after.changes if row.kind == "label"} == set(world.names)
    named.restore_space("s")
    assert [row.action for row in named.history("s")][:2] == ["register", "reembed.cut_over"]
    assert [row.revision for row in named.history("s")] == sorted(
        {row.revision for row in named.history("s")}
    )
    assert named.changes("s").epoch == before.epoch


def test_a_calibration_names_its_author(named: trustvlm.TrustService) -> None:
    world = World(NAMES)
    truth = [name for name in NAMES for _ in range(3)]
    made = named.calibrate("s", world.queries(3), truth, max_risk=0.5)
    assert made.author == "Anna"
    assert [row.author for row in named.list_calibrations("s")] == ["Anna"]


def test_a_request_is_made_by_its_key(tmp_path: Path) -> None:
    with served(tmp_path / "home", require_key=True) as http:
        make_space(http.service)
        row, key = http.serving.home.create_key("write")
        label = {"name": "sea", "text_vector": [1.0] * TEXT_DIM}
        where = "/v1/spaces/s"
        http.ask("POST", f"{where}/labels", key=key, json={"labels": [label]})
        page = http.ask("GET", f"{where}/history", key=key).json()
        assert [one["author"] for one in page["revisions"]] == [row.id]
        assert page["next_since"] is None
        drawn = np.random.default_rng(0)
        body = {
            "classifier": drawn.normal(size=(40, TEXT_DIM)).tolist(),
            "verifier": drawn.normal(size=(40, IMAGE_DIM)).tolist(),
        } | {"truth": ["sea"] * 40, "rule": "msp"}
        where_to = f"{where}/calibrate"
        begun = http.ask("POST", where_to, key=key, status=202, json=body).json()
        for _ in range(400):
            job = http.ask("GET", f"/v1/jobs/{begun['id']}", key=key).json()
            if job["state"] in ("done", "failed"):
                break
            time.sleep(0.05)
        assert job["state"] == "done", job
        assert job["result"]["author"] == row.id
        for query in ("since=-1", "limit=0", "limit=10001", "since=x"):
            http.ask("GET", f"{where}/history?{query}", key=key, status=422)
            http.ask("GET", f"{where}/changes?{query}", key=key, status=422)


def test_the_client_reads_what_the_library_reads(tmp_path: Path) -> None:
    with application(tmp_path / "home") as app, client_of(app) as client:
        service = app.state.serving.service
        make_space(service)
        for label in World(NAMES).inputs(1):
            service.register("s", [label])
        assert list(client.history("s", 1)) == list(service.history("s", 1))
        first = client.changes("s", 1, limit=4)
        assert first == service.changes("s", 1, limit=4)
        rest = client.changes("s", 1, cursor=first.next_cursor)
        assert first.changes + rest.changes == service.changes("s", 1).changes
        with pytest.raises(NotFound, match="no space 'other'"):
            client.history("other")


def test_the_command_line_names_its_user(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    cli.run("space", "create", "s", "--classifier", "precomputed:2")
    vectors = tmp_path / "labels.npz"
    np.savez(vectors, label_names=np.array(["sea", "sand"]), text_vectors=np.eye(2))
    cli.run("register", "s", "--vectors", vectors)
    rows = cli.rows("space", "history", "s")
    assert [(row["revision"], row["author"], row["action"]) for row in rows] == [
        (1, getpass.getuser(), "register")
    ]
    shown = cli.run("space", "changes", "s", "--since", 0)
    assert "sea" in shown.output
    assert "--since 1" in shown.output


@pytest.mark.both_back_ends
def test_the_log_keeps_the_newest_revisions(named: trustvlm.TrustService) -> None:
    catalog = named._home.catalog
    with catalog.write("repair") as connection:
        space = next(iter(named.list_spaces())).id
        for revision in (2, 3, revisions.KEPT + 2, revisions.KEPT + 1_000):
            revisions.record(connection, space, revision, 0, 0, "verdicts")
    kept = [row.revision for row in named.history("s")]
    assert kept == [revisions.KEPT + 2, revisions.KEPT + 1_000]
