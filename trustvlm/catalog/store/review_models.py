"""The tables of the review queue. Alembic (migrations/) creates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.models import Base, Id, UTCDateTime, partial_index


class ReviewState(Base):
    """Whether the images that are scored in a space go into its review queue, and how some of them
    are drawn."""

    __tablename__ = "review_states"

    space_id: Mapped[int] = mapped_column(
        ForeignKey("spaces.id"), primary_key=True, autoincrement=False
    )
    collecting: Mapped[bool]
    seed: Mapped[bytes] = mapped_column(LargeBinary(16))
    """Secret of the random draw: with it, the content of an image decides whether it is drawn."""
    missed: Mapped[int] = mapped_column(BigInteger)
    """Images that were drawn and found no room."""


class ReviewRow(Base):
    """An image that waits for a person's answer, or got one."""

    __tablename__ = "review_items"
    __table_args__ = (
        partial_index(
            "uq_review_items_space_id_tray_content_hash",
            "space_id",
            "tray",
            "content_hash",
            unique=True,
        ),
        partial_index("ix_review_items_space_id_state_tray_id", "space_id", "state", "tray", "id"),
        partial_index("ix_review_items_support_id", "support_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    tray: Mapped[str] = mapped_column(String(16))
    """"review": the verdict was not accepted; "sample": drawn at random; "proposal":
    proposed as a support image. Others may follow."""
    state: Mapped[str] = mapped_column(String(8))
    """"open", "answered" or "skipped"."""
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    source: Mapped[str | None]
    predicted_id: Mapped[int] = mapped_column(BigInteger)
    predicted: Mapped[str]
    decision: Mapped[str] = mapped_column(String(8))
    probability: Mapped[float | None]
    trust: Mapped[float | None]
    rule: Mapped[str]
    calibration_id: Mapped[int | None] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    node: Mapped[str | None]
    """The verdict that it got when it was scored."""
    logged_id: Mapped[int | None] = mapped_column(BigInteger)
    """The row of the log of answers that it came from: it has no image, and its embedding is empty.
    No foreign key: the log forgets rows."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    changed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    truth_id: Mapped[int | None] = mapped_column(BigInteger)
    truth: Mapped[str | None]
    """The answer: the true label by id and by name at that time; None: no label of the space."""
    use_as_support: Mapped[bool]
    """The answer makes it a support image: `support_id`, once that is done."""
    support_id: Mapped[int | None] = mapped_column(BigInteger)
    observation_id: Mapped[int | None] = mapped_column(BigInteger)
    """The observation that the answer made or changed. No foreign key: calibrations delete some."""
    earlier: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """That observation as it was before, without its embeddings; None: there was none."""
    checksum: Mapped[int] = mapped_column(BigInteger)
    classifier_embedding: Mapped[bytes] = mapped_column(LargeBinary)
    verifier_embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    thumbnail: Mapped[bytes | None] = mapped_column(LargeBinary)
    """A small JPEG, where it came as an image."""
