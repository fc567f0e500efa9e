"""Connections: uvicorn's own, that end where a client stops sending its headers, or stops reading
its answer.

uvicorn waits for either for ever: it times only connections on which nothing is under way.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import sys
import termios
import uuid
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from trustvlm.http.options import ServeOptions

__all__ = ["Connection", "ServerConfig"]

ENDING_S = 5.0
"""Seconds that a client has to read its answer when the service ends."""


class ServerConfig(Config):
    """uvicorn's configuration, with ours beside it: both go to worker processes."""

    def __init__(self, options: ServeOptions, **rest: Any) -> None:
        super().__init__("trustvlm.http.run:application", **rest)
        self.serve_options = options


class Connection(H11Protocol):
    """One connection."""

    def __init__(self, config: Config, *rest: Any, **named: Any) -> None:
        super().__init__(config, *rest, **named)
        assert isinstance(config, ServerConfig)
        self._options = config.serve_options
        self._reading_s = self._options.body_s
        self._headers_timer: asyncio.TimerHandle | None = None
        self._answer_timer: asyncio.TimerHandle | None = None
        self._left = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first headers, and be told whenever something is left to send."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)
        self._await_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._unset(headers=True, answer=True)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take in what came, and see whether headers are still to come."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.conn.their_state is not h11.IDLE:
            self._unset(headers=True)
        elif self._headers_timer is None and self.conn.trailing_data[0]:
            self._await_headers()

    def shutdown(self) -> None:
        """Begin to end: an answer that is not read is given up soon."""
        self._reading_s = min(self._reading_s, ENDING_S)
        super().shutdown()
        if self.transport.get_write_buffer_size():
            self.pause_writing()

    def pause_writing(self) -> None:
        """Something is left to send: see that it becomes less."""
        super().pause_writing()
        self._unset(answer=True)
        self._left = self._outstanding()
        self._answer_timer = self.loop.call_later(self._reading_s, self._unread)

    def resume_writing(self) -> None:
        """All was sent."""
        self._unset(answer=True)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP, in the one shape of every error."""
        if (
            self.cycle is not None and not self.cycle.response_complete
        ):  # in the middle of a body: nobody waits for its answer
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._refuse(
                400,
                "InvalidInput",
                "expected an HTTP/1.1 request with one Host header, got something else",
            )
        else:
            self.transport.close()

    def _await_headers(self) -> None:
        self._headers_timer = self.loop.call_later(self._options.body_s, self._no_headers)

    def _no_headers(self) -> None:
        self._headers_timer = None
        if not self.transport.is_closing():
            most = f"{self._options.body_s:g} s (setting serve_body_s)"
            self._refuse(408, "TooSlow", f"the headers of a request did not arrive within {most}")

    def _unread(self) -> None:
        """Give a client up that reads no more, or too slowly."""
        left = self._outstanding()
        if self._left - left < self._options.body_rate * self._reading_s:
            self.transport.abort()
            return
        self._left = left
        self._answer_timer = self.loop.call_later(self._reading_s, self._unread)

    def _outstanding(self) -> int:
        """Bytes that the client has not taken: those that wait here, and those that the kernel
        holds for it."""
        queued = fcntl.ioctl(
            self.transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4)
        )
        return self.transport.get_write_buffer_size() + int.from_bytes(queued, sys.byteorder)

    def _refuse(self, status: int, kind: str, message: str) -> None:
        """Answer before there is a request, and close."""
        request_id = uuid.uuid4().hex
        body = json.dumps(
            {"error": {"kind": kind, "message": message, "request_id": request_id}}
        ).encode()
        headers = [
            (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff"),
        ]  # fmt: skip
        for event in (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def _unset(self, *, headers: bool = False, answer: bool = False) -> None:
        if headers and self._headers_timer is not None:
            self._headers_timer.cancel()
            self._headers_timer = None
        if answer and self._answer_timer is not None:
            self._answer_timer.cancel()
            self._answer_timer = None
