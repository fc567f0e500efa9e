"""The asynchronous client has the verbs of the client, does not stop the event loop, and takes part
in optimistic concurrency."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from served_client import URL, application
from worlds import World, make_space

import trustvlm
from trustvlm import AsyncClient, Client, Conflict, InvalidInput, NotFound, Queries
from trustvlm.client.asynchronous.async_client import AsyncReviewQueue, AsyncVerdictLog
from trustvlm.errors import Unavailable
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.reading.verdict_log.files import VerdictLog
from trustvlm.testing import AsgiTransport

NAMES = ["airport", "beach", "bridge", "desert"]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with application(tmp_path / "home") as running:
        service = running.state.serving.service
        make_space(service)
        service.register("s", World(NAMES).inputs(2))
        yield running


def verbs(kind: type) -> dict[str, Any]:
    members = inspect.getmembers(kind, inspect.isfunction)
    return {name: verb for name, verb in members if not name.startswith("_")}


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [(Client, AsyncClient), (ReviewQueue, AsyncReviewQueue), (VerdictLog, AsyncVerdictLog)],
)
def test_verbs_and_signatures_are_those_of_the_client(blocking: type, asynchronous: type) -> None:
    ours, theirs = verbs(asynchronous), verbs(blocking)
    assert set(ours) == set(theirs)
    for name, verb in theirs.items():
        given = inspect.signature(verb).parameters
        assert inspect.signature(ours[name]).parameters == given, name
        rows = str(inspect.signature(verb).return_annotation).startswith("Iterator[")
        if rows and name != "at_revision":
            assert inspect.isasyncgenfunction(ours[name]), name
        elif name not in ("review", "verdict_log", "at_revision"):
            assert inspect.iscoroutinefunction(ours[name]), name


def test_answers_and_errors_are_those_of_the_service(app: FastAPI) -> None:
    service: trustvlm.TrustService = app.state.serving.service
    queries = World(NAMES).queries(2)

    async def work() -> None:
        async with AsyncClient(URL, transport=AsgiTransport(app)) as client:
            many = await asyncio.gather(*(client.score("s", queries) for _ in range(8)))
            expected = service.score("s", queries)
            for verdicts in many:
                np.testing.assert_array_equal(verdicts.label, expected.label)
                np.testing.assert_array_equal(verdicts.trust, expected.trust)
            assert [row async for row in client.list_labels("s")] == list(service.list_labels("s"))
            assert [row async for row in client.history("s")] == list(service.history("s"))
            assert (await client.search("s", queries, k=3)).ids.shape == (8, 3)
            assert await client.review("s").status() == service.review("s").status()
            assert await client.verdict_log("s").status() == service.verdict_log("s").status()
            with pytest.raises(NotFound, match="no space 'other'"):
                await client.score("other", queries)
            with pytest.raises(NotFound, match="no space 'other'"):
                [row async for row in client.list_labels("other")]
            with pytest.raises(InvalidInput, match="classifier"):
                await client.score("s", Queries(np.zeros((1, 3))))

    asyncio.run(work())


def test_changes_of_a_block_are_made_at_its_revision(app: FastAPI) -> None:
    async def work() -> None:
        async with AsyncClient(URL, transport=AsgiTransport(app)) as client:
            revision = (await client.get_space("s")).revision
            async with client.at_revision("s", revision):
                await client.remove_label("s", "beach")
                await client.remove_label("s", "bridge")
            with pytest.raises(Conflict):
                async with client.at_revision("s", revision):
                    raise AssertionError("not reached")
            now = (await client.get_space("s")).revision
            elsewhere = app.state.serving.service.remove_label
            async with client.at_revision("s", now):
                await asyncio.to_thread(elsewhere, "s", "desert")
                with pytest.raises(Conflict):
                    await client.remove_label("s", "airport")
            assert [row.name async for row in client.list_labels("s")] == ["airport"]

    asyncio.run(work())


class Waiting(httpx.BaseTransport):
    """A service that answers when a test lets it."""

    def __init__(self) -> None:
        self.asked, self.answer = threading.Semaphore(0), threading.Event()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.release()
        assert self.answer.wait(60)
        return httpx.Response(200, json={"spaces": []})


def test_the_loop_goes_on_and_calls_wait_for_their_turn() -> None:
    transport = Waiting()

    async def rows(client: AsyncClient) -> list[Any]:
        return [row async for row in client.list_spaces()]

    async def work() -> None:
        async with AsyncClient(URL, calls=2, transport=transport) as client:
            calls = [asyncio.create_task(rows(client)) for _ in range(3)]
            for _ in range(2):
                while not transport.asked.acquire(blocking=False):
                    await asyncio.sleep(0.005)
            await asyncio.sleep(0.05)
            assert not transport.asked.acquire(blocking=False)  # the third one waits
            calls[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            transport.answer.set()
            assert await asyncio.gather(*calls[1:]) == [[], []]

    asyncio.run(work())


def test_a_closed_client_says_so() -> None:
    async def work() -> None:
        client = AsyncClient(URL)
        await client.close()
        with pytest.raises(Unavailable, match="the client is closed"):
            await client.get_space("s")
        with pytest.raises(Unavailable, match="the client is closed"):
            _ = [space async for space in client.list_spaces()]

    asyncio.run(work())


@pytest.mark.parametrize("calls", [0, -1, True, 1.5, 1_001, "4"])
def test_a_number_of_calls_is_checked(calls: Any) -> None:
    with pytest.raises(InvalidInput, match="calls: expected a whole number from 1 to 1000"):
        AsyncClient(URL, calls=calls)


def test_the_example_of_the_documentation_is_asynchronous() -> None:
    page = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
    assert "async with trustvlm.AsyncClient(" in page
