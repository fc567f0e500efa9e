"""What every request goes through first, and every response last.

Request ids, the origin check, limits on what is in flight, security headers, the log line; and the
client that leaves: its request is cancelled, unless the answer has begun.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trustvlm.errors import Overloaded, TooLarge, TrustVLMError, UnsupportedType
from trustvlm.http.guard.addressed import check_origin, routed_path
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.options import ServeOptions
from trustvlm.http.wire.problems import REQUEST_ID, kind_of, of_error, unexpected
from trustvlm.http.wire.receiving import Bodies, Body

__all__ = ["Gate"]

log = logging.getLogger("trustvlm.http")

WATCHED = ("/healthz", "/readyz", "/metrics")
"""Paths for monitoring, answered under any load."""

CALL_ID = b"x-call-id"
"""A header that is returned unchanged: a client recognizes its own answers by it where a proxy
changes request ids."""

STREAMED = re.compile(r"/v1/spaces/[^/]+/imports$")
"""Bodies that are read as they come, so that they may be of any size."""

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: "
    "data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Gate:
    """The outermost ASGI application."""

    def __init__(self, app: ASGIApp, options: ServeOptions, meters: Meters, bodies: Bodies) -> None:
        self.app, self.options, self.meters, self.bodies = app, options, meters, bodies
        self.in_flight = 0
        self.body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        passage = _Passage(self, scope, receive, send)
        self.in_flight += 1
        try:
            await passage.go()
        finally:
            self.in_flight -= 1
            self.body_bytes -= passage.held
            passage.end()
            passage.note()


class _Passage:
    """One request on its way."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate, self.scope, self._receive, self._send = gate, scope, receive, send
        self.headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        given = self.headers.get(REQUEST_ID.encode(), "")
        self.id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        self.state: MutableMapping[str, Any] = scope.setdefault("state", {})
        self.state["request_id"] = self.id
        self.begin = time.perf_counter()
        self.status = 0
        self.received = self.sent = self.held = 0
        self.body_ended = asyncio.Event()
        self.gone = asyncio.Event()
        self.method: str = scope["method"]
        if self.method == "HEAD":  # answered as GET, but for the body
            self.scope = {**scope, "method": "GET"}
        self._body: Body | None = None
        self._work: asyncio.Future[None] | None = None
        self._cut: TrustVLMError | None = None

    async def go(self) -> None:
        """Let the request through, or refuse it; whatever happens, something of the one shape is
        answered."""
        try:
            self._admit()
            await self._until_gone()
        except TrustVLMError as error:
            self.state["error"] = kind_of(error)
            await self._answer(of_error(self.id, error))
        except ClientDisconnect:
            self.state["error"] = "ClientLeft"
        except Exception as error:
            self.state["error"] = "Unexpected"
            await self._answer(unexpected(self.id, error))

    async def _answer(self, response: ASGIApp) -> None:
        if not self.status:
            await response(self.scope, self._receive, self.send)

    def _admit(self) -> None:
        options = self.gate.options
        self.scope["path"] = routed_path(
            self.scope.get("raw_path") or self.scope["path"].encode(), options.root_path
        )
        if self.gate.in_flight > options.in_flight and self.scope["path"] not in WATCHED:
            raise Overloaded(f"{options.in_flight} requests are under way already; try again")
        check_origin(self.scope["headers"], require_key=options.require_key)
        coding = self.headers.get(b"content-encoding", "identity").strip().lower()
        if coding != "identity" and self.method not in ("GET", "HEAD", "OPTIONS"):
            raise UnsupportedType(
                f"content-encoding: expected none, got {coding[:80]!r}; send the body as it is"
            )
        length = self.headers.get(b"content-length", "0")
        if not self._streamed and length.isdigit() and int(length) > options.body_bytes:
            most = f"{options.body_bytes} (setting serve_body_bytes)"
            raise TooLarge(f"the body has {int(length)} bytes, more than the limit of {most}")

    @property
    def _streamed(self) -> bool:
        return STREAMED.search(self.scope["path"]) is not None

    async def _until_gone(self) -> None:
        """Run the application; stop it when the client leaves before the answer has begun."""
        if self.scope["method"] in ("GET", "OPTIONS"):
            self.body_ended.set()
        work = self._work = asyncio.ensure_future(
            self.gate.app(self.scope, self.receive, self.send)
        )
        watch = asyncio.ensure_future(self._watch(work))
        try:
            await work
        except asyncio.CancelledError:
            if self._cut is not None:
                raise self._cut from None
            if not self.gone.is_set():
                work.cancel()
                raise
            self.state["error"] = "ClientLeft"
        finally:
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch

    async def _watch(self, work: asyncio.Future[None]) -> None:
        await self.body_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone.set()
        if not self.status:
            work.cancel()

    async def receive(self) -> Message:
        """What the application reads: the body, as far as the limits go."""
        if self.body_ended.is_set():
            if self.scope["method"] in ("GET", "OPTIONS") and not self.received:
                self.received = -1
                return {"type": "http.request", "body": b"", "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}
        if self._body is None:
            self._body = self.gate.bodies.begin(self.cut, streamed=self._streamed)
        self.gate.in_flight -= 1  # as long as it waits for its client, it does nothing
        try:
            message = await self._body.next(self._receive)
        finally:
            self.gate.in_flight += 1
        if message["type"] == "http.disconnect":
            self.gone.set()
            self.body_ended.set()
            return message
        self._count(len(message.get("body", b"")))
        if not message.get("more_body", False):
            self.body_ended.set()
        return message

    def cut(self, error: TrustVLMError) -> None:
        """End the request with this error, wherever it is."""
        if self._work is not None and not self._work.done():
            self._cut = error
            self._work.cancel()

    def end(self) -> None:
        """Nothing more is received."""
        if self._body is not None:
            self._body.end()

    def _count(self, size: int) -> None:
        self.received += size
        if self._streamed:
            return
        options = self.gate.options
        if self.received > options.body_bytes:
            raise TooLarge(
                f"the body has more than {options.body_bytes} bytes, the limit (setting "
                f"serve_body_bytes)"
            )
        self.held += size
        self.gate.body_bytes += size
        if self.gate.body_bytes > options.bodies_bytes and not self.gate.bodies.make_room():
            raise Overloaded("the requests under way hold as much memory as they may; try again")

    async def send(self, message: Message) -> None:
        """What the application answers, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message.get("headers", []),
                *HEADERS,
                (REQUEST_ID.encode(), self.id.encode()),
            ]
            if _ID.fullmatch(call := self.headers.get(CALL_ID, "")):
                headers.append((CALL_ID, call.encode()))
            if not any(key.lower() == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            if self.method == "HEAD":
                message = {**message, "body": b""}
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def note(self) -> None:
        """Measure and log it."""
        seconds = time.perf_counter() - self.begin
        route = getattr(self.scope.get("route"), "path", "unknown")
        status = str(self.status or 499)
        method = self.method if self.method in METHODS else "other"
        self.gate.meters.requests.labels(route, method, status).observe(seconds)
        error = self.state.get("error")
        if error is not None:
            self.gate.meters.refused.labels(error).inc()
        caller = self.state.get("caller")
        client = str((self.scope.get("client") or [""])[0])[:100] or None
        extra = {
            "request_id": self.id, "client": client, "method": self.method, "route": route,
            "status": int(status),
            "ms": round(1000 * seconds, 2), "space": self.scope.get("path_params", {}).get("space"),
            "key": getattr(caller, "key", None) or None, "bytes_in": max(self.received, 0),
            "bytes_out": self.sent,
            "error": error,
        }  # fmt: skip
        log.info("request", extra=extra)
