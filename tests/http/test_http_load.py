"""Many requests at once, more than can be served, repeated ones, and clients that leave."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from http_service import Http, check, served
from test_http_routes import NPZ, SPACE, npz, query_json
from worlds import IMAGE_DIM, TEXT_DIM, World

import trustvlm
from trustvlm.errors import InvalidInput, Overloaded
from trustvlm.http.run import options_of
from trustvlm.http.work.batcher import Batcher
from trustvlm.http.work.thread_lanes import Lane
from trustvlm.service.server.server_home import ServerHome
from trustvlm.settings import Settings


@pytest.fixture
def http(tmp_path: Path, world: World) -> Iterator[Http]:
    with served(tmp_path / "home", queue=64) as running:
        running("POST", "/v1/spaces", json=SPACE, status=201)
        running.service.register("s", world.inputs(4))
        yield running


def one(queries: trustvlm.Queries, i: int) -> trustvlm.Queries:
    return trustvlm.Queries(
        np.asarray(queries.classifier)[i : i + 1], np.asarray(queries.verifier)[i : i + 1]
    )


# Batching


def test_batched_answers_are_those_of_single_calls(http: Http, world: World) -> None:
    """32 requests at once, of several rules, sizes and kinds, some of them wrong: each gets what it
    would get alone."""
    rng = np.random.default_rng(1)
    queries = world.queries(20)
    requests, expected = [], []
    for number in range(96):
        rows = rng.integers(0, 100, size=rng.integers(1, 6))
        mine = trustvlm.Queries(
            np.asarray(queries.classifier)[rows], np.asarray(queries.verifier)[rows]
        )
        rule = ("posterior", "trustvlm", "msp")[number % 3]
        wrong = number % 16 == 5
        body = query_json(mine) | {"rule": rule, "evidence": number % 2}
        if wrong:
            body["verifier"][0] = [0.0] * IMAGE_DIM
        requests.append({"method": "POST", "url": "/v1/spaces/s/score", "json": body})
        expected.append(None if wrong else http.service.score("s", mine, rule=rule))
    before = http.serving.meters.batch_calls.labels("scorer")._sum.get()
    for start in range(0, 96, 32):
        answers = http.together(requests[start : start + 32])
        for answer, wanted in zip(answers, expected[start : start + 32], strict=True):
            if wanted is None:
                check(answer, 422)
                continue
            check(answer, 200)
            require_same(answer.json()["verdicts"], list(wanted.rows()))
    counted = {
        sample.name: sample.value
        for metric in http.serving.meters.batch_calls.collect()
        for sample in metric.samples
        if sample.labels.get("owner") == "scorer" and sample.name.endswith(("_count", "_sum"))
    }
    assert counted["trustvlm_batch_calls_sum"] - before == 96
    assert counted["trustvlm_batch_calls_count"] < 80  # several went together


def require_same(rows: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(rows) == len(expected)
    for row, wanted in zip(rows, expected, strict=True):
        for name, value in wanted.items():
            if isinstance(value, float) or (
                isinstance(value, list) and value and isinstance(value[0], float)
            ):
                assert row[name] == pytest.approx(value, abs=1e-5), name
            else:
                assert row[name] == value, name


def test_searches_are_put_together_and_told_apart(http: Http, world: World) -> None:
    queries = world.queries(4)
    requests = [
        {
            "method": "POST",
            "url": "/v1/spaces/s/search",
            "json": query_json(one(queries, i)) | {"k": 3},
        }
        for i in range(24)
    ]
    for i, answer in enumerate(http.together(requests)):
        hits = http.service.search("s", one(queries, i), k=3)
        assert [row["id"] for row in answer.json()["hits"]] == hits.ids[0].tolist()
        assert {row["query"] for row in answer.json()["hits"]} == {0}


class Stopped:
    """Work that waits until it may go on."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()
        self.ran: list[Any] = []

    def run(self, key: Any, payloads: Any) -> list[Any]:
        self.begun.set()
        assert self.go.wait(30)
        self.ran.append((key, list(payloads)))
        if any(payload == "bad" for payload in payloads):
            raise InvalidInput("bad")
        return [payload * 2 for payload in payloads]


def batcher(**options: Any) -> Batcher:
    return Batcher("test", **({"capacity": 4, "most_rows": 10, "deadline_s": 30.0} | options))


