"""Bodies on their way: how fast each must move, how many there may be at once, and what becomes of
them when the service ends.

A request whose body is still to come does no work, so that it counts as none of those under way: it
must not keep others out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.types import Message, Receive

from trustvlm.errors import Overloaded, TooSlow, TrustVLMError
from trustvlm.http.options import ServeOptions

__all__ = ["Bodies", "Body"]

LEAVING_S = 3.0
"""Seconds that the service waits for the rest of a body when it is asked to end."""

_YOUNG_S = 1.0
"""Seconds of waiting before which a body is not ended to make room for others."""


class Cut(Protocol):
    """Ends a request with an error."""

    def __call__(self, error: TrustVLMError) -> None: ...


class Bodies:
    """All that one process receives. Used by the event loop's thread only."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self._under_way: dict[Body, None] = {}
        self._closing = False

    def begin(self, cut: Cut) -> Body:
        """A new one; `cut` ends its request.

        Raises:
            Overloaded: there are as many as allowed, and all of them arrive fast enough.
        """
        most = self.options.in_flight
        if len(self._under_way) >= most and not self.make_room():
            raise Overloaded(f"{most} request bodies are being received already; try again")
        body = Body(self.options.body_s, self.options.body_rate, cut, self._ended)
        self._under_way[body] = None
        if self._closing:
            body.hurry()
        return body

    def make_room(self) -> bool:
        """Cut the body that moves slowest; whether there was one to cut."""
        slowest = min(
            self._under_way, key=lambda body: body.received / max(body.waited, 1e-3), default=None
        )
        if slowest is None or slowest.waited < _YOUNG_S:
            return False
        slowest.cut(
            TooSlow(
                "the body arrives more slowly than all others, and new requests need its place; "
                "try again"
            )
        )
        return True

    def _ended(self, body: Body) -> None:
        self._under_way.pop(body, None)

    def leave(self) -> None:
        """The service ends: wait for each body for :data:`LEAVING_S` seconds more at most."""
        self._closing = True
        for body in self._under_way:
            body.hurry()


class Body:
    """One request's body.

    Within each `most_s` seconds that the service waits for it, `most_s` × `rate` bytes of it (one
    at least) or its end must come.
    """

    def __init__(self, most_s: float, rate: float, cut: Cut, ended: Callable[[Body], None]) -> None:
        self._most_s, self._enough, self._cut, self._ended = (
            most_s,
            max(1.0, most_s * rate),
            cut,
            ended,
        )
        self._window_bytes, self._window_s = 0, 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._latest: float | None = None
        self._before_s, self._since = 0.0, 0.0
        self.received = 0

    @property
    def waited(self) -> float:
        """Seconds that the service has waited for it."""
        return self._before_s + (
            0.0 if self._timer is None else asyncio.get_running_loop().time() - self._since
        )

    async def next(self, receive: Receive) -> Message:
        """Its next piece; the request is cut where that takes too long."""
        self._since = asyncio.get_running_loop().time()
        self._wait()
        try:
            message = await receive()
        finally:
            took = self.waited - self._before_s
            self._before_s += took
            self._window_s += took
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        size = len(message.get("body", b""))
        self.received += size
        self._window_bytes += size
        if self._window_bytes >= self._enough:
            self._window_bytes, self._window_s = 0, 0.0
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.end()
        return message

    def hurry(self) -> None:
        """Wait for it :data:`LEAVING_S` seconds more at most."""
        self._latest = self.waited + LEAVING_S
        if self._timer is not None:
            self._timer.cancel()
            self._wait()

    def _wait(self) -> None:
        left = self._most_s - self._window_s - (self.waited - self._before_s)
        late = left if self._latest is None else self._latest - self.waited
        after = self._stalled if left <= late else self._too_late
        self._timer = asyncio.get_running_loop().call_later(max(0.0, min(left, late)), after)

    def _too_late(self) -> None:
        self.cut(Overloaded("the service is shutting down; try again"))

    def _stalled(self) -> None:
        expected = (
            f"expected {self._enough:g} bytes or its end within {self._most_s:g} s, got "
            f"{self._window_bytes}"
        )
        self.cut(
            TooSlow(
                f"the body arrives too slowly: {expected} (settings serve_body_s, serve_body_rate)"
            )
        )

    def cut(self, error: TrustVLMError) -> None:
        """End the request with this error."""
        self.end()
        self._cut(error)

    def end(self) -> None:
        """Nothing more is waited for."""
        self._ended(self)
