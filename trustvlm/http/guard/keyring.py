"""Who is asking: keys, what they open, and how often they may."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass

from fastapi import Request

from trustvlm.errors import Forbidden, TooMany, Unauthorized
from trustvlm.service import TrustService
from trustvlm.service.server.keys import SCOPES, matches, parse_key

__all__ = ["LOCAL", "Caller", "Keyring", "Scope"]

REMEMBERED_S = 5.0
"""A key that was found good is looked up again after so long: until then a revoked one still
opens."""

KEY_HEADER = "x-api-key"
"""Holds the key alone; where it comes, the Authorization header is not looked at."""

_MOST = 10_000


@dataclass(frozen=True)
class Caller:
    """Who asks: a key's id (empty without one), scope, space and rate."""

    key: str
    scope: str
    space: str | None = None
    rate: float | None = None

    def may(self, scope: str) -> bool:
        """Whether the caller's scope covers `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


LOCAL = Caller("", "admin")
"""Whoever reaches a service that is bound to loopback and asks for no key."""


class Keyring:
    """Checks keys against the home, remembering good ones briefly: the check alone takes 40 ms, by
    intention."""

    def __init__(self, service: TrustService, *, required: bool, rate: float, workers: int) -> None:
        self._service, self._required, self._rate, self._workers = service, required, rate, workers
        self._good: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._guard = threading.Lock()
        self._checks = threading.BoundedSemaphore(2)  # 16 MB each

    def remembered(self, header: str | None) -> Caller | None:
        """The caller, when nothing needs to be looked up.

        Raises:
            Unauthorized: there is no key, and one is needed.
        """
        if header is None:
            if self._required:
                raise Unauthorized(
                    "a key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY' "
                    "('trustvlm key create' makes one)"
                )
            return LOCAL
        with self._guard:
            until, caller = self._good.get(_digest(header), (0.0, LOCAL))
        return caller if time.monotonic() < until else None

    def check(self, header: str) -> Caller:
        """The caller whose key the Authorization header holds.

        Raises:
            Unauthorized: it is no valid key.
        """
        kind, _, text = header.partition(" ")
        parsed = parse_key(text.strip()) if kind.lower() == "bearer" else None
        record = None if parsed is None else self._service.use_key(parsed[0])
        if parsed is None or record is None:
            raise Unauthorized("the key is unknown, revoked or expired")
        with self._checks:
            good = matches(record, parsed[1])
        if not good:
            raise Unauthorized("the key is unknown, revoked or expired")
        caller = Caller(record.id, record.scope, record.space, record.rate)
        with self._guard:
            self._good[_digest(header)] = (time.monotonic() + REMEMBERED_S, caller)
            while len(self._good) > _MOST:
                self._good.popitem(last=False)
        return caller

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
            while len(self._buckets) > _MOST:
                self._buckets.popitem(last=False)
        if left < 1:
            raise TooMany(
                f"this key may make {caller.rate or self._rate:g} requests a second; wait",
                (1 - left) / rate,
            )


def _digest(header: str) -> bytes:
    return hashlib.sha256(header.encode(errors="surrogateescape")).digest()


class Scope:
    """A route's dependency: the caller's key must open it, and the space of its path must be there.

    It comes before anything of the body is read. `there`: False for the route that brings a space
    back.
    """

    def __init__(self, scope: str, *, there: bool = True) -> None:
        self.scope, self.there = scope, there

    async def __call__(self, request: Request) -> None:
        serving = request.app.state.serving
        key = request.headers.get(KEY_HEADER)  # the other one may be the proxy's in front
        header = request.headers.get("authorization") if key is None else f"Bearer {key}"
        caller = serving.keyring.remembered(header)
        if caller is None:
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
        if space is not None and self.there:
            await serving.require_space(space)
