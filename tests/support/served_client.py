"""Clients of a service in this process: real routes over a real home, without a network or over a
socket."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, closing, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

import trustvlm
from trustvlm.client import AsyncClient, Client
from trustvlm.http.app import create_app
from trustvlm.http.options import ServeOptions
from trustvlm.testing import AsgiTransport

URL = "http://127.0.0.1"


@contextmanager
def application(home: Path, **options: Any) -> Iterator[FastAPI]:
    """The application over a home."""
    app = create_app(trustvlm.open(home, create=True, workers=0), ServeOptions(**options))
    try:
        yield app
    finally:
        app.state.serving.close()


class Awaited:
    """An asynchronous object whose coroutines are run to their end, and whose rows are listed."""

    def __init__(self, asynchronous: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._asynchronous, self._loop = asynchronous, loop

    @property
    def place(self) -> str:
        """The options of commands that its messages advise."""
        return str(self._asynchronous.blocking.place)

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._asynchronous, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            begun = method(*args, **kwargs)
            if inspect.isasyncgen(begun):
                return iter(self._loop.run_until_complete(_listed(begun)))
            if inspect.isawaitable(begun):
                return self._loop.run_until_complete(begun)
            return (
                begun
                if isinstance(begun, AbstractAsyncContextManager)
                else Awaited(begun, self._loop)
            )

        return call


async def _listed(rows: AsyncIterator[Any]) -> list[Any]:
    return [row async for row in rows]


@contextmanager
def awaited_client_of(app: FastAPI, **options: Any) -> Iterator[Awaited]:
    """An asynchronous client of an application, for tests that do not await."""
    with closing(asyncio.new_event_loop()) as loop:
        client = Awaited(
            AsyncClient(URL, transport=AsgiTransport(app), timeout=30, **options), loop
        )
        try:
            yield client
        finally:
            client.close()


def client_of(app: FastAPI, key: str | None = None, **options: Any) -> Client:
    """A client of an application, without a network."""
    return Client(URL, key, transport=AsgiTransport(app), **{"timeout": 30} | options)


@contextmanager
def listening(app: Any) -> Iterator[int]:
    """The port of this machine at which an application, whatever it is, really listens."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
