"""The outermost ASGI application: request ids, origin check, limits of load, security headers, log
line; and the request of a client that leaves is cancelled, unless its answer has begun."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from contextlib import suppress

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trustvlm.errors import Overloaded, TooLarge, TrustVLMError
from trustvlm.http.guard.addressed import check_origin, routed_path
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.guard.tracing import Spans
from trustvlm.http.options import ServeOptions
from trustvlm.http.wire.compression import Unpacked, unpacking
from trustvlm.http.wire.problems import REQUEST_ID, kind_of, of_error, unexpected
from trustvlm.http.wire.receiving import Bodies, Body
from trustvlm.service.server.server_home import ServerHome

log = logging.getLogger("trustvlm.http")

PROBES = ("/healthz", "/readyz")
WATCHED = (*PROBES, "/metrics")
"""Paths for monitoring, answered under any load; they have no spans."""

CALL_ID = b"x-call-id"
"""Returned unchanged: a client recognizes its answers by it where a proxy changes request ids."""

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
BODILESS = ("GET", "HEAD", "OPTIONS")
METHODS = ("GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT")
WATCH_AFTER_S = 0.25
"""Seconds after which the service watches whether the client of a request has left: most requests
are answered before, and need no task for it."""
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_TRACE = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}")
"""The header traceparent of W3C Trace Context, version 00."""


class Gate:
    """Guards every request, and counts what all of them hold."""

    def __init__(
        self,
        app: ASGIApp,
        options: ServeOptions,
        meters: Meters,
        bodies: Bodies,
        home: ServerHome,
        spans: Spans | None = None,
    ) -> None:
        self.app, self.options, self.meters, self.bodies = app, options, meters, bodies
        self.home, self.spans = home, spans
        self.in_flight = 0
        self.body_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        guard = RequestGuard(self, scope, receive, send)
        self.in_flight += 1
        try:
            await guard.handle()
        finally:
            self.in_flight -= 1
            self.body_bytes -= guard.body_bytes
            guard.close()


class RequestGuard:
    """One request: checks it, passes it to the application, limits its body and completes its
    answer."""

    def __init__(self, gate: Gate, scope: Scope, receive: Receive, send: Send) -> None:
        self.gate, self.options = gate, gate.options
        self._receive, self._send = receive, send
        self.headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        request_id = self.headers.get(REQUEST_ID.encode(), "")
        self.id = request_id if _ID.fullmatch(request_id) else f"{random.getrandbits(128):032x}"
        self.method: str = scope["method"]
        self.bodiless = self.method in BODILESS
        # HEAD is answered as GET, without the body of the answer
        self.scope = {**scope, "method": "GET"} if self.method == "HEAD" else scope
        self.state = self.scope.setdefault("state", {})
        self.state["request_id"] = self.id
        self.status = self.received = self.sent = 0
        self.body_bytes = 0
        """Bytes of the body that count against the memory of all bodies."""
        self._begin = time.perf_counter()
        watched = scope["path"].removeprefix(self.options.root_path) in WATCHED
        self._span = (
            gate.spans.begin(self.method, self.headers) if gate.spans and not watched else None
        )
        self._body: Body | None = None
        self._unpacked: Unpacked | None = None
        self._body_ended, self._client_left = asyncio.Event(), asyncio.Event()
        self._work: asyncio.Task[None] | None = None
        """The task of the request while the application runs in it."""
        self._watch: asyncio.Task[None] | None = None
        self._abort_error: TrustVLMError | None = None

    async def handle(self) -> None:
        """Answer the request: by the application, or with the error that stopped it."""
        try:
            self._check()
            await self._run()
        except TrustVLMError as error:
            self.state["error"] = kind_of(error)
            await self._answer(of_error(self.id, error, self.gate.home))
        except ClientDisconnect:
            self.state["error"] = "ClientLeft"
        except Exception as error:
            self.state["error"] = "Unexpected"
            await self._answer(unexpected(self.id, error))

    def close(self) -> None:
        """Receive nothing more, measure the request and log it."""
        if self._body is not None:
            self._body.end()
        self._measure()

    async def _answer(self, response: ASGIApp) -> None:
        if not self.status:
            await response(self.scope, self._receive, self._complete_answer)

    def _check(self) -> None:
        """Raises an error of the tree: the request is refused before its body is read."""
        raw_path = self.scope.get("raw_path") or self.scope["path"].encode()
        path = self.scope["path"] = routed_path(raw_path, self.options.root_path)
        if self.gate.in_flight > self.options.in_flight and path not in WATCHED:
            raise Overloaded(f"{self.options.in_flight} requests are under way already; try again")
        check_origin(
            self.scope["headers"], require_key=self.options.require_key, probe=path in PROBES
        )
        if not self.bodiless:
            coding = self.headers.get(b"content-encoding", "identity")
            self._unpacked = unpacking(coding, self.options.body_bytes)
        length = self.headers.get(b"content-length", "0")
        if length.isdigit() and int(length) > self.options.body_bytes:
            limit = f"{self.options.body_bytes} (setting serve_body_bytes)"
            raise TooLarge(f"the body has {int(length)} bytes, more than the limit of {limit}")

    async def _run(self) -> None:
        """Run the application; cancel it when the client leaves before the answer has begun."""
        if self.bodiless:
            self._body_ended.set()
        self._work = work = asyncio.current_task()
        assert work is not None
        later = asyncio.get_running_loop().call_later(WATCH_AFTER_S, self._watch_client)
        try:
            await self.gate.app(self.scope, self._next_message, self._complete_answer)
        except asyncio.CancelledError:
            if self._abort_error is None and not self._client_left.is_set():
                raise
            work.uncancel()
            if self._abort_error is not None:
                raise self._abort_error from None
            self.state["error"] = "ClientLeft"
        finally:
            self._work = None
            later.cancel()
            if self._watch is not None:
                self._watch.cancel()
                with suppress(asyncio.CancelledError):
                    await self._watch

    def _watch_client(self) -> None:
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._cancel_when_left())

    async def _cancel_when_left(self) -> None:
        await self._body_ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._client_left.set()
        if not self.status and self._work is not None:
            self._work.cancel()

    def _abort(self, error: TrustVLMError) -> None:
        """End the request with this error, wherever it is."""
        if self._work is not None:
            self._abort_error = error
            self._work.cancel()

    async def _next_message(self) -> Message:
        """The next piece of the body, for the application; then that the client has left."""
        if self._body_ended.is_set():
            if self.bodiless and not self.received:
                self.received = -1
                return {"type": "http.request", "body": b"", "more_body": False}
            self._watch_client()
            await self._client_left.wait()
            return {"type": "http.disconnect"}
        message = await self._receive_piece()
        if message["type"] == "http.disconnect":
            self._client_left.set()
        else:
            if self._unpacked is not None:
                last = not message.get("more_body", False)
                body = self._unpacked.piece(message.get("body", b""), last=last)
                message = {**message, "body": body}
            self._count(len(message.get("body", b"")))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._body_ended.set()
        return message

    async def _receive_piece(self) -> Message:
        """A request that waits for its client does no work: it is not counted as in flight."""
        if self._body is None:
            self._body = self.gate.bodies.begin(self._abort)
        self.gate.in_flight -= 1
        try:
            return await self._body.next(self._receive)
        finally:
            self.gate.in_flight += 1

    def _count(self, size: int) -> None:
        """Raises TooLarge or Overloaded: the body, or all bodies together, exceed the limits."""
        self.received += size
        if self.received > self.options.body_bytes:
            raise TooLarge(
                f"the body has more than {self.options.body_bytes} bytes, the limit (setting "
                f"serve_body_bytes)"
            )
        self.body_bytes += size
        self.gate.body_bytes += size
        exceeded = self.gate.body_bytes > self.options.bodies_bytes
        if exceeded and not self.gate.bodies.make_room():
            raise Overloaded("the requests under way hold as much memory as they may; try again")

    async def _complete_answer(self, message: Message) -> None:
        """Send a message of the answer, with the headers that every answer has."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [
                *message.get("headers", []),
                *HEADERS,
                (REQUEST_ID.encode(), self.id.encode()),
            ]
            if _ID.fullmatch(call_id := self.headers.get(CALL_ID, "")):
                headers.append((CALL_ID, call_id.encode()))
            if not any(key.lower() == b"cache-control" for key, _ in headers):
                headers.append((b"cache-control", b"no-store"))
            message = {**message, "headers": headers}
        elif message["type"] == "http.response.body":
            if self.method == "HEAD":
                message = {**message, "body": b""}
            self.sent += len(message.get("body", b""))
        await self._send(message)

    def _measure(self) -> None:
        """Add the request to the metrics and the log."""
        seconds = time.perf_counter() - self._begin
        route = getattr(self.scope.get("route"), "path", "unknown")
        status = self.status or 499
        method = self.method if self.method in METHODS else "other"
        error = self.state.get("error")
        space = self.scope.get("path_params", {}).get("space")
        trace = _TRACE.fullmatch(self.headers.get(b"traceparent", ""))
        trace_id, parent = (trace[1], trace[2]) if trace else (None, None)
        if self._span is not None:
            trace_id, _ = self._span.ids
            facts = {"trustvlm.request_id": self.id, "trustvlm.space": space, "error.type": error}
            self._span.end(method, route, status, facts)
        requests = self.gate.meters.requests.labels(route, method, str(status))
        requests.observe(seconds, None if trace_id is None else {"trace_id": trace_id})
        if error is not None:
            self.gate.meters.refused.labels(error).inc()
        extra = {
            "request_id": self.id,
            "trace_id": trace_id,
            "parent_span": parent,
            "client": str((self.scope.get("client") or [""])[0])[:100] or None,
            "method": self.method,
            "route": route,
            "status": status,
            "ms": round(1000 * seconds, 2),
            "space": space,
            "key": getattr(self.state.get("caller"), "key", None) or None,
            "bytes_in": max(self.received, 0),
            "bytes_out": self.sent,
            "error": error,
        }
        log.info("request", extra=extra)