def test_a_batch_is_what_waits_and_goes_together() -> None:
    work = Stopped()
    owner = batcher(capacity=20)

    def ask(key: str, payload: Any, rows: int) -> Any:
        return owner.ask(key, partial(work.run, key), payload, rows)

    async def scenario() -> list[Any]:
        first = asyncio.ensure_future(ask("a", 1, 1))
        await asyncio.to_thread(work.begun.wait, 10)
        calls = [("a", 2, 1), ("b", 3, 1), ("a", "bad", 1), ("a", 4, 7), ("a", 5, 7), ("b", 6, 1)]
        rest = [asyncio.ensure_future(ask(*call)) for call in calls]
        await asyncio.sleep(0)
        left = rest.pop(5)
        left.cancel()
        await asyncio.sleep(0)
        work.go.set()
        return [await first, *await asyncio.gather(*rest, return_exceptions=True)]

    answers = asyncio.run(scenario())
    owner.close()
    assert [a if not isinstance(a, Exception) else type(a) for a in answers] == [
        2,
        4,
        6,
        InvalidInput,
        8,
        10,
    ]
    # What fits goes together; a failed batch is done one by one; who left is not served.
    assert work.ran == [
        ("a", [1]), ("a", [2, "bad", 4]), ("a", [2]), ("a", ["bad"]), ("a", [4]), ("b", [3]), ("a",
        [5]),
    ]  # fmt: skip


def test_full_queues_and_deadlines_refuse() -> None:
    work = Stopped()
    owner = batcher(deadline_s=0.05)

    def ask(payload: Any) -> Any:
        return owner.ask("a", partial(work.run, "a"), payload, 1)

    async def scenario() -> None:
        first = asyncio.ensure_future(ask(1))
        await asyncio.to_thread(work.begun.wait, 10)
        waiting = [asyncio.ensure_future(ask(i)) for i in range(4)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="4 calls wait already"):
            await ask(9)
        await asyncio.sleep(0.1)
        work.go.set()
        assert await first == 2
        for call in waiting:
            with pytest.raises(Overloaded, match=r"waited for more than 0\.05 s"):
                await call

    asyncio.run(scenario())
    owner.close()
    with pytest.raises(Overloaded, match="shutting down"):
        asyncio.run(ask(1))
    lane = Lane("test", 1, 1, 0.05)
    gate = threading.Event()

    async def lanes() -> None:
        first = asyncio.ensure_future(lane.run(lambda: gate.wait(10)))
        second = asyncio.ensure_future(lane.run(lambda: 2))
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match="1 calls wait already"):
            await lane.run(lambda: 3)
        await asyncio.sleep(0.1)
        gate.set()
        assert await first
        with pytest.raises(Overloaded, match="waited for more"):
            await second

    asyncio.run(lanes())
    lane.close()


def test_a_full_service_says_when_to_come_back(tmp_path: Path, world: World) -> None:
    """More at once than may wait: some are answered, the rest gets 503 with Retry-After, and
    afterwards all is as before."""
    with served(tmp_path / "home", queue=2, batch_rows=1) as http:
        http("POST", "/v1/spaces", json=SPACE, status=201)
        http.service.register("s", world.inputs(4))
        request = {
            "method": "POST",
            "url": "/v1/spaces/s/score",
            "json": query_json(one(world.queries(1), 0)),
        }
        answers = http.together([request] * 40)
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        for answer in answers:
            check(answer)
            if answer.status_code == 503:
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json()["error"]["kind"] == "Overloaded"
        assert http.together([request])[0].status_code == 200
    with served(tmp_path / "home", in_flight=3) as http:
        statuses = [
            answer.status_code
            for answer in http.together([{"method": "GET", "url": "/v1/spaces"}] * 12)
        ]
        assert set(statuses) == {200, 503}


def test_a_burst_to_a_space_fills_no_queue(tmp_path: Path, world: World) -> None:
    """More requests than calls may wait, to a space that none has named before, while the threads
    that read are held up: the space is looked up once for all, and none is refused."""
    with served(tmp_path / "home", queue=4) as http:
        http.service.create_space("s", classifier="precomputed:8")
        free, held = threading.Event(), threading.Semaphore(0)

        def hold() -> None:
            held.release()
            assert free.wait(30)

        for _ in range(8):
            http.serving.reading.post(hold)
        for _ in range(8):
            assert held.acquire(timeout=30)
        request = {"method": "POST", "url": "/v1/spaces/s/score", "json": {"nothing": 1}}
        threading.Timer(0.3, free.set).start()
        answers = http.together([request] * 40)
        assert {answer.status_code for answer in answers} == {422}


