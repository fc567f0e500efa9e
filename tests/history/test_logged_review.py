"""Answers of the log in the review queue: a person finds their images by name, and the monitor
compares the answers with the promise."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cli_runner import Cli
from served_client import application, client_of
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries, TrustService

pytestmark = pytest.mark.both_back_ends(slow=True)

NAMES = ["airport", "beach", "bridge", "desert"]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TrustService]:
    """An open home with the space "s": calibrated, and with a log of 30 answers, of which 10 have
    no names, and of one about a claim."""
    with trustvlm.open(tmp_path / "home", create=True) as made:
        make_space(made)
        made.register("s", World(NAMES).inputs(3))
        queries, truth = images_of(World(NAMES), 200, 1, noise=2)
        assert not made.calibrate("s", queries, truth, max_risk=0.2).failed
        made.verdict_log("s").switch(True)
        some = images_of(World(NAMES), 30, 7, noise=2)[0]
        names = [None if i < 10 else f"s3://b/{i}.png" for i in range(30)]
        made.score("s", replace(some, sources=names))
        one = Queries(some.classifier[:1], some.verifier[:1], claimed=["beach"], sources=["c"])
        made.score("s", one)
        yield made


def test_a_sample_is_watched_by_the_monitor_and_calibrates_nothing(service: TrustService) -> None:
    queue = service.review("s")
    added = queue.add_logged(sample=12)
    assert (added.added, added.chosen, added.unnamed) == (12, 12, 10)
    assert queue.add_logged(sample=12).added == 0
    logged = {row.id: row for row in service.verdict_log("s").page().verdicts}
    items = queue.items(tray="sample").items
    assert len(items) == 12
    for item in items:
        row = logged[item.logged_id or 0]
        assert (item.source, item.predicted, item.probability) == (
            row.source, row.label, row.probability
        )  # fmt: skip
    assert all(not item.has_picture and item.source for item in items)
    question = queue.question(items[0].id)
    assert (question.choices, question.evidence.label) == ((items[0].predicted,), ())
    before = service.count_observations("s")
    with pytest.raises(trustvlm.InvalidInput, match="the log of answers, which holds no images"):
        queue.answer(items[0].id, NAMES[0], use_as_support=True)
    with pytest.raises(trustvlm.NotFound, match="did you mean 'beach'"):
        queue.answer(items[0].id, "beech")
    for item in items:
        wrong = next(name for name in NAMES if name != item.predicted)
        queue.answer(item.id, wrong)
    accepted = sum(item.decision == "accept" for item in items)
    assert accepted
    report = service.monitor("s")
    assert (report.items, report.errors) == (accepted, accepted)
    queue.undo(items[0].id)
    queue.answer(items[0].id, items[0].predicted)
    errors = accepted - (items[0].decision == "accept")
    assert service.monitor("s").errors == errors
    counts = service.count_observations("s")
    assert (counts.random - before.random, counts.usable) == (12, before.usable)
    service.recalibrate("s")
    assert not service.verify().damage


@pytest.mark.both_back_ends
def test_the_newest_that_were_not_accepted(service: TrustService) -> None:
    queue = service.review("s")
    rows = [row for row in service.verdict_log("s").page().verdicts if row.claimed is None]
    refused = [row for row in rows if row.source and row.decision != "accept"]
    accepted = [row for row in rows if row.source and row.decision == "accept"]
    assert refused
    assert accepted
    assert queue.add_logged(limit=1).added == 1
    first = queue.items().items[0]
    assert (first.tray, first.logged_id) == ("review", refused[0].id)
    assert queue.add_logged().added == len(refused) - 1
    label = accepted[0].label
    done = queue.add_logged(decision="accept", label=label)
    assert done.added == sum(row.label == label for row in accepted)
    queue.answer(first.id, None)
    assert service.count_observations("s").chosen == 1
    new = images_of(World(NAMES), 1, 9)[0]
    service.score("s", new, review=True)  # images that wait beside these are still compared
    service.feedback("s", images_of(World(NAMES), 2, 10)[0], [NAMES[0], NAMES[1]], promote=True)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"sample": 3, "limit": 3}, "sample, limit: a sample stands for all answers"),
        ({"sample": 3, "label": "beach"}, "sample, label"),
        ({"seed": 3}, "seed: expected a sample beside it"),
        ({"sample": 0}, "sample: expected a whole number"),
        ({"decision": "no"}, "decision: expected one of accept"),
        ({"since": "yesterday"}, "since: expected a datetime"),
    ],
)
def test_what_cannot_be_chosen(service: TrustService, wrong: dict[str, object], match: str) -> None:
    with pytest.raises(trustvlm.InvalidInput, match=match):
        service.review("s").add_logged(**wrong)  # type: ignore[arg-type]


def test_over_http_and_on_the_command_line(service: TrustService, tmp_path: Path) -> None:
    service.close()
    home = tmp_path / "home"
    with application(home) as app, client_of(app) as client:
        log = client.verdict_log("s").page(limit=1).verdicts
        done = client.review("s").add_logged(sample=5, since=log[0].at)
        assert (done.added, done.unnamed) == (0, 0)  # the answer about the claim
        assert client.review("s").add_logged(sample=5).added == 5
        with pytest.raises(trustvlm.InvalidInput, match="sample, limit"):
            client.review("s").add_logged(sample=5, limit=5)
        again = app.state.serving.service.review("s").items().items
        assert client.review("s").items().items == again
    cli = Cli(home)
    said = cli("review", "add-logged", "s", "--sample", "10", "--seed", "3")
    assert len(cli.rows("review", "list", "s")) == 5 + int(said.split()[0])
    assert "find the image by its name" in cli("review", "next", "s")
    assert '"unnamed": 10' in cli("review", "add-logged", "s", "--sample", "10", "--json")
