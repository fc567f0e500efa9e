"""Keys of requests: which routes and spaces they open, and how often they may be used."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi import Request

from trustvlm.catalog.server.keys import KeyRecord
from trustvlm.errors import Forbidden, TooMany, Unauthorized
from trustvlm.service.server.api_keys import SCOPES
from trustvlm.service.server.server_home import ServerHome
from trustvlm.system.author import set_author
from trustvlm.types.messages.commands import suggested

KEY_HEADER = "x-api-key"
"""Holds the key alone; a request that has it is not read for its Authorization header."""

_MAX_BUCKETS = _MOST_CHECKED = 10_000
_RECALLED_S = 60.0
"""Seconds after which a key is read again: the home stores the minute of its last use."""


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


@dataclass(frozen=True)
class _Checked:
    """A key that opened something when it was checked, at a version of the home."""

    version: Hashable
    at: float
    record: KeyRecord
    caller: Caller


def _hashed(header: str) -> bytes:
    return hashlib.sha256(header.encode(errors="surrogatepass")).digest()


class Keyring:
    """Finds the caller of a request by its key, and limits how often each key is used.

    Args:
        rate: requests a second of a key without a rate of its own. processes: which share them.
    """

    def __init__(self, home: ServerHome, *, required: bool, rate: float, processes: int) -> None:
        self._home, self._required, self._rate = home, required, rate
        self._processes = processes
        self._is_slow = home.is_shared
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()
        self._guard = threading.Lock()

    def without_key(self) -> Caller:
        """The caller of a request without a key. Raises Unauthorized: a key is needed."""
        if self._required:
            raise Unauthorized(
                "a key is needed: send 'Authorization: Bearer KEY' or 'X-API-Key: KEY'; the client "
                "and the command line take it from TRUSTVLM_KEY "
                f"({suggested('key create', options='--scope read')} makes one)"
            )
        return LOCAL

    def check(self, header: str) -> Caller:
        """The caller whose key the Authorization header holds. Raises Unauthorized: it is no valid
        key."""
        kind, _, key = header.strip().partition(" ")
        if kind.lower() != "bearer" or not key.strip():
            raise Unauthorized("expected 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
        version, now = self._home.version(), time.monotonic()
        record = self._home.use_key(key.strip())
        if record is None:
            raise Unauthorized("the key is unknown, revoked or expired")
        caller = Caller(record.id, record.scope, record.space, record.rate)
        with self._guard:
            self._checked[_hashed(header)] = _Checked(version, now, record, caller)
            while len(self._checked) > _MOST_CHECKED:
                self._checked.popitem(last=False)
        return caller

    def caller(self, header: str) -> Caller:
        """As :meth:`check`, reading the key only where :meth:`recall` does not suffice."""
        return self.recall(header) or self.check(header)

    def recall_at_once(self, header: str) -> Caller | None:
        """As :meth:`recall`, for the event loop, which must not wait for a database on another
        machine: there None."""
        return None if self._is_slow else self.recall(header)

    def recall(self, header: str) -> Caller | None:
        """As :meth:`check`, without reading the key again: for a key that was checked within the
        last minute, where nothing was committed to the home since. None: it must be checked."""
        with self._guard:
            checked = self._checked.get(_hashed(header))
        if checked is None or checked.version is None:
            return None
        recent = time.monotonic() - checked.at < _RECALLED_S
        valid = checked.record.state_at(datetime.now(UTC)) == "valid"
        return (
            checked.caller if recent and valid and self._home.version() == checked.version else None
        )

    def count(self, caller: Caller) -> None:
        """Take one request from what the key may make in a second; a second's worth may come at
        once.

        Raises:
            TooMany: there is nothing left.
        """
        if not caller.key:
            return
        rate = (caller.rate or self._rate) / self._processes
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
            caller = serving.keyring.recall_at_once(header) or await serving.checking.run(
                lambda: serving.keyring.caller(header)
            )
        request.state.caller = caller
        set_author(caller.key or None)
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
