"""Two hosts serve one catalog in PostgreSQL, each with a home of its own: what one does counts for
the other, and none touches what the other is at."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import postgres
import pytest
from back_ends import Database
from http_service import Http, served
from numbered import create, label, queries, require_equal
from sqlalchemy import text
from thresholds import set_thresholds
from waiting import until

import trustvlm
from trustvlm.catalog.server.presence import Presence
from trustvlm.errors import TooMany
from trustvlm.http.guard.keyring import Caller
from trustvlm.http.work.job_queue import Progress
from trustvlm.http.work.upkeep import Upkeep
from trustvlm.service.home import open_home
from trustvlm.service.home.home import only_one
from trustvlm.types.answers import Status

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.parametrize("back_end", ["postgresql"], indirect=True),
]

Hosts = tuple[Http, Http]


@contextmanager
def two_hosts(folder: Path, **options: Any) -> Iterator[Hosts]:
    with served(folder / "a", **options) as a, served(folder / "b", **options) as b:
        yield a, b


@pytest.fixture
def hosts(tmp_path: Path, back_end: Database) -> Iterator[Hosts]:
    """Two hosts over the space "space" with 20 labels."""
    with two_hosts(tmp_path) as (a, b):
        create(a.service)
        a.service.register("space", [label(number) for number in range(20)])
        yield a, b


def vector(seed: int) -> dict[str, Any]:
    return {
        "classifier": queries(1, seed).classifier.tolist(),
        "verifier": queries(1, seed).verifier.tolist(),
    }  # type: ignore[union-attr]


def test_keys_are_made_used_and_revoked_on_any_host(tmp_path: Path) -> None:
    """A revoked one is refused by the other host's next request, although it was just used."""
    with two_hosts(tmp_path, require_key=True) as (a, b):
        row, key = a.serving.home.create_key("admin")
        for host in (b, a, b):
            host.ask("GET", "/v1/spaces", key=key)
        a.serving.home.revoke_key(row.id)
        b.ask("GET", "/v1/spaces", key=key, status=401)


def test_a_repeated_write_is_done_once(hosts: Hosts) -> None:
    a, b = hosts
    headers = {"idempotency-key": "one write"}
    given = {"labels": [{"name": "new", "text_vector": np.ones(32).tolist()}]}
    where = "/v1/spaces/space/labels"
    first = a.ask("POST", where, json=given, headers=headers)
    again = b.ask("POST", where, json=given, headers=headers)
    assert again.json() == first.json()
    assert again.json()["added_labels"] == 1
    assert again.headers["idempotent-replayed"] == "true"
    b.ask("POST", where, json={"labels": []}, headers=headers, status=422)
    assert b.service.get_space("space").label_count == 21


def test_a_write_that_the_other_host_is_at_is_not_done(hosts: Hosts) -> None:
    """It is asked to wait; when that host has gone, the other one does it."""
    a, b = hosts
    where, headers = "/v1/spaces/space/labels/label 0001", {"idempotency-key": "one removal"}
    seen: list[bytes] = []
    begin = b.serving.home.begin_call
    b.serving.home.begin_call = lambda *call: seen.append(call[2]) or begin(*call)  # type: ignore[method-assign, func-returns-value]
    b.ask("DELETE", where, headers=headers)
    b.service.restore_label("space", "label 0001")
    other = {"idempotency-key": "another removal"}
    owner = ""
    assert a.serving.home.begin_call(owner, "another removal", seen[0], a.serving.worker) is None
    refused = b.ask("DELETE", where, headers=other, status=503)
    assert "is being done" in refused.json()["error"]["message"]
    assert b.service.get_space("space").label_count == 20
    a.serving.worker.close()
    b.ask("DELETE", where, headers=other)
    assert b.service.get_space("space").label_count == 19


def test_jobs_are_seen_and_cancelled_on_any_host(hosts: Hosts) -> None:
    a, b = hosts

    def long(progress: Progress) -> Status:
        for done in range(10_000):
            progress.tell(f"step {done}", done, None)
            time.sleep(0.01)
        return Status("ok")

    job = a.serving.jobs.start("evaluate", "space", "", long)
    until(lambda: b("GET", f"/v1/jobs/{job.id}")["state"] == "running")
    assert job.id in {one["id"] for one in b("GET", "/v1/jobs")["jobs"]}
    b("POST", f"/v1/jobs/{job.id}/cancel")
    until(lambda: a("GET", f"/v1/jobs/{job.id}")["state"] == "cancelled")


