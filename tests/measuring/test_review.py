"""The review queue: what is collected, within which bounds, what answers store, and that they can
be taken back."""

from __future__ import annotations

import math
import threading
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from back_ends import BackEnd
from raw_sql import run_sql
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries, TrustService
from trustvlm.types.review import ReviewItem

pytestmark = pytest.mark.both_back_ends(slow=True)

NAMES = ["airport", "beach", "bridge", "desert", "forest", "harbour"]
SEED = b"a fixed test key"


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a calibrated space "s", whose random draw is fixed."""
    home = tmp_path_factory.mktemp("review") / "home"
    world = World(NAMES)
    queries, truth = images_of(world, 300, 1, noise=1.5)
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
        assert not service.calibrate("s", queries, truth, max_risk=0.05).failed
        service.review("s").collect(False)
    run_sql(home, "UPDATE review_states SET seed = ?", SEED)
    return home


@pytest.fixture
def home(calibrated: Path, back_end: BackEnd, tmp_path: Path) -> Path:
    return back_end.copied(calibrated, tmp_path / "home")


def incoming(count: int, seed: int = 7) -> Queries:
    return images_of(World(NAMES), count, seed, noise=1.6)[0]


def waiting(service: TrustService, tray: str | None = None) -> tuple[ReviewItem, ...]:
    return service.review("s").items(tray=tray, limit=100_000).items


def supports(service: TrustService, label: str) -> int:
    return len(list(service.list_supports("s", label)))


@pytest.mark.only_sqlite("compares the bytes of the file")
def test_nothing_is_stored_unless_it_is_asked_for(home: Path) -> None:
    with trustvlm.open(home) as service:
        before = home.joinpath("catalog.sqlite3").read_bytes()
        service.score("s", incoming(50))
        assert waiting(service) == ()
        assert service.review("s").next() is None
        status = service.review("s").status()
        assert (status.collecting, status.share, status.limit) == (False, 0.02, 10_000)
    assert home.joinpath("catalog.sqlite3").read_bytes() == before


def test_the_draw_does_not_look_at_the_verdict(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of accepted and of other verdicts the same share is drawn, within the binomial bound at four
    standard deviations; and an image that comes again is drawn again, or again not."""
    monkeypatch.setenv("TRUSTVLM_REVIEW_SHARE", "0.2")
    queries = incoming(2_000)
    with trustvlm.open(home) as service:
        verdicts = service.score("s", queries, review=True)
        decisions = Counter(verdicts.decision.tolist())
        drawn = Counter(item.decision for item in waiting(service, "sample"))
        assert len([name for name in decisions if decisions[name] > 300]) >= 2, decisions
        for name, number in decisions.items():
            spread = 4 * math.sqrt(number * 0.2 * 0.8)
            assert abs(drawn[name] - 0.2 * number) <= spread, (name, drawn[name], number)
        review = waiting(service, "review")
        assert {item.decision for item in review} <= {"review", "unknown"}
        assert len(review) + drawn.total() == drawn["accept"] + len(verdicts) - decisions["accept"]
        before = waiting(service)
        service.score("s", queries, review=True)
        service.score("s", Queries(queries.classifier[::-1], queries.verifier[::-1]), review=True)
        assert waiting(service) == before


