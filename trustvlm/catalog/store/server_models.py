"""The tables of the HTTP service. Alembic (migrations/) creates them; these classes say what they
look like."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Index, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.columns import StoredText
from trustvlm.catalog.store.models import Base, UTCDateTime


class ApiKey(Base):
    """A key of the HTTP service; of its secret only the hash is kept."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(StoredText(16), primary_key=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    scope: Mapped[str] = mapped_column(String(8))
    """"read", "write" or "admin"; each may do what the one before may."""
    space: Mapped[str | None]
    """The name of the only space that it opens; None: all."""
    note: Mapped[str | None]
    rate: Mapped[float | None]
    """Requests a second; None: the service's setting."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    used_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    """Last use, to the minute."""


class IdempotentCall(Base):
    """A write that came with an Idempotency-Key, and what was answered once it was done."""

    __tablename__ = "idempotent_calls"
    __table_args__ = (Index("ix_idempotent_calls_created_at", "created_at"),)

    owner: Mapped[str] = mapped_column(StoredText(16), primary_key=True)
    """Id of the API key; empty without one."""
    key: Mapped[str] = mapped_column(StoredText(200), primary_key=True)
    request: Mapped[bytes] = mapped_column(LargeBinary(32))
    """SHA-256 of method, path and body: the same key with another request is a mistake."""
    worker: Mapped[str] = mapped_column(StoredText(36))
    """Who is at it, or was."""
    status: Mapped[int | None]
    body: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The answer; None while it is being done."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class JobRow(Base):
    """Long work that was asked for over HTTP: evaluations and calibrations."""

    __tablename__ = "jobs"
    __table_args__ = (Index("ix_jobs_created_at", "created_at"),)

    id: Mapped[str] = mapped_column(StoredText(36), primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    space: Mapped[str]
    owner: Mapped[str] = mapped_column(StoredText(16))
    worker: Mapped[str] = mapped_column(StoredText(36))
    state: Mapped[str] = mapped_column(String(12))
    """"queued", "running", "done", "failed", "cancelled" or "interrupted"."""
    phase: Mapped[str]
    done: Mapped[int] = mapped_column(BigInteger)
    total: Mapped[int | None] = mapped_column(BigInteger)
    cancel_asked: Mapped[bool]
    content: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """What it found; of an import, its tally so far."""
    error: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    changed_at: Mapped[datetime] = mapped_column(UTCDateTime)
