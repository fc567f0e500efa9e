"""For tests against the service: an application of this process as if it were reached over a
network.

>>> from trustvlm.client import Client
>>> from trustvlm.http.app import create_app
>>> app = create_app(trustvlm.open("home", create=True))  # doctest: +SKIP
>>> with Client("http://127.0.0.1", transport=AsgiTransport(app)) as client:  # doctest: +SKIP
...     client.create_space("aerial", classifier="precomputed:512")
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from concurrent.futures import CancelledError
from typing import Any
from urllib.parse import unquote

import httpx

__all__ = ["AsgiTransport"]

Message = MutableMapping[str, Any]
App = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class AsgiTransport(httpx.BaseTransport):
    """An httpx transport for a synchronous client that calls an ASGI application, on an event loop
    of its own.

    The application receives bodies piece by piece. Its lifespan is not run, and its exceptions are
    raised here. An answer that takes longer than the request's read timeout is httpx.ReadTimeout.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="trustvlm-asgi", daemon=True
        )
        self._thread.start()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """The application's complete answer."""
        answer = asyncio.run_coroutine_threadsafe(self._answer(request), self._loop)
        try:
            return answer.result(request.extensions.get("timeout", {}).get("read"))
        except TimeoutError as error:
            if answer.done():
                raise  # by the application
            answer.cancel()
            message = "the application did not answer in time"
            raise httpx.ReadTimeout(message, request=request) from error
        except CancelledError as error:
            raise httpx.ReadError("the transport was closed", request=request) from error

    async def _answer(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        pieces = iter(request.stream)
        ended, answered = False, asyncio.Event()
        start: Message = {}
        body: list[bytes] = []
        failed: list[Exception] = []

        async def receive() -> Message:
            nonlocal ended
            if ended or failed:
                if not failed:
                    await answered.wait()
                return {"type": "http.disconnect"}
            # in a thread: the next piece may take long, or call this application
            try:
                piece = await asyncio.to_thread(next, pieces, None)
            except Exception as error:
                failed.append(error)
                return {"type": "http.disconnect"}
            ended = piece is None
            return {"type": "http.request", "body": piece or b"", "more_body": not ended}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            elif message["type"] == "http.response.body":
                body.append(message.get("body", b""))
                if not message.get("more_body", False):
                    answered.set()

        await self._app(_scope(request), receive, send)
        if failed:
            raise failed[0]
        if not start:
            message = "the application ended without an answer"
            raise httpx.RemoteProtocolError(message, request=request)
        return httpx.Response(
            start["status"], headers=start["headers"], content=b"".join(body), request=request
        )

    def close(self) -> None:
        """End the event loop; requests that are under way are cancelled."""
        if self._loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self._cancel(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._loop.shutdown_default_executor()


def _scope(request: httpx.Request) -> Message:
    path, _, query = request.url.raw_path.partition(b"?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": unquote(path.decode("ascii")),
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port),
    }
