"""uvicorn's connections, ended where a client stops sending headers or stops reading its answer:
uvicorn itself times only connections on which nothing is under way."""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import termios
import uuid
from collections.abc import Callable
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from trustvlm.http.options import ServeOptions

__all__ = ["Connection", "ServerConfig"]

ENDING_S = 5.0
"""Seconds that a client has to read its answer when the service ends."""


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


class Connection(H11Protocol):
    """One connection."""

    def __init__(self, config: Config, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        assert isinstance(config, ServerConfig)
        self._options = config.serve_options
        self._reading_s = self._options.body_s
        self._headers_timer = _Timer(self._refuse_slow_headers)
        self._answer_timer = _Timer(self._check_reading)
        self._unread_bytes = 0

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
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._headers_timer.stop()
        elif not self._headers_timer.running and self.conn.trailing_data[0]:
            self._headers_timer.start(self._options.body_s)

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

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the one shape of every error."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True  # within a body: nobody waits for its answer
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            expected = "expected an HTTP/1.1 request with one Host header, got something else"
            self._refuse(400, "InvalidInput", expected)
        else:
            self.transport.close()

    def _refuse_slow_headers(self) -> None:
        if not self.transport.is_closing():
            limit = f"{self._options.body_s:g} s (setting serve_body_s)"
            self._refuse(408, "TooSlow", f"the headers of a request did not arrive within {limit}")

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
        start = h11.Response(status_code=status, headers=list(headers.items()))
        for event in (start, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
