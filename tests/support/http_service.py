"""The HTTP service in this process, through the ASGI transport: real routes over a real home, for
one request or many."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from waiting import until

import trustvlm
from trustvlm.http.app import ROUTERS, create_app
from trustvlm.http.options import ServeOptions

BASE = "http://127.0.0.1"


class Http:
    """A service and clients of it, on an event loop of their own."""

    def __init__(self, home: Path, options: ServeOptions) -> None:
        self.app = create_app(trustvlm.open(home, create=True, workers=0), options)
        self.serving = self.app.state.serving
        until(lambda: self.serving.loaded, pause=0.001)
        self.service: trustvlm.TrustService = self.serving.service
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.client = self.run(self._client)

    async def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(app=self.app), base_url=BASE, timeout=60
        )

    def run(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """What a coroutine function returns."""

        async def within() -> Any:
            return await work()

        return asyncio.run_coroutine_threadsafe(within(), self._loop).result(120)

    def ask(
        self,
        method: str,
        path: str,
        *,
        status: int | None = 200,
        key: str | None = None,
        **options: Any,
    ) -> httpx.Response:
        """What the service answers; it must be that status (None: any), and an error must have the
        one shape."""
        if key is not None:
            options["headers"] = {"authorization": f"Bearer {key}"} | dict(
                options.get("headers", {})
            )
        response: httpx.Response = self.run(lambda: self.client.request(method, path, **options))
        check(response, status)
        return response

    def __call__(self, method: str, path: str, *, status: int | None = 200, **options: Any) -> Any:
        """Its JSON."""
        return self.ask(method, path, status=status, **options).json()

    def together(self, requests: list[dict[str, Any]]) -> list[httpx.Response]:
        """The answers to requests that are made at the same time."""

        async def work() -> list[httpx.Response]:
            return await asyncio.gather(*(self.client.request(**request) for request in requests))

        return self.run(work)

    async def raw(
        self, path: str, content_type: str, pieces: Iterable[bytes], gone: asyncio.Event
    ) -> list[dict[str, Any]]:
        """What is sent in answer to a POST whose client sends `pieces` and leaves when `gone` is
        set, done or not."""
        sent: list[dict[str, Any]] = []
        messages = iter(
            [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        )

        async def receive() -> dict[str, Any]:
            message = next(messages, None)
            if message is not None:
                return message
            if not ended:
                ended.append(True)
                if not gone.is_set():
                    return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        ended: list[bool] = []
        scope = {
            "type": "http", "method": "POST", "path": path, "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"host", b"127.0.0.1"), (b"content-type", content_type.encode())],
            "scheme": "http",
            "http_version": "1.1", "server": ("127.0.0.1", 80), "client": ("127.0.0.1", 1),
            "root_path": "",
        }  # fmt: skip
        await self.app(scope, receive, send)
        return sent

    def job(
        self, answer: dict[str, Any], seconds: float = 60, key: str | None = None
    ) -> dict[str, Any]:
        """A job at its end."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            found: dict[str, Any] = self("GET", f"/v1/jobs/{answer['id']}", key=key)
            if found["state"] not in ("queued", "running"):
                return found
            time.sleep(0.02)
        raise AssertionError(f"the job has not ended: {found}")

    def close(self) -> None:
        self.run(self.client.aclose)
        self.serving.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def routes() -> list[Any]:
    """Every route of the application."""
    return [route for module in ROUTERS for route in module.router.routes]


def check(response: httpx.Response, status: int | None = None) -> None:
    """What is true of every answer."""
    if status is not None:
        assert response.status_code == status, (
            f"{response.request.method} {response.request.url}: {response.text}"
        )
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "'unsafe" not in response.headers["content-security-policy"]
    if response.status_code >= 400:
        error = response.json()["error"]
        assert set(error) == {"kind", "message", "request_id"}
        assert error["request_id"] == response.headers["x-request-id"]
        assert error["message"]
        assert "Traceback" not in response.text


@contextmanager
def served(home: Path, **options: Any) -> Iterator[Http]:
    """The service over a home."""
    http = Http(home, ServeOptions(**options))
    try:
        yield http
    finally:
        http.close()