def test_who_leaves_is_not_served(
    http: Http, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client of a call that waits closes its connection: the call is never made, and the next
    one is answered."""
    scored: list[int] = []
    gate, begun = threading.Event(), threading.Event()
    real = http.service.score

    def slow(space: str, queries: trustvlm.Queries, **options: Any) -> trustvlm.Verdicts:
        begun.set()
        assert gate.wait(20)
        scored.append(len(np.asarray(queries.classifier)))
        return real(space, queries, **options)

    monkeypatch.setattr(http.service, "score", slow)
    queries = world.queries(1)

    async def call(rows: int, gone: asyncio.Event) -> list[Any]:
        body = json.dumps(
            query_json(trustvlm.Queries(*(np.asarray(side)[:rows] for side in sides(queries))))
        ).encode()
        return await http.raw("/v1/spaces/s/score", "application/json", [body], gone)

    async def scenario() -> tuple[list[Any], list[Any]]:
        stays, leaves = asyncio.Event(), asyncio.Event()
        first = asyncio.ensure_future(call(1, stays))
        await asyncio.to_thread(begun.wait, 20)
        second = asyncio.ensure_future(call(5, leaves))
        while http.serving.scorer.depth < 1:
            await asyncio.sleep(0.005)
        leaves.set()
        left = await asyncio.wait_for(second, 10)
        gate.set()
        return await first, left

    answered, left = http.run(scenario)
    assert answered[0]["status"] == 200
    assert left == []
    assert http("POST", "/v1/spaces/s/score", json=query_json(one(queries, 0)))["verdicts"]
    assert scored == [1, 1]


def sides(queries: trustvlm.Queries) -> tuple[Any, Any]:
    return queries.classifier, queries.verifier


# Repeated requests


def label(name: str, i: int) -> dict[str, Any]:
    rng = np.random.default_rng(i)
    vectors = rng.normal(size=(2, IMAGE_DIM)).tolist()
    return {
        "name": name,
        "text_vector": rng.normal(size=TEXT_DIM).tolist(),
        "image_vectors": vectors,
    }


def test_a_repeated_write_is_done_once(http: Http) -> None:
    body = {"labels": [label("new", 1)]}
    keyed = {"idempotency-key": "k-1"}
    first = http.ask("POST", "/v1/spaces/s/labels", json=body, headers=keyed)
    again = http.ask("POST", "/v1/spaces/s/labels", json=body, headers=keyed)
    assert first.json()["added_labels"] == 1
    assert again.content == first.content
    assert again.headers["idempotent-replayed"] == "true"
    assert "idempotent-replayed" not in first.headers
    for path, other in (
        ("/v1/spaces/s/labels", {"labels": [label("other", 2)]}),
        ("/v1/spaces/s/labels/new/supports", {}),
    ):
        http("POST", path, json=other, headers=keyed, status=422)
    removed = http.ask("DELETE", "/v1/spaces/s/labels/new", headers={"idempotency-key": "k-2"})
    assert (
        http.ask("DELETE", "/v1/spaces/s/labels/new", headers={"idempotency-key": "k-2"}).content
        == removed.content
    )
    http("DELETE", "/v1/spaces/s/labels/new", status=404)
    # What was refused is not kept: after its cause is gone, the same request may be made.
    http("DELETE", "/v1/spaces/s/labels/later", headers={"idempotency-key": "k-3"}, status=404)
    http("POST", "/v1/spaces/s/labels", json={"labels": [label("later", 3)]})
    http("DELETE", "/v1/spaces/s/labels/later", headers={"idempotency-key": "k-3"})
    http("DELETE", "/v1/spaces/s/labels/x", headers={"idempotency-key": "x" * 201}, status=422)


def test_an_answer_survives_the_process(tmp_path: Path, http: Http) -> None:
    """The answer is in the catalog: another process gives it. What a dead process had begun is
    taken over."""
    body, keyed = {"labels": [label("new", 1)]}, {"idempotency-key": "k"}
    first = http.ask("POST", "/v1/spaces/s/labels", json=body, headers=keyed)
    with served(tmp_path / "home") as other:
        assert (
            other.ask("POST", "/v1/spaces/s/labels", json=body, headers=keyed).content
            == first.content
        )
        body = {"labels": [label("begun", 2)]}
        claims = {name: trustvlm.open(tmp_path / "home") for name in ("living", "dead")}
        workers = {name: ServerHome(service).worker() for name, service in claims.items()}
        for name, service in claims.items():
            digest = claim_of(other, body)
            assert ServerHome(service).begin_call("", name, digest, workers[name]) is None
        workers["dead"].close()
        busy = other.ask(
            "POST",
            "/v1/spaces/s/labels",
            json=body,
            headers={"idempotency-key": "living"},
            status=503,
        )
        assert busy.headers["retry-after"] == "1"
        other("POST", "/v1/spaces/s/labels", json=body, headers={"idempotency-key": "dead"})
        workers["living"].close()
        for service in claims.values():
            service.close()


def claim_of(http: Http, body: Any) -> bytes:
    """The digest under which the service stores such a registration: that of a request made with
    the key "probe"."""
    from trustvlm.catalog.server import idempotency

    http("POST", "/v1/spaces/s/labels", json=body, headers={"idempotency-key": "probe"})
    with http.service._home.catalog.write() as connection:
        found = idempotency.find(connection, "", "probe")
        idempotency.forget(connection, "", "probe")
    assert found is not None
    return found.request


def test_a_write_that_comes_twice_at_once_is_done_once(http: Http) -> None:
    request = {
        "method": "POST", "url": "/v1/spaces/s/labels", "json": {"labels": [label("once", 7)]},
        "headers": {"idempotency-key": "twin"},
    }  # fmt: skip
    answers = http.together([request] * 8)
    done = [answer for answer in answers if answer.status_code == 200]
    assert {answer.status_code for answer in answers} <= {200, 503}
    assert {answer.content for answer in done} == {done[0].content}
    assert done[0].json()["added_labels"] == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in done) == 1


# Limits


def test_a_body_that_is_allowed_finds_room() -> None:
    """However large the setting makes bodies, two of them may be under way at once."""
    for size in (2**20, 2**28, 2**32):
        options = options_of(
            Settings(serve_body_bytes=size), "127.0.0.1", 8000, workers=1, require_key=False
        )
        assert (options.body_bytes, options.bodies_bytes) == (size, max(2**28, 2 * size))


def test_bodies_have_a_limit(tmp_path: Path, world: World) -> None:
    with served(tmp_path / "home", body_bytes=50_000, bodies_bytes=120_000) as http:
        http("POST", "/v1/spaces", json=SPACE, status=201)
        http.service.register("s", world.inputs(2))
        big = {"content-type": "application/json"}
        assert (
            http("POST", "/v1/spaces/s/score", content=b" " * 50_001, headers=big, status=413)[
                "error"
            ]["kind"]
            == "TooLarge"
        )
        read: list[int] = []

        async def stream() -> AsyncIterator[bytes]:
            for i in range(1_000):
                read.append(i)
                yield b" " * 1_000

        async def ask() -> httpx.Response:
            return await http.client.post("/v1/spaces/s/score", content=stream(), headers=big)

        check(http.run(ask), 413)
        assert len(read) < 60  # what is too much is not read
        arrays = npz(classifier=np.zeros((400_000, TEXT_DIM), np.float32))
        assert len(arrays) > 50_000
        small = compressed(classifier=np.zeros((10_000, TEXT_DIM)))
        assert len(small) < 50_000
        error = http("POST", "/v1/spaces/s/score", content=small, headers=NPZ, status=422)["error"]
        assert "unpacked" in error["message"]
        assert http.app.state.serving is http.serving
        assert http("GET", "/v1/spaces")["spaces"]


def compressed(**arrays: Any) -> bytes:
    import io

    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def test_what_dead_processes_left_is_settled(tmp_path: Path, http: Http) -> None:
    with trustvlm.open(tmp_path / "home") as service:
        home = ServerHome(service)
        worker = home.worker()
        from trustvlm.http.work.job_queue import Jobs

        jobs = Jobs(home, worker, 60.0)
        home.create_job(jobs.record("evaluate", "s", "", "running"))
        jobs.close()
        assert http.serving.home.end_orphans(http.serving.worker, {}) == []
        assert {job.state for job in ServerHome(service).list_jobs("s", 10)} == {"running"}
        worker.close()
        assert len(http.serving.home.end_orphans(http.serving.worker, {})) == 1
        states = {job["kind"]: job["state"] for job in http("GET", "/v1/jobs")["jobs"]}
        assert states == {"evaluate": "failed"}
