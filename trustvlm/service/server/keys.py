"""API keys: made, shown once, stored as hashes, checked in constant time, rotated and revoked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.server import keys
from trustvlm.catalog.server.keys import KeyRecord
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound, ReadOnly
from trustvlm.service.home.home import Home
from trustvlm.types import KeyRow
from trustvlm.types.bounds import duration, number

__all__ = [
    "SCOPES",
    "create_key",
    "list_keys",
    "matches",
    "parse_key",
    "revoke_key",
    "rotate_key",
    "use_key",
]

SCOPES = ("read", "write", "admin")
"""Each may do what the one before may."""

PREFIX = "tvk"
_SCRYPT = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 2**20, "dklen": 32}  # 16 MB and about 40 ms
_SALT = 16
_USED_EVERY = timedelta(minutes=1)


def create_key(
    home: Home,
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    days: float | None,
) -> tuple[KeyRow, str]:
    """See :meth:`TrustService.create_key`."""
    if scope not in SCOPES:
        raise InvalidInput(f"scope: expected one of {', '.join(SCOPES)}; got {scope!r}")
    rate = None if rate is None else number("rate", rate)
    days = None if days is None else number("days", days)
    now = datetime.now(UTC)
    record, key = _made(
        scope, space, note, rate, now, None if days is None else now + timedelta(days=days)
    )
    with home.catalog.write("key") as connection:
        if space is not None:
            spaces.find(connection, space)
        keys.insert_key(connection, record)
    return record.public(), key


def _made(
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    now: datetime,
    expires: datetime | None,
) -> tuple[KeyRecord, str]:
    key_id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    secret = secrets.token_urlsafe(32)
    salt = secrets.token_bytes(_SALT)
    record = KeyRecord(
        key_id, scope, space, note, rate, now, expires, None, None, salt + _hash(secret, salt)
    )
    return record, f"{PREFIX}_{key_id}_{secret}"


def _hash(secret: str, salt: bytes) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, **_SCRYPT)


def parse_key(key: str) -> tuple[str, str] | None:
    """(id, secret) of something that looks like a key, else None."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    return (
        (key_id, secret)
        if prefix == PREFIX and len(key_id) == 16 and 20 <= len(secret) <= 100
        else None
    )


def matches(record: KeyRecord, secret: str) -> bool:
    """Whether this is the key's secret; takes as long for any other."""
    salt, stored = record.secret_hash[:_SALT], record.secret_hash[_SALT:]
    return hmac.compare_digest(_hash(secret, salt), stored)


def list_keys(home: Home) -> Sequence[KeyRow]:
    """See :meth:`TrustService.list_keys`."""
    with home.catalog.read() as connection:
        return [record.public() for record in keys.list_rows(connection)]


def revoke_key(home: Home, key_id: str) -> bool:
    """See :meth:`TrustService.revoke_key`."""
    with home.catalog.write("key") as connection:
        if keys.find(connection, key_id) is None:
            raise NotFound(f"no key {key_id!r}; 'trustvlm key list' lists them")
        return keys.revoke(connection, key_id, datetime.now(UTC))


def rotate_key(home: Home, key_id: str, overlap: timedelta) -> tuple[KeyRow, str]:
    """See :meth:`TrustService.rotate_key`."""
    now = datetime.now(UTC)
    overlap = duration("overlap", overlap)
    with home.catalog.write("key") as connection:
        old = keys.find(connection, key_id)
        if old is None:
            raise NotFound(f"no key {key_id!r}; 'trustvlm key list' lists them")
        if old.state_at(now) != "valid":
            raise Conflict(
                f"key {key_id!r} is revoked or expired; 'trustvlm key create' makes a new one"
            )
        expires = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        record, key = _made(old.scope, old.space, old.note, old.rate, now, expires)
        keys.insert_key(connection, record)
        keys.expire(connection, key_id, now + overlap)
    return record.public(), key


def use_key(home: Home, key_id: str) -> KeyRecord | None:
    """The key of this id, if it opens anything now; its last use is remembered, to the minute."""
    now = datetime.now(UTC)
    with home.catalog.read() as connection:
        found = keys.find(connection, key_id)
    if found is None or found.state_at(now) != "valid":
        return None
    if not home.catalog.read_only and (found.used_at is None or now - found.used_at >= _USED_EVERY):
        with suppress(Busy, ReadOnly):  # nobody is to be turned away for that
            with home.catalog.write("key") as connection:
                keys.touch(connection, key_id, now)
            return replace(found, used_at=now)
    return found
