"""API keys in the catalog: their hashes, what they may do, and when they were last used."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from trustvlm.catalog.store.side_models import ApiKey
from trustvlm.types import KeyRow


@dataclass(frozen=True)
class KeyRecord(KeyRow):
    """A key's row, with the hash of its secret."""

    secret_hash: bytes

    def public(self) -> KeyRow:
        """What may be shown of it."""
        return KeyRow(**{name: getattr(self, name) for name in KeyRow.__dataclass_fields__})


_COLUMNS = [getattr(ApiKey, name) for name in KeyRecord.__dataclass_fields__]
_FIND = select(*_COLUMNS).where(ApiKey.id == bindparam("wanted"))


def find(connection: Connection, key_id: str) -> KeyRecord | None:
    """The key of this id, revoked or not."""
    row = connection.execute(_FIND, {"wanted": key_id}).first()
    return None if row is None else KeyRecord(*row)


def list_rows(connection: Connection) -> list[KeyRecord]:
    """Every key, oldest first."""
    rows = connection.execute(select(*_COLUMNS).order_by(ApiKey.created_at, ApiKey.id))
    return [KeyRecord(*row) for row in rows]


def insert_key(connection: Connection, record: KeyRecord) -> None:
    """Store a new key."""
    connection.execute(insert(ApiKey).values(**vars(record)))


def revoke(connection: Connection, key_id: str, now: datetime) -> bool:
    """Make a key worthless; False when there is none, or it was revoked before."""
    one = update(ApiKey).where(ApiKey.id == key_id, ApiKey.revoked_at.is_(None))
    return bool(connection.execute(one.values(revoked_at=now)).rowcount)


def expire(connection: Connection, key_id: str, at: datetime) -> None:
    """Let a key end at `at`, unless it ends before."""
    one = update(ApiKey).where(
        ApiKey.id == key_id, or_(ApiKey.expires_at.is_(None), ApiKey.expires_at > at)
    )
    connection.execute(one.values(expires_at=at))


def touch(connection: Connection, key_id: str, now: datetime, secret_hash: bytes) -> None:
    """Store that a key was used, and its hash, which may have another form since."""
    one = update(ApiKey).where(ApiKey.id == key_id)
    connection.execute(one.values(used_at=now, secret_hash=secret_hash))