@pytest.mark.both_back_ends
def test_the_queue_is_bounded_and_the_sample_is_never_dropped(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTVLM_REVIEW_ITEMS", "60")
    monkeypatch.setenv("TRUSTVLM_REVIEW_SHARE", "0.1")
    with trustvlm.open(home) as service:
        for seed in range(4):
            service.score("s", incoming(200, seed), review=True)
            sample, newest = waiting(service, "sample"), waiting(service, "review")
            assert len(sample) + len(newest) <= 60
            assert {item.id for item in sample[: 10 * seed]} <= {item.id for item in sample}
        assert len(waiting(service)) == 60
        for item in newest[:3]:
            service.review("s").skip(item.id)
        assert service.review("s").status().missed == 0 or len(sample) == 60
    monkeypatch.setenv("TRUSTVLM_REVIEW_SHARE", "1")
    with trustvlm.open(home) as service:
        service.score("s", incoming(100, 9), review=True)
        status = service.review("s").status()
        assert [tray.open for tray in status.trays] == [0, 60, 0]
        assert status.missed > 0
        first = waiting(service)
        service.score("s", incoming(100, 10), review=True)
        assert waiting(service) == first
        assert service.review("s").status().missed == status.missed + 100


def test_answers_store_feedback_and_can_be_taken_back(home: Path) -> None:
    queries = incoming(400)
    with trustvlm.open(home) as service:
        service.score("s", queries, review=True)
        review, counts = service.review("s"), service.count_observations("s")
        (chosen, *_), (drawn, *_) = waiting(service, "review"), waiting(service, "sample")
        question = review.next(tray="review")
        assert question is not None
        assert question.item == chosen
        assert question == review.question(chosen.id)
        assert question.choices[0] == chosen.predicted
        assert len(set(question.choices)) == len(question.choices) == 5
        assert len(question.evidence.label) == 3
        answered = review.answer(chosen.id, "beach")
        assert (answered.state, answered.truth, answered.support_id) == ("answered", "beach", None)
        assert review.answer(chosen.id, "beach") == answered
        assert review.answer(drawn.id, None).truth is None
        with pytest.raises(trustvlm.Conflict, match=r"answered already: 'beach'.*review undo"):
            review.answer(chosen.id, "bridge")
        with pytest.raises(trustvlm.Conflict, match="none of the labels"):
            review.answer(drawn.id, "bridge")
        with pytest.raises(trustvlm.Conflict, match="is answered"):
            review.skip(chosen.id)
        now = service.count_observations("s")
        assert (now.chosen, now.random) == (counts.chosen + 1, counts.random + 1)
        assert review.next(tray="review") != question
        assert review.undo(chosen.id) == chosen
        assert review.undo(chosen.id) == chosen
        review.undo(drawn.id)
        assert service.count_observations("s") == counts
        assert waiting(service)[0] in (chosen, drawn)
        skipped = review.skip(chosen.id)
        assert skipped.state == "skipped"
        assert chosen.id not in {item.id for item in waiting(service)}
        assert review.undo(chosen.id) == chosen


def test_no_one_is_asked_what_is_known(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An image of stored feedback waits only where it is drawn at random."""
    queries = incoming(6)
    for share, trays in ((0, {"review": 5}), (1, {"review": 5, "sample": 6})):
        monkeypatch.setenv("TRUSTVLM_REVIEW_SHARE", str(share))
        with trustvlm.open(home) as service:
            service.feedback("s", Queries(queries.classifier[:1], queries.verifier[:1]), "forest")
            service.score("s", queries, rule="msp", review=True)
            assert {tray: len(waiting(service, tray)) for tray in trays} == trays


def test_an_answer_about_an_image_that_was_told_before_is_undone_to_what_was_told(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTVLM_REVIEW_SHARE", "1")
    queries = incoming(1)
    rows = "SELECT origin, sampling, truth, trust, accepted FROM observations ORDER BY id DESC"
    with trustvlm.open(home) as service:
        service.feedback("s", queries, "forest", sampling="random")
        before = run_sql(home, rows)
        service.score("s", queries, review=True)
        (item,) = waiting(service)
        service.review("s").answer(item.id, "beach", use_as_support=True)
        assert run_sql(home, rows)[0][2] == "beach"
        service.review("s").undo(item.id)
        assert run_sql(home, rows) == before
        service.review("s").answer(item.id, "beach")
        service.feedback("s", queries, "desert", sampling="random")
        service.review("s").undo(item.id)  # what was told later is not the answer's to take back
        assert run_sql(home, rows)[0][2] == "desert"


def test_an_answer_makes_a_support_image(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.score("s", incoming(30), review=True)
        review, item = service.review("s"), waiting(service)[0]
        before = supports(service, "beach")
        with pytest.raises(trustvlm.InvalidInput, match="needs a label"):
            review.answer(item.id, None, use_as_support=True)
        with pytest.raises(trustvlm.NotFound, match="beech"):
            review.answer(item.id, "beech", use_as_support=True)
        assert waiting(service)[0] == item
        answered = review.answer(item.id, "beach", use_as_support=True)
        assert answered.use_as_support
        assert supports(service, "beach") == before + 1
        again = review.answer(item.id, "beach", use_as_support=True)
        assert again == replace(answered, taught=None)
        assert review.undo(item.id) == item
        assert supports(service, "beach") == before
        review.answer(item.id, "beach")
        later = review.answer(item.id, "beach", use_as_support=True)
        assert supports(service, "beach") == before + 1
        service.remove_support("s", [later.support_id])
        review.undo(item.id)
        assert service.verify().clean


@pytest.mark.both_back_ends
def test_two_reviewers_answer_one_item(home: Path) -> None:
    """One of two different answers is stored, the other is told; equal ones are both fine."""
    with trustvlm.open(home) as service:
        service.score("s", incoming(60), review=True)
        ids = [item.id for item in waiting(service)[:6]]
        told: list[str] = []
        together = threading.Barrier(2)

        def answer(labels: list[str]) -> None:
            for item, label in zip(ids, labels, strict=True):
                together.wait()
                try:
                    service.review("s").answer(item, label)
                except trustvlm.Conflict:
                    told.append("conflict")

        others = ["beach"] * 3 + ["forest"] * 3
        threads = [threading.Thread(target=answer, args=(one,)) for one in (["beach"] * 6, others)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert told == ["conflict"] * 3
        truths = {item.id: item.truth for item in service.review("s").items(state="answered").items}
        stored = dict(
            run_sql(
                home,
                "SELECT i.id, o.truth FROM review_items i JOIN observations o "
                "ON o.id = i.observation_id",
            )
        )
        assert truths == stored
        assert len(stored) == 6


def test_pages_purges_and_what_cannot_be(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.score("s", incoming(40), review=True)
        review, everything = service.review("s"), waiting(service)
        page = review.items(limit=7)
        found = [*page.items]
        while page.next_cursor is not None:
            page = review.items(limit=7, cursor=page.next_cursor)
            found += page.items
        assert tuple(found) == everything
        for arguments in ({"tray": "x"}, {"state": "x"}, {"limit": 0}, {"cursor": -1}):
            with pytest.raises(trustvlm.InvalidInput):
                review.items(**arguments)
        for call in (review.question, review.skip, review.undo):
            with pytest.raises(trustvlm.NotFound, match="no review item 99999"):
                call(99_999)
        with pytest.raises(trustvlm.NotFound, match="no space"):
            service.review("nowhere").status()
        with pytest.raises(trustvlm.InvalidInput, match="both"):
            service.score("s", Queries(classifier=incoming(2).classifier), rule="msp", review=True)
        kept = review.answer(everything[0].id, "beach", use_as_support=True)
        review.skip(everything[1].id)
        status = review.collect(True, discard=True)
        assert status.collecting
        assert sum(tray.open + tray.skipped for tray in status.trays) == 0
        assert [item.id for item in review.items(state=None).items] == [kept.id]
        service.remove_support("s", [kept.support_id])
        service.purge(older_than=timedelta(0))
        assert review.items(state=None).items == ()  # with its image
        service.score("s", incoming(40), review=True)
        service.remove_space("s")
        service.purge(older_than=timedelta(0))
    for table in ("review_items", "review_states"):
        assert run_sql(home, f"SELECT COUNT(*) FROM {table}") == [(0,)]


def test_verify_finds_a_damaged_item(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.score("s", incoming(40), review=True)
        number = len(waiting(service))
        assert service.verify().checked["review"] == number
    run_sql(home, "UPDATE review_items SET verifier_embedding = ? WHERE id = 2", bytes(96))
    run_sql(home, "UPDATE review_items SET state = 'lost' WHERE id = 3")
    with trustvlm.open(home) as service:
        found = service.verify().damage
        assert [(one.kind, one.row_id) for one in found] == [("review", 2), ("review", 3)]
        with pytest.raises(trustvlm.Damaged, match="review item 2"):
            service.review("s").question(2)
        assert service.verify(repair=True).clean
        assert len(service.review("s").items(state=None).items) == number - 2


def test_a_space_that_is_read_only(home: Path) -> None:
    with trustvlm.open(home, read_only=True) as service:
        with pytest.raises(trustvlm.ReadOnly):
            service.score("s", incoming(2), review=True)
        with pytest.raises(trustvlm.ReadOnly):
            service.review("s").collect(True)
        assert service.review("s").status().trays[0].open == 0
        assert np.all(service.score("s", incoming(2)).decision != "")
