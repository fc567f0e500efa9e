"""Keys of requests: which routes and spaces they open, and how often they may be used."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from trustvlm.errors import Forbidden, TooMany, Unauthorized
from trustvlm.service.server.api_keys import SCOPES
from trustvlm.service.server.server_home import ServerHome

__all__ = ["LOCAL", "Caller", "Keyring", "Scope"]

KEY_HEADER = "x-api-key"
"""Holds the key alone; a request that has it is not read for its Authorization header."""

_MAX_BUCKETS = 10_000


@dataclass(frozen=True)
class Caller:
    """The sender of a request: its key's id (empty without one), scope, space and rate."""

    key: str
    scope: str
    space: str | None = None
    rate: float | None = None

    def may(self, scope: str) -> bool:
        """Whether the caller's scope covers `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


LOCAL = Caller("", "admin")
"""The caller of a service that is bound to loopback and needs no key."""


class Keyring:
    """Finds the caller of a request by its key, and limits how often each key is used."""

    def __init__(self, home: ServerHome, *, required: bool, rate: float, workers: int) -> None:
        self._home, self._required, self._rate, self._workers = home, required, rate, workers
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()

    def without_key(self) -> Caller:
        """The caller of a request without a key. Raises Unauthorized: a key is needed."""
        if self._required:
            raise Unauthorized(
                "a key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY' "
                "('trustvlm key create' makes one)"
            )
        return LOCAL

    def check(self, header: str) -> Caller:
        """The caller whose key the Authorization header holds. Raises Unauthorized: it is no valid
        key."""
        kind, _, key = header.partition(" ")
        record = self._home.use_key(key.strip()) if kind.lower() == "bearer" else None
        if record is None:
            raise Unauthorized("the key is unknown, revoked or expired")
        return Caller(record.id, record.scope, record.space, record.rate)

    def count(self, caller: Caller) -> None:
        """Take one request from what the key may make in a second; a second's worth may come at
        once.

        Raises:
            TooMany: there is nothing left.
        """
        if not caller.key:
            return
        rate = (caller.rate or self._rate) / self._workers
        most, now = max(1.0, rate), time.monotonic()
        with self._guard:
            left, at = self._buckets.pop(caller.key, (most, now))
            left = min(most, left + (now - at) * rate)
            self._buckets[caller.key] = (left - 1 if left >= 1 else left, now)
            while len(self._buckets) > _MAX_BUCKETS:
                self._buckets.popitem(last=False)
        if left < 1:
            raise TooMany(
                f"this key may make {caller.rate or self._rate:g} requests a second; wait",
                (1 - left) / rate,
            )


class Scope:
    """A route's dependency, which runs before the body is read: the caller's key must open the
    route, and the space of its path must exist, except for the route that restores one."""

    def __init__(self, scope: str, *, space_exists: bool = True) -> None:
        self.scope, self.space_exists = scope, space_exists

    async def __call__(self, request: Request) -> None:
        serving = request.app.state.serving
        key = request.headers.get(KEY_HEADER)  # the other one may be the proxy's in front
        header = request.headers.get("authorization") if key is None else f"Bearer {key}"
        if header is None:
            caller = serving.keyring.without_key()
        else:
            caller = await serving.checking.run(lambda: serving.keyring.check(header))
        request.state.caller = caller
        if not caller.may(self.scope):
            raise Forbidden(
                f"this needs a key of scope {self.scope!r}; the scope of this one is "
                f"{caller.scope!r}"
            )
        space = request.path_params.get("space")
        if caller.space is not None and space is not None and caller.space != space:
            raise Forbidden(f"this key opens the space {caller.space!r} only")
        serving.keyring.count(caller)
        if space is not None and self.space_exists:
            await serving.require_space(space)
