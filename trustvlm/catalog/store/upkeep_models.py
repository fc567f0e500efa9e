"""The tables of upkeep: history, quarantine, kept originals, re-embeddings. Alembic (migrations/)
creates them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.models import Base, Id, UTCDateTime, partial_index


class RevisionRow(Base):
    """One revision of a space: when and by whom it was made, by which kind of change, and how many
    rows the change added, changed or removed."""

    __tablename__ = "revisions"

    space_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    """No foreign key: a log that outlives a damaged space's row harms nothing."""
    revision: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    at: Mapped[datetime] = mapped_column(UTCDateTime)
    author: Mapped[str | None]
    action: Mapped[str] = mapped_column(String(24))
    """One of :data:`trustvlm.system.fault_points.CHANGES`."""
    labels: Mapped[int]
    supports: Mapped[int]
    effect: Mapped[str | None] = mapped_column(String(8))
    """What it can alter: "verdicts", "nodes" or "none"; NULL: an older program did not say."""


class Quarantine(Base):
    """A row that a repair took out of service, as it was. No foreign keys: what it belonged to may
    be damaged, or purged."""

    __tablename__ = "quarantine"
    __table_args__ = (
        partial_index("ix_quarantine_space_id_content_hash", "space_id", "content_hash"),
        partial_index("ix_quarantine_label_id", "label_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(12))
    """"label", "support", "thumbnail", "observation", "review", "calibration" or "change"."""
    row_id: Mapped[int] = mapped_column(BigInteger)
    space_id: Mapped[int | None] = mapped_column(BigInteger)
    label_id: Mapped[int | None] = mapped_column(BigInteger)
    """The label itself, or the label of the support image."""
    content_hash: Mapped[bytes | None] = mapped_column(LargeBinary)
    """Of a support image, its thumbnail or an observation: by it a purge finds what it must delete
    here too."""
    reason: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    """The row's other columns by name; what JSON cannot hold is a string that begins with
    "hex:"."""
    first: Mapped[bytes | None] = mapped_column(LargeBinary)
    second: Mapped[bytes | None] = mapped_column(LargeBinary)
    """The row's vectors or picture: text prototype; embedding and classifier embedding; JPEG.
    Prototypes, which are derived from support images, are not kept."""
    removed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    """When a user had removed it, before it was found damaged. Then it goes when the undo window
    has passed; other rows go only by a purge that a user asks for."""
    quarantined_at: Mapped[datetime] = mapped_column(UTCDateTime)


class Original(Base):
    """The image file of a support image, kept under its content hash in the home's folder of
    originals."""

    __tablename__ = "originals"
    __table_args__ = (
        partial_index("uq_originals_support_id", "support_id", unique=True),
        partial_index("ix_originals_content_hash", "content_hash"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    support_id: Mapped[int | None] = mapped_column(BigInteger)
    """NULL once the support image is purged: the file is to be deleted unless another row wants it.
    No foreign key."""
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))


class Reembed(Base):
    """A space being re-embedded with other encoders, or the old embeddings that are kept after
    that."""

    __tablename__ = "reembeds"
    __table_args__ = (
        partial_index("uq_reembeds_space_id", "space_id", unique=True),
        partial_index("uq_reembeds_other_id", "other_id", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(BigInteger)
    """The space that has the name. No foreign key: it may be purged."""
    other_id: Mapped[int] = mapped_column(BigInteger)
    """The space beside it: the one that is being made, or (state "kept") the one from before."""
    state: Mapped[str] = mapped_column(String(8))
    """"staged" or "kept"."""
    synced: Mapped[int] = mapped_column(BigInteger)
    """While staged: the revision of the space up to which everything that could be made is in the
    other one."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)


class ReembedRow(Base):
    """Which row of the new space stands for which row of the old one."""

    __tablename__ = "reembed_rows"
    __table_args__ = (
        partial_index(
            "ix_reembed_rows_reembed_id_kind_staged_id", "reembed_id", "kind", "staged_id"
        ),
    )

    reembed_id: Mapped[int] = mapped_column(
        ForeignKey("reembeds.id"), primary_key=True, autoincrement=False
    )
    kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    """"label", "support", or "text": then `staged_id` is the checksum of the text vector that the
    label had when its counterpart was made."""
    source_id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    staged_id: Mapped[int] = mapped_column(BigInteger)
