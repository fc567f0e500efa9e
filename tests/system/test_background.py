"""Background threads outlive errors that were not expected: each is logged, and work goes on."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import numpy as np
import pytest
from http_service import served
from thresholds import set_thresholds
from waiting import until
from worlds import World, make_space

import trustvlm
from trustvlm.errors import Unavailable
from trustvlm.http.guard.logs import QueuedLines
from trustvlm.http.work.batcher import Batcher
from trustvlm.http.work.job_queue import Jobs, Progress
from trustvlm.http.work.thread_lanes import Lane
from trustvlm.index.live import LiveIndex
from trustvlm.service.memory import background_fit, cache_registry
from trustvlm.service.server.server_home import ServerHome
from trustvlm.system import background
from trustvlm.system.background import Failures
from trustvlm.types.answers import Status

log = logging.getLogger("trustvlm.test")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(background, "LONGEST_PAUSE_S", 0.05)


def traces(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of records with a traceback."""
    return [record.getMessage() for record in caplog.records if record.exc_info]


def test_an_error_has_its_traceback_once_and_pauses_grow(caplog: pytest.LogCaptureFixture) -> None:
    failures, pauses = Failures(log, "this work"), []
    for _ in range(3):
        with failures.logged():
            raise ValueError("no such thing")
        pauses.append(failures.pause_s)
    assert pauses[0] <= 0.02 < pauses[1] <= 0.04 < pauses[2] <= 0.05
    messages = [record.getMessage() for record in caplog.records]
    again = "this work failed again: ValueError: no such thing"
    assert messages == ["this work failed; it goes on", again, again]
    assert traces(caplog) == messages[:1]
    with failures.logged():
        raise KeyError("another")
    assert len(traces(caplog)) == 2
    with failures.logged():
        pass
    assert failures.pause_s == 0


def test_what_ends_a_process_is_not_held_up() -> None:
    with pytest.raises(KeyboardInterrupt), Failures(log, "this work").logged():
        raise KeyboardInterrupt


def test_the_fitter_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, world: World
) -> None:
    """Its first fit fails; the next one is made and stored."""
    refit, failed = background_fit.refit, threading.Event()

    def fails_once(*arguments: object) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("nobody expected this")
        refit(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(background_fit, "refit", fails_once)
    set_thresholds(tmp_path / "home", fit_on_write_labels=1, fit_quiet_s=0.0)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(2))
        until(lambda: bool(traces(caplog)))
        revision = service.register("s", [world.inputs(3)[0]]).revision
        until(lambda: service.score("s", world.queries()).tau_revision == revision)
    assert traces(caplog) == ["refitting in the background failed; it goes on"]


def test_a_snapshot_that_fails_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, world: World
) -> None:
    write, failed = cache_registry.write, threading.Event()

    def fails_once(*arguments: object, **options: object) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("nobody expected this")
        write(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(cache_registry, "write", fails_once)
    set_thresholds(tmp_path / "home", snapshot_rows=1)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(2))

        def is_written() -> bool:
            service.score("s", world.queries())
            return any((tmp_path / "home" / "snapshots").glob("*.snapshot"))

        until(is_written)
    assert traces(caplog) == ["writing a snapshot in the background failed; it goes on"]


def test_a_batcher_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """Answers that do not fit, an error that no future takes, and metrics that fail."""

    def observe(calls: int, rows: int) -> None:
        raise ZeroDivisionError

    def stops(payloads: object) -> list[int]:
        raise StopIteration

    batcher = Batcher("test", capacity=9, most_rows=9, deadline_s=30, observe=observe)
    with pytest.raises(RuntimeError, match="expected 1 answers to a batch, got 2"):
        batcher.ask_now("key", lambda payloads: [1, 2], None, 1)
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(batcher.ask("key", stops, None, 1))
    assert batcher.ask_now("key", lambda payloads: [7], None, 1) == 7
    batcher.close()
    assert traces(caplog)[0] == "the thread test failed; it goes on"


def test_what_a_lane_does_for_no_caller_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    lane = Lane("test", 1, 9, 30)
    lane.post(lambda: 1 / 0)
    assert asyncio.run(lane.run(lambda: 7)) == 7
    lane.close()
    assert traces(caplog) == ["background work of test failed; it goes on"]


def test_the_review_queue_fills_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, world: World
) -> None:
    collect, failed = ServerHome.collect, threading.Event()

    def fails_once(*arguments: object) -> None:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("nobody expected this")
        collect(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ServerHome, "collect", fails_once)
    with served(tmp_path / "home") as http:
        make_space(http.service)
        http.service.register("s", world.inputs(2))
        collector = http.serving.collector
        queries = world.queries()
        rows = http.service.score("s", queries).plain_rows(0, 1)
        one = trustvlm.Queries(queries.classifier[:1], queries.verifier[:1])  # type: ignore[index]
        collector.offer("s", one, [dict(row) for row in rows])
        until(failed.is_set)
        collector.offer("s", one, [dict(row) for row in rows])
        until(lambda: sum(tray.open for tray in http.service.review("s").status().trays) == 1)
    assert traces(caplog) == ["storing images for review failed; it goes on"]


def test_a_job_that_cannot_be_watched_fails_and_the_next_one_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one whose end cannot be stored at first: it is stored when the catalog is back."""
    with served(tmp_path / "home") as http:
        home, get_job, change_job = http.serving.home, ServerHome.get_job, ServerHome.change_job
        jobs = Jobs(home, http.serving.worker, 30.0)

        def nothing(progress: Progress) -> Status:
            return Status("ok")

        monkeypatch.setattr(ServerHome, "get_job", lambda *_: 1 / 0)
        first = jobs.start("evaluate", "s", "", nothing)
        until(lambda: get_job(home, first.id).state == "failed")
        monkeypatch.setattr(ServerHome, "get_job", get_job)
        away = iter([True] * 3)

        def is_away(home: ServerHome, job_id: str, **changes: object) -> bool:
            if changes.get("state") == "done" and next(away, False):
                raise Unavailable("the server is away")
            return change_job(home, job_id, **changes)

        monkeypatch.setattr(ServerHome, "change_job", is_away)
        second = jobs.start("evaluate", "s", "", nothing)
        until(lambda: get_job(home, second.id).state == "done")
        assert next(away, None) is None
        jobs.close()


def test_a_compaction_that_fails_is_made_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from trustvlm.index import live
    from trustvlm.index.recipe import load_recipe

    copied, failed = live._copied, threading.Event()

    def fails_once(*arguments: object) -> object:
        if not failed.is_set():
            failed.set()
            raise ZeroDivisionError("nobody expected this")
        return copied(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(live, "_copied", fails_once)
    index = LiveIndex(load_recipe("flat"), 4)
    index.inline_rows = 0
    vectors = np.eye(4, dtype=np.float32)[np.arange(8_000) % 4]
    index.add(np.arange(8_000), vectors)
    index.remove(np.arange(4_000))
    until(failed.is_set)
    index.settle()
    until(lambda: index._failures.pause_s == 0)
    index.remove(np.arange(4_000, 4_001))
    index.settle()
    assert index.dead_share == 0
    assert traces(caplog) == ["compacting an index failed; it goes on"]


def test_a_record_that_is_no_line_fails_no_request(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        handler = QueuedLines(file.fileno())
        record = logging.LogRecord("trustvlm", logging.INFO, "", 1, "%d things", ("no",), None)
        handler.handle(record)
        handler.handle(logging.LogRecord("trustvlm", logging.INFO, "", 1, "sound", None, None))
        handler.flush()
    assert (tmp_path / "log").read_text() == "sound\n"
