"""API keys: 256 random bits, shown once and stored as SHA-256; rotated and revoked."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.server import keys
from trustvlm.catalog.server.keys import KeyRecord
from trustvlm.errors import Busy, Conflict, NotFound, ReadOnly
from trustvlm.service.home.open_home import OpenHome
from trustvlm.types import KeyRow
from trustvlm.types.bounds import choice, duration, number
from trustvlm.types.messages.commands import suggested

SCOPES = ("read", "write", "admin")
"""Each may do what the one before may."""

PREFIX = "tvk"
_USED_EVERY = timedelta(minutes=1)


class ApiKeys(OpenHome):
    """The keys of the HTTP service."""

    def create_key(
        self,
        scope: str,
        *,
        space: str | None = None,
        note: str | None = None,
        rate: float | None = None,
        days: float | None = None,
    ) -> tuple[KeyRow, str]:
        """Make a key: its row, and the key itself, which is stored nowhere.

        Args:
            scope: "read", "write" or "admin"; each may do what the one before may.
            space: the only space that it opens. rate: requests a second. days: until it expires.

        Raises:
            InvalidInput. NotFound: no such space.
        """
        home = self._writable()
        choice("scope", scope, SCOPES)
        rate = None if rate is None else number("rate", rate)
        now = datetime.now(UTC)
        expires_at = None if days is None else now + timedelta(days=number("days", days))
        with home.catalog.write("key") as connection:
            if space is not None:
                spaces.find(connection, space)
            return _insert(connection, scope, space, note, rate, now, expires_at)

    def list_keys(self) -> Sequence[KeyRow]:
        """Every key, oldest first."""
        with self._ready().catalog.read() as connection:
            return [record.public() for record in keys.list_rows(connection)]

    def revoke_key(self, key_id: str) -> bool:
        """Make a key worthless at once; False: it was revoked before. Raises NotFound."""
        with self._writable().catalog.write("key") as connection:
            _find(connection, key_id)
            return keys.revoke(connection, key_id, datetime.now(UTC))

    def rotate_key(self, key_id: str, *, overlap: timedelta = timedelta(0)) -> tuple[KeyRow, str]:
        """Make a key that may do what this one may, which ends after `overlap`. Raises NotFound,
        Conflict, InvalidInput."""
        home = self._writable()
        now, overlap = datetime.now(UTC), duration("overlap", overlap)
        with home.catalog.write("key") as connection:
            old = _find(connection, key_id)
            if old.state_at(now) != "valid":
                raise Conflict(
                    f"key {key_id!r} is revoked or expired; {suggested('key create')} makes a new "
                    f"one"
                )
            expires_at = None if old.expires_at is None else now + (old.expires_at - old.created_at)
            keys.expire(connection, key_id, now + overlap)
            return _insert(connection, old.scope, old.space, old.note, old.rate, now, expires_at)

    def use_key(self, key: str) -> KeyRecord | None:
        """The record of this key, if it opens anything now; the minute of its last use is
        stored."""
        home = self._ready()
        prefix, _, rest = key.partition("_")
        key_id, _, secret = rest.partition("_")
        if prefix != PREFIX or len(key_id) != 16 or not 20 <= len(secret) <= 100:
            return None
        now = datetime.now(UTC)
        with home.catalog.read() as connection:
            record = keys.find(connection, key_id)
        if record is None or record.state_at(now) != "valid" or not _matches(record, secret):
            return None
        secret_hash = _sha256(secret)
        recent = record.used_at is not None and now - record.used_at < _USED_EVERY
        if not (recent and record.secret_hash == secret_hash) and not home.catalog.read_only:
            # the time of use is no reason to refuse a request
            with suppress(Busy, ReadOnly), home.catalog.write("key") as connection:
                keys.touch(connection, key_id, now, secret_hash)
        return record


def _insert(
    connection: Connection,
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    now: datetime,
    expires_at: datetime | None,
) -> tuple[KeyRow, str]:
    key_id = base64.b32encode(secrets.token_bytes(10)).decode().lower()
    secret = secrets.token_urlsafe(32)
    record = KeyRecord(
        key_id, scope, space, note, rate, now, expires_at, None, None, _sha256(secret)
    )
    keys.insert_key(connection, record)
    return record.public(), f"{PREFIX}_{key_id}_{secret}"


def _sha256(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _find(connection: Connection, key_id: str) -> KeyRecord:
    record = keys.find(connection, key_id)
    if record is None:
        raise NotFound(f"no key {key_id!r}; {suggested('key list')} lists them")
    return record


def _matches(record: KeyRecord, secret: str) -> bool:
    """Whether this is the key's secret; takes as long for any other."""
    stored = record.secret_hash
    if len(stored) == 48:  # a key of version 0.1: 16 bytes of salt, 32 of scrypt's hash
        salted = hashlib.scrypt(
            secret.encode(), salt=stored[:16], n=2**14, r=8, p=1, maxmem=64 * 2**20, dklen=32
        )
        return hmac.compare_digest(salted, stored[16:])
    return hmac.compare_digest(_sha256(secret), stored)
