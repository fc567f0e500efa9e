"""API keys: made, shown once, stored as SHA-256 (a key holds 256 random bits), checked in constant
time, rotated and revoked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.server import keys
from trustvlm.catalog.server.keys import KeyRecord
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound, ReadOnly
from trustvlm.service.home.home import Home
from trustvlm.types import KeyRow
from trustvlm.types.bounds import duration, number

__all__ = ["SCOPES", "create_key", "list_keys", "revoke_key", "rotate_key", "use_key"]

SCOPES = ("read", "write", "admin")
"""Each may do what the one before may."""

PREFIX = "tvk"
_USED_EVERY = timedelta(minutes=1)


def create_key(
    home: Home,
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    days: float | None,
) -> tuple[KeyRow, str]:
    """See :meth:`ServerHome.create_key`."""
    if scope not in SCOPES:
        raise InvalidInput(f"scope: expected one of {', '.join(SCOPES)}; got {scope!r}")
    rate = None if rate is None else number("rate", rate)
    days = None if days is None else number("days", days)
    now = datetime.now(UTC)
    record, key = _new_key(
        scope, space, note, rate, now, None if days is None else now + timedelta(days=days)
    )
    with home.catalog.write("key") as connection:
        if space is not None:
            spaces.find(connection, space)
        keys.insert_key(connection, record)
    return record.public(), key


def _new_key(
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    now: datetime,
    expires: datetime | None,
) -> tuple[KeyRecord, str]:
    key_id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    secret = secrets.token_urlsafe(32)
    record = KeyRecord(key_id, scope, space, note, rate, now, expires, None, None, _sha256(secret))
    return record, f"{PREFIX}_{key_id}_{secret}"


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _parse_key(key: str) -> tuple[str, str]:
    """(id, secret) of something that looks like a key, else two empty strings."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    valid = prefix == PREFIX and len(key_id) == 16 and 20 <= len(secret) <= 100
    return (key_id, secret) if valid else ("", "")


def _matches(record: KeyRecord, secret: str) -> bool:
    """Whether this is the key's secret; takes as long for any other."""
    stored = record.secret_hash
    if len(stored) == 48:  # a key of version 0.1: 16 bytes of salt, 32 of scrypt's hash
        salted = hashlib.scrypt(
            secret.encode(), salt=stored[:16], n=2**14, r=8, p=1, maxmem=64 * 2**20, dklen=32
        )
        return hmac.compare_digest(salted, stored[16:])
    return hmac.compare_digest(_sha256(secret), stored)


def list_keys(home: Home) -> Sequence[KeyRow]:
    """See :meth:`ServerHome.list_keys`."""
    with home.catalog.read() as connection:
        return [record.public() for record in keys.list_rows(connection)]


def revoke_key(home: Home, key_id: str) -> bool:
    """See :meth:`ServerHome.revoke_key`."""
    with home.catalog.write("key") as connection:
        if keys.find(connection, key_id) is None:
            raise NotFound(f"no key {key_id!r}; 'trustvlm key list' lists them")
        return keys.revoke(connection, key_id, datetime.now(UTC))


def rotate_key(home: Home, key_id: str, overlap: timedelta) -> tuple[KeyRow, str]:
    """See :meth:`ServerHome.rotate_key`."""
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
        record, key = _new_key(old.scope, old.space, old.note, old.rate, now, expires)
        keys.insert_key(connection, record)
        keys.expire(connection, key_id, now + overlap)
    return record.public(), key


def use_key(home: Home, key: str) -> KeyRecord | None:
    """The record of this key, if it opens anything now; the minute of its last use is stored."""
    key_id, secret = _parse_key(key)
    now = datetime.now(UTC)
    with home.catalog.read() as connection:
        record = keys.find(connection, key_id)
    if record is None or record.state_at(now) != "valid" or not _matches(record, secret):
        return None
    secret_hash = _sha256(secret)
    recent = record.used_at is not None and now - record.used_at < _USED_EVERY
    stored = recent and record.secret_hash == secret_hash
    if not stored and not home.catalog.read_only:
        # the time of use is no reason to refuse a request
        with suppress(Busy, ReadOnly), home.catalog.write("key") as connection:
            keys.touch(connection, key_id, now, secret_hash)
    return record
