"""Calls that carry an Idempotency-Key: claimed before they are done, answered from here when they
are repeated."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, delete, insert, select, update

from trustvlm.catalog.store.side_models import IdempotentCall


@dataclass(frozen=True)
class CallRecord:
    """A call's row; status and body are None while it is being done."""

    request: bytes
    worker: str
    status: int | None
    body: bytes | None


_COLUMNS = [getattr(IdempotentCall, name) for name in CallRecord.__dataclass_fields__]


def _is(owner: str, key: str) -> tuple[ColumnElement[bool], ...]:
    return IdempotentCall.owner == owner, IdempotentCall.key == key


def find(connection: Connection, owner: str, key: str) -> CallRecord | None:
    """What is known of the call."""
    one = select(*_COLUMNS).where(*_is(owner, key))
    row = connection.execute(one).first()
    return None if row is None else CallRecord(*row)


def claim(
    connection: Connection, owner: str, key: str, request: bytes, worker: str, now: datetime
) -> None:
    """Store that `worker` is about to do the call."""
    values = {"owner": owner, "key": key, "request": request, "worker": worker, "created_at": now}
    connection.execute(insert(IdempotentCall).values(**values, status=None, body=None))


def take_over(connection: Connection, owner: str, key: str, worker: str) -> None:
    """Store that `worker` does the call of one that is gone."""
    one = update(IdempotentCall).where(*_is(owner, key))
    connection.execute(one.values(worker=worker))


def answer(connection: Connection, owner: str, key: str, status: int, body: bytes) -> None:
    """Store what was answered."""
    one = update(IdempotentCall).where(*_is(owner, key))
    connection.execute(one.values(status=status, body=body))


def forget(connection: Connection, owner: str, key: str) -> None:
    """Give up a claim: the call was refused for now, and may be tried again."""
    connection.execute(delete(IdempotentCall).where(*_is(owner, key)))


def forget_older(connection: Connection, than: datetime) -> int:
    """Delete calls from before `than`; how many."""
    return connection.execute(
        delete(IdempotentCall).where(IdempotentCall.created_at < than)
    ).rowcount
