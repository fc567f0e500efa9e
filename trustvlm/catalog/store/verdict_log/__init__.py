"""The tables of verdict logs, apart from those that queries read: the log of a space is switched on
in the space's row, and a home without one has no row here."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, String, text
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.models import Base, Id, UTCDateTime, partial_index

__all__ = ["VerdictLogState", "VerdictRow"]


class VerdictRow(Base):
    """An answer that a space gave."""

    __tablename__ = "verdict_log"
    __table_args__ = (
        partial_index("ix_verdict_log_space_id_at_id", "space_id", "at", "id"),
        partial_index("ix_verdict_log_label_id", "label_id"),
        partial_index(
            "ix_verdict_log_claimed_id", "claimed_id", where=text("claimed_id IS NOT NULL")
        ),
        partial_index(
            "ix_verdict_log_space_id_request_id", "space_id", "request_id",
            where=text("request_id IS NOT NULL"),
        ),
        {"sqlite_autoincrement": True},
    )  # fmt: skip

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    request_id: Mapped[str | None] = mapped_column(String(64))
    source: Mapped[str | None]
    decision: Mapped[str] = mapped_column(String(8))
    probability: Mapped[float | None]
    label: Mapped[str]
    reason_code: Mapped[str] = mapped_column(String(16))
    trust: Mapped[float | None]
    label_id: Mapped[int] = mapped_column(BigInteger)
    """No foreign key: a purge of the label deletes the row before."""
    node: Mapped[str | None]
    node_probability: Mapped[float | None]
    rule: Mapped[str]
    revision: Mapped[int] = mapped_column(BigInteger)
    calibration_id: Mapped[int | None] = mapped_column(BigInteger)
    claimed: Mapped[str | None]
    claimed_probability: Mapped[float | None]
    claimed_id: Mapped[int | None] = mapped_column(BigInteger)
    """NULL where the claim is no label, and without one."""
    claims_calibration_id: Mapped[int | None] = mapped_column(BigInteger)
    nearest_similarity: Mapped[float | None]
    """To the nearest prototype of all labels; NULL without images, for answers among some of the
    labels or of an approximate search, and in rows of other encoders or from before."""
    nearest_id: Mapped[int | None] = mapped_column(BigInteger)
    """Of the label of that prototype; it says nothing after a purge of the label."""


class VerdictLogState(Base):
    """What a log lacks: a row exists once something was dropped."""

    __tablename__ = "verdict_log_states"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("spaces.id"), primary_key=True, autoincrement=False
    )
    dropped: Mapped[int] = mapped_column(BigInteger)