def test_jobs_of_a_living_host_are_left_alone(
    hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a host that starts, and by one that looks often; those of a dead host are ended."""
    monkeypatch.setattr(Presence, "sure_s", 0.2)
    a, b = hosts
    job = a.serving.jobs.record("evaluate", "space", "", "running")
    a.serving.home.create_job(job)
    looking = Upkeep(b.serving.home, b.serving.worker, every_s=0.05)
    with served(tmp_path / "c") as c:
        time.sleep(0.5)
        assert c("GET", f"/v1/jobs/{job.id}")["state"] == "running"
    a.serving.upkeep.close()
    a.serving.worker.close()
    until(lambda: b("GET", f"/v1/jobs/{job.id}")["state"] == "failed")
    assert "has died" in b("GET", f"/v1/jobs/{job.id}")["error"]["message"]
    looking.close()


@pytest.mark.slow  # by default: test_jobs_of_a_living_host_are_left_alone
def test_a_job_that_another_host_ended_stops(hosts: Hosts) -> None:
    """A host that was cut off from the database is dead to the others: it finds its job ended."""
    a, b = hosts
    ended: list[str] = []

    def long(progress: Progress) -> Status:
        try:
            for done in range(10_000):
                progress.tell(f"step {done}", done, None)
                time.sleep(0.01)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise
        return Status("ok")

    job = a.serving.jobs.start("evaluate", "space", "", long)
    until(lambda: b("GET", f"/v1/jobs/{job.id}")["state"] == "running")
    a.serving.upkeep.close()
    a.serving.worker.close()
    assert b.serving.home.end_orphans(b.serving.worker, {job.worker: -1e3}) == [job.id]
    until(lambda: ended == ["Stopped"])
    assert a("GET", f"/v1/jobs/{job.id}")["state"] == "failed"


def test_rates_are_divided_among_hosts_and_workers(tmp_path: Path) -> None:
    """Of 24 requests a second, and as many at once, each of 2 hosts with 3 workers allows 4."""
    with two_hosts(tmp_path, require_key=True, rate=24.0, hosts=2, workers=3) as (a, b):
        for host in (a, b):
            for _ in range(4):
                host.serving.keyring.count(Caller("a key", "read"))
            with pytest.raises(TooMany, match="24 requests a second"):
                host.serving.keyring.count(Caller("a key", "read"))


def test_metrics_are_those_of_each_host(hosts: Hosts) -> None:
    a, b = hosts
    for _ in range(3):
        a("POST", "/v1/spaces/space/score", json=vector(1))
    route = 'method="POST",route="/v1/spaces/{space}/score",status="200"'
    counted = f"trustvlm_http_request_seconds_count{{{route}}}"
    assert f"{counted} 3.0" in a.ask("GET", "/metrics").text
    b.service.register("space", [label(20)])
    b("POST", "/v1/spaces/space/score", json=vector(1))
    assert f"{counted} 1.0" in b.ask("GET", "/metrics").text
    assert 'trustvlm_revision_lag{space="space"} 1.0' in a.ask("GET", "/metrics").text
    assert 'trustvlm_revision_lag{space="space"} 0.0' in b.ask("GET", "/metrics").text
    assert "trustvlm_catalog_up 1.0" in b.ask("GET", "/metrics").text


def test_the_next_query_of_every_host_sees_a_new_label(hosts: Hosts) -> None:
    a, b = hosts
    for number in range(30, 35):
        (a if number % 2 else b).service.register("space", [label(number)])
        for host in (a, b):
            body = {"classifier": [label(number).text_vector.tolist()], "rule": "msp"}  # type: ignore[union-attr]
            answer = host("POST", "/v1/spaces/space/score", json=body)
            assert answer["verdicts"][0]["label"] == label(number).name
            assert answer["revision"] == a.service.get_space("space").revision


def test_expired_rows_are_purged_by_one_host(
    hosts: Hosts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Another one that writes meanwhile passes over them and is not held up."""
    a, b = hosts
    a.service.remove_label("space", "label 0003")
    monkeypatch.setattr(open_home, "EXPIRY_INTERVAL_S", 0.0)
    for host in (a, b):
        host.service._next_expiry = 0.0
        object.__setattr__(host.service._home, "undo_window", timedelta(0))
    with only_one(a.service._home, "expiry") as is_alone:
        assert is_alone
        b.service.register("space", [label(21)])
        assert removed(b) == 1
    b.service.register("space", [label(22)])
    assert removed(b) == removed(a) == 0


def removed(host: Http) -> int:
    """How many removed labels the catalog still holds."""
    with host.service._home.catalog.read() as connection:
        query = text("SELECT count(*) FROM labels WHERE removed_revision IS NOT NULL")
        return int(connection.execute(query).scalar_one())


def test_every_host_refits_and_the_fit_is_the_same(tmp_path: Path) -> None:
    """Both write at once; what a fresh home answers is what both answer."""
    for name in ("a", "b"):
        set_thresholds(tmp_path / name, fit_on_write_labels=1, fit_quiet_s=0.0)
    with two_hosts(tmp_path) as (a, b):
        create(a.service)
        for number in range(0, 20, 2):
            a.service.register("space", [label(number)])
            b.service.register("space", [label(number + 1)])
        revision = a.service.get_space("space").revision

        def is_fitted() -> bool:
            verdicts = [host.service.score("space", queries()) for host in (a, b)]
            return all(one.tau_revision == revision for one in verdicts)

        until(is_fitted)
        with trustvlm.open(tmp_path / "fresh") as fresh:
            expected = fresh.score("space", queries())
        for host in (a, b):
            require_equal(host.service.score("space", queries()), expected)


def test_while_the_database_is_away_nothing_is_answered_from_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 for reads, writes and /readyz, within seconds; the process itself is alive, and says so.
    When the database is back, the next call works, and jobs of living hosts are as they were."""
    with postgres.server("max_connections=100") as own:
        monkeypatch.setenv("TRUSTVLM_DATABASE_URL", own.create("tv"))
        with two_hosts(tmp_path) as (a, b):
            create(a.service)
            a.service.register("space", [label(number) for number in range(5)])
            job = a.serving.jobs.record("evaluate", "space", "", "running")
            a.serving.home.create_job(job)
            requests = [("GET", "/readyz", None), ("GET", "/v1/spaces/space", None),
                     ("POST", "/v1/spaces/space/score", vector(1)),
                     ("POST", "/v1/spaces/space/labels", {"names": ["n"]})]  # fmt: skip
            for host in (a, b):
                until(lambda host=host: host.ask("GET", "/readyz", status=None).status_code == 200)
                host("POST", "/v1/spaces/space/score", json=vector(1))
            own.kill()
            for host in (a, b):
                begin = time.monotonic()
                for method, path, body in requests:
                    answer = host.ask(method, path, json=body, status=503)
                    assert answer.json()["error"]["kind"] == "Unavailable"
                assert time.monotonic() - begin < 20
                host("GET", "/healthz")
                assert "trustvlm_catalog_up 0.0" in host.ask("GET", "/metrics").text
            own.start()
            a.serving.worker.hold()
            for host in (a, b):
                host("GET", "/readyz")
                assert host("POST", "/v1/spaces/space/score", json=vector(1))["verdicts"]
            b.service.register("space", [label(7)])
            assert b.serving.home.end_orphans(b.serving.worker, {}) == []
            assert a("GET", f"/v1/jobs/{job.id}")["state"] == "running"


def test_a_key_does_not_keep_the_event_loop_waiting(tmp_path: Path) -> None:
    """Asking whether anything was committed goes over the network: while it takes long, other
    requests are answered."""
    with served(tmp_path / "a", require_key=True) as host:
        _, key = host.serving.home.create_key("read")
        host.ask("GET", "/v1/spaces", key=key)
        version, asked, answered = host.serving.home.version, threading.Event(), threading.Event()

        def slow_version() -> tuple[int, ...]:
            asked.set()
            assert answered.wait(30), "the others were not answered meanwhile"
            return version()

        host.serving.home.version = slow_version  # type: ignore[method-assign]
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(host.ask, "GET", "/v1/spaces", key=key)
            assert asked.wait(30)
            quick = host.together([{"method": "GET", "url": "/healthz"}] * 20)
            answered.set()
            assert slow.result(60).status_code == 200
        assert {answer.status_code for answer in quick} == {200}
