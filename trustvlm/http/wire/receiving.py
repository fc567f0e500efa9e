"""Request bodies that are being received: how fast each must arrive, how many there may be at once,
and how long the service waits for them when it ends.

A request does no work while it waits for its body. It therefore does not count towards the limit of
requests under way, and cannot keep others out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.types import Message, Receive

from trustvlm.errors import Overloaded, TooSlow, TrustVLMError
from trustvlm.http.options import ServeOptions

LEAVING_S = 3.0
"""Seconds that the service waits for the rest of a body when it is asked to end."""

_YOUNG_S = 1.0
"""Seconds that the service waits for a body before it may end it to make room for another one."""


class Cut(Protocol):
    """Ends a request with an error."""

    def __call__(self, error: TrustVLMError) -> None: ...


class Bodies:
    """All bodies that this process is receiving. Only the event loop's thread uses it."""

    def __init__(self, options: ServeOptions) -> None:
        self.options = options
        self._under_way: dict[Body, None] = {}
        self._closing = False

    def begin(self, cut: Cut) -> Body:
        """Begin to receive a body; `cut` ends its request.

        Raises:
            Overloaded: as many bodies as allowed are being received, and each arrives fast enough.
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
        """End the request whose body arrives most slowly; False: the service has waited less than
        :data:`_YOUNG_S` for it, and it goes on."""
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
        """Begin to end: wait at most :data:`LEAVING_S` more seconds for each body."""
        self._closing = True
        for body in self._under_way:
            body.hurry()


class Body:
    """The body of one request.

    The service counts the seconds that it waits for the body. In each window of `most_s` such
    seconds, `most_s` × `rate` bytes (at least one) must arrive, or the end of the body. Otherwise
    `cut` ends the request.
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
        """Seconds that the service has waited for this body."""
        return self._before_s + (
            0.0 if self._timer is None else asyncio.get_running_loop().time() - self._since
        )

    async def next(self, receive: Receive) -> Message:
        """Receive the next piece; the request ends if it takes too long to arrive."""
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
        """Wait at most :data:`LEAVING_S` more seconds for the rest."""
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
        """Wait for nothing more."""
        self._ended(self)
