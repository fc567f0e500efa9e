"""The tables beside those of spaces, labels and images: attributes, the review queue, verdict logs,
what the HTTP service keeps, and upkeep. Alembic (migrations/) creates them.

Attributes stand apart from the rows that they belong to: a home without attributes has none of
them, and a change of attributes moves no vector. A row stays, with an empty object, where they were
taken away: those who follow the space by revision read that. A purge deletes it with its row.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, ForeignKey, LargeBinary, String, text
from sqlalchemy.orm import Mapped, mapped_column

from trustvlm.catalog.store.columns import StoredText
from trustvlm.catalog.store.models import Base, Id, SpaceKey, UTCDateTime, partial_index


class LabelAttributes(Base):
    """The attributes of a label."""

    __tablename__ = "label_attributes"
    __table_args__ = (
        partial_index("ix_label_attributes_space_id_revision", "space_id", "revision"),
    )

    label_id: Mapped[int] = mapped_column(
        ForeignKey("labels.id"), primary_key=True, autoincrement=False
    )
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    revision: Mapped[int] = mapped_column(BigInteger)
    """When they were changed last."""
    content: Mapped[str]
    """JSON, see :mod:`trustvlm.types.attributes.values`."""


class SupportAttributes(Base):
    """The attributes of a support image."""

    __tablename__ = "support_attributes"
    __table_args__ = (
        partial_index("ix_support_attributes_space_id_revision", "space_id", "revision"),
    )

    support_id: Mapped[int] = mapped_column(
        ForeignKey("supports.id"), primary_key=True, autoincrement=False
    )
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    revision: Mapped[int] = mapped_column(BigInteger)
    content: Mapped[str]


class IndexedKey(Base):
    """A key whose values are kept in a file, so that a process need not read every row."""

    __tablename__ = "indexed_keys"

    space_id: Mapped[SpaceKey]
    key: Mapped[str] = mapped_column(String, primary_key=True)


class ReviewState(Base):
    """Whether the images that are scored in a space go into its review queue, and how some of them
    are drawn."""

    __tablename__ = "review_states"

    space_id: Mapped[SpaceKey]
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

    space_id: Mapped[SpaceKey]
    dropped: Mapped[int] = mapped_column(BigInteger)


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
    __table_args__ = (partial_index("ix_idempotent_calls_created_at", "created_at"),)

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
    __table_args__ = (partial_index("ix_jobs_created_at", "created_at"),)

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
