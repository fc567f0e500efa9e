"""uvicorn's connections with a limit for headers, ended where a client stops sending headers or
stops reading its answer: uvicorn itself times only connections on which nothing is under way."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import termios
import uuid
from collections.abc import Callable
from typing import Any

from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from trustvlm.http.options import ServeOptions

ENDING_S = 5.0
"""Seconds that a client has to read its answer when the service ends."""
MOST_HEAD = 64 * 1024
"""Bytes of a request's first line and headers, and of what comes between pieces of its body."""


class ServerConfig(Config):
    """uvicorn's configuration with the options of the service: both go to worker processes."""

    def __init__(self, options: ServeOptions, **rest: Any) -> None:
        super().__init__("trustvlm.http.run:application", **rest)
        self.serve_options = options


class _Timer:
    """Calls a function once, unless it is stopped before."""

    def __init__(self, function: Callable[[], None]) -> None:
        self._function = function
        self._handle: asyncio.TimerHandle | None = None

    @property
    def running(self) -> bool:
        return self._handle is not None

    def start(self, seconds: float) -> None:
        self.stop()
        self._handle = asyncio.get_running_loop().call_later(seconds, self._end)

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _end(self) -> None:
        self._handle = None
        self._function()


class _Malformed(Exception):
    """What the parser takes, and this service does not."""


class Connection(HttpToolsProtocol):
    """One connection."""

    def __init__(self, config: Config, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        assert isinstance(config, ServerConfig)
        self._options = config.serve_options
        self._reading_s = self._options.body_s
        self._headers_timer = _Timer(self._refuse_slow_headers)
        self._answer_timer = _Timer(self._check_reading)
        self._unread_bytes = 0
        self._in_head, self._is_too_long = True, False
        self._head_bytes = self._pending_bytes = 0
        """Bytes of the headers under way; bytes received since the parser last called back."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first headers, and be called whenever bytes are left to send."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._headers_timer.start(self._options.body_s)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._headers_timer.stop()
        self._answer_timer.stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in data, and see whether headers are incomplete."""
        self._pending_bytes += len(data)
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._pending_bytes > MOST_HEAD:
            self._is_too_long = True
            self.send_400_response("")
        elif not self._answering:
            if not self._headers_timer.running:
                self._headers_timer.start(self._options.body_s)
        else:
            self._headers_timer.stop()
            if self.parser.should_upgrade():
                self.cycle.keep_alive = False  # what follows such a request is not read

    @property
    def _answering(self) -> bool:
        """Whether a request is under way."""
        return self.cycle is not None and not self.cycle.response_complete

    # What the parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_url(self, url: bytes) -> None:
        """A piece of the address."""
        super().on_url(url)
        self._count_head(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header, or a field that comes behind a body in chunks, which nothing reads."""
        if self._in_head:
            super().on_header(name, value)
        self._count_head(len(name) + len(value) + len(": \r\n"))

    def on_headers_complete(self) -> None:
        """The request can begin, if it is one of HTTP/1: in version 1.1 with one Host header."""
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts):
            raise _Malformed
        self._in_head, self._pending_bytes = False, 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request ends."""
        self._pending_bytes = 0
        self._headers_timer.stop()
        super().on_message_complete()

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MOST_HEAD:
            self._is_too_long = True
            raise _Malformed

    # Answers that are not read

    def shutdown(self) -> None:
        """Begin to end: a client that does not read its answer is given up soon."""
        self._reading_s = min(self._reading_s, ENDING_S)
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self.pause_writing()

    def pause_writing(self) -> None:
        """Bytes are left to send: see that they become fewer."""
        super().pause_writing()
        self._unread_bytes = self._count_unread()
        self._answer_timer.start(self._reading_s)

    def resume_writing(self) -> None:
        """All was sent."""
        self._answer_timer.stop()
        super().resume_writing()

    def _check_reading(self) -> None:
        """Give up a client that stopped reading, or reads too slowly."""
        unread = self._count_unread()
        if self._unread_bytes - unread < self._options.body_rate * self._reading_s:
            self.transport.abort()
            return
        self._unread_bytes = unread
        self._answer_timer.start(self._reading_s)

    def _count_unread(self) -> int:
        """Bytes of the answer in this process and in the kernel's queue."""
        descriptor = self.transport.get_extra_info("socket").fileno()
        queued = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    # What is refused before there is a request

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the one shape of every error."""
        cycle = self.cycle
        if not self._answering:
            self._refuse_head()
        elif self._in_head or self.pipeline:
            cycle.keep_alive = False  # a request before it is answered, and nothing else
        else:
            cycle.disconnected = True  # within a body: nobody waits for its answer
            cycle.message_event.set()
            if cycle.response_started:
                self.transport.close()
            else:
                self._refuse_head()

    def _refuse_head(self) -> None:
        if self._is_too_long:
            limit = f"expected at most {MOST_HEAD} bytes of address and headers, got more"
            self._refuse(431, "TooLarge", f"{limit}; shorten them, such as a filter in the address")
            return
        expected = (
            "expected a request of HTTP/1.1 with one Host header and at most one length of its "
            "body, got something else"
        )
        self._refuse(400, "InvalidInput", expected)

    def _refuse_slow_headers(self) -> None:
        if not self.transport.is_closing():
            limit = f"{self._options.body_s:g} s (setting serve_body_s)"
            self._refuse(408, "TooSlow", f"the headers of a request did not arrive within {limit}")

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Answer before there is a request, and close."""
        request_id = uuid.uuid4().hex
        error = {"kind": kind, "message": message, "request_id": request_id}
        body = json.dumps({"error": error}).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(body)),
            "connection": "close",
            "x-request-id": request_id,
            "x-content-type-options": "nosniff",
        }
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self.transport.write(STATUS_LINE[status] + lines.encode() + b"\r\n" + body)
        self.transport.close()
