"""The tables. Alembic (migrations/) creates them; these classes say what they look like.

Rows that follow a space's changes carry three revisions: `created_revision`, `revision` (the last
change of the row) and `removed_revision` (NULL while alive). A cache at revision r reads the rows
with `revision > r`. A support image is never changed after it was created, so the state at an
earlier revision can be read back until a purge.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    TextClause,
    text,
)
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

from trustvlm.catalog.store.columns import StoredText

# SQLite gives AUTOINCREMENT (ids never reused) to INTEGER primary keys only.
Id = BigInteger().with_variant(Integer, "sqlite")
PURGING = datetime(1970, 1, 1, tzinfo=UTC)
"""The removal time of a space that a purge has begun to delete: it cannot be restored."""
ALIVE = text("removed_revision IS NULL")
GONE = text("removed_revision IS NOT NULL")
REMOVED = text("removed_at IS NOT NULL")
PROTOTYPED = text("support_count > 0 AND removed_revision IS NULL")
ALIASES = text("alias_of IS NOT NULL")
OUTPUTS = text("output IS NOT NULL")
UNVERIFIED = text("support_count = 0 AND removed_revision IS NULL AND alias_of IS NULL")


SpaceKey = Annotated[
    int, mapped_column(ForeignKey("spaces.id"), primary_key=True, autoincrement=False)
]
"""The space of a row, as its key or the first part of it."""


def partial_index(
    name: str, *columns: str, where: TextClause | None = None, unique: bool = False
) -> Index:
    """An index, over the rows that `where` says."""
    return Index(name, *columns, unique=unique, sqlite_where=where, postgresql_where=where)


class UTCDateTime(TypeDecorator[datetime]):
    """An aware datetime, stored as UTC (SQLite forgets time zones)."""

    impl = DateTime
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=UTC)


class Base(DeclarativeBase):
    type_annotation_map: ClassVar = {str: StoredText}
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class CatalogState(Base):
    """One row: what this catalog is. The epoch changes with restore, import and repair, and voids
    every cache."""

    __tablename__ = "catalog_state"

    id: Mapped[int] = mapped_column(primary_key=True)
    epoch: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    originals_id: Mapped[str | None] = mapped_column(String(36))
    """What the shared folder that the catalog keeps its originals in is called, in a file in it;
    NULL where it has none."""


class ClockStamp(Base):
    """What the catalog's clock said when a boot of a machine had an uptime: see
    :mod:`trustvlm.catalog.store.clock`."""

    __tablename__ = "clock_stamps"

    machine: Mapped[str] = mapped_column(String(64), primary_key=True)
    uptime: Mapped[float] = mapped_column(Float)
    """In seconds."""
    time: Mapped[datetime] = mapped_column(UTCDateTime)


class Space(Base):
    """A label space: a named set of labels, the templates, and the two encoders that it is pinned
    to."""

    __tablename__ = "spaces"
    __table_args__ = (
        partial_index("uq_spaces_name", "name", where=text("removed_at IS NULL"), unique=True),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str]
    classifier: Mapped[str]
    verifier: Mapped[str]
    classifier_identity: Mapped[str]
    verifier_identity: Mapped[str]
    classifier_parts: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    verifier_parts: Mapped[dict[str, str] | None] = mapped_column(JSON(none_as_null=True))
    """What the identities are made of, so that a refusal can say what differs; NULL in spaces from
    before these columns."""
    classifier_golden: Mapped[bytes | None] = mapped_column(LargeBinary)
    verifier_golden: Mapped[bytes | None] = mapped_column(LargeBinary)
    classifier_dim: Mapped[int]
    verifier_dim: Mapped[int]
    templates: Mapped[list[str]] = mapped_column(JSON)
    logit_scale: Mapped[float]
    recipe: Mapped[str]
    search: Mapped[dict[str, Any] | None] = mapped_column(JSON)
    """What 'trustvlm index tune' found: "prototype" and "support" → faiss search parameters of the
    recipe."""
    verdict_log: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    """"logging" (whether answers are logged), and the "days" and "rows" that a log keeps; NULL: it
    never was switched on."""
    revision: Mapped[int] = mapped_column(BigInteger)
    verdicts_revision: Mapped[int | None] = mapped_column(BigInteger)
    """The last revision that can have altered a verdict; NULL: the last one of all."""
    nodes_revision: Mapped[int | None] = mapped_column(BigInteger)
    """Likewise, a verdict or the node of the taxonomy that it answers with."""
    log_start: Mapped[int] = mapped_column(BigInteger)
    """The change log is complete for revisions above this one; an older cache rebuilds."""
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    removed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)


class Label(Base):
    """A label with its two unit vectors; `prototype` is derived from its support images in the same
    transaction."""

    __tablename__ = "labels"
    __table_args__ = (
        partial_index("uq_labels_space_id_name", "space_id", "name", where=ALIVE, unique=True),
        partial_index("ix_labels_space_id_removed_name", "space_id", "name", where=GONE),
        partial_index("ix_labels_space_id_revision", "space_id", "revision"),
        partial_index("ix_labels_space_id_name_hash", "space_id", "name_hash", where=PROTOTYPED),
        partial_index("ix_labels_removed_at", "removed_at", where=REMOVED),
        partial_index("ix_labels_alias_of", "alias_of", where=ALIASES),
        partial_index("ix_labels_space_id_unverified", "space_id", "name", where=UNVERIFIED),
        partial_index("ix_labels_space_id_support_count", "space_id", "support_count", where=ALIVE),
        partial_index("ix_labels_space_id_id", "space_id", "id", where=ALIVE),
        partial_index(
            "uq_labels_space_id_output", "space_id", "output", where=OUTPUTS, unique=True
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    name: Mapped[str]
    name_hash: Mapped[int] = mapped_column(BigInteger)
    prompt: Mapped[str | None]
    text_source: Mapped[str] = mapped_column(String(8))
    """Where the text prototype came from: "name", "prompt", "vector" or "output"."""
    support_count: Mapped[int]
    """How many support images the prototype is made of: its own and its aliases'; 0 for an
    alias."""
    created_revision: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    removed_revision: Mapped[int | None] = mapped_column(BigInteger)
    removed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    checksum: Mapped[int] = mapped_column(BigInteger)
    text_prototype: Mapped[bytes] = mapped_column(LargeBinary)
    prototype: Mapped[bytes | None] = mapped_column(LargeBinary)
    alias_of: Mapped[int | None] = mapped_column(BigInteger)
    """The label whose further name this one is. No foreign key: a purge may take the label away."""
    output: Mapped[int | None]
    """In a space with an external classifier: which value of its embeddings is the label's."""


class TreeEdge(Base):
    """A place in a space's taxonomy: under which node a label or another node stands. By names:
    inner nodes are no labels, and a label that is restored has its place again."""

    __tablename__ = "tree_edges"
    __table_args__ = (
        partial_index("ix_tree_edges_space_id_parent", "space_id", "parent"),
        partial_index("ix_tree_edges_space_id_revision", "space_id", "revision"),
    )

    space_id: Mapped[SpaceKey]
    child: Mapped[str] = mapped_column(primary_key=True)
    parent: Mapped[str | None]
    """NULL: it stood under a node before `revision`, and does no more."""
    revision: Mapped[int] = mapped_column(BigInteger)


class Support(Base):
    """A support image: its raw embeddings, as the encoders gave them."""

    __tablename__ = "supports"
    __table_args__ = (
        partial_index(
            "uq_supports_label_id_content_hash",
            "label_id",
            "content_hash",
            where=ALIVE,
            unique=True,
        ),
        partial_index("ix_supports_label_id", "label_id"),
        partial_index("ix_supports_space_id_revision", "space_id", "revision"),
        partial_index("ix_supports_space_id_content_hash", "space_id", "content_hash", where=ALIVE),
        partial_index("ix_supports_removed_at", "removed_at", where=REMOVED),
        partial_index("ix_supports_space_id_kept", "space_id", where=text("kept IS NOT NULL")),
        partial_index(
            "ix_supports_space_id_proposed", "space_id", where=text("proposed IS NOT NULL")
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    label_id: Mapped[int] = mapped_column(ForeignKey("labels.id"))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    source: Mapped[str | None]
    created_revision: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    removed_revision: Mapped[int | None] = mapped_column(BigInteger)
    hidden_from: Mapped[int | None] = mapped_column(BigInteger)
    hidden_until: Mapped[int | None] = mapped_column(BigInteger)
    """The revisions between which it was hidden before it was last restored (the second one
    excluded)."""
    removed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    checksum: Mapped[int] = mapped_column(BigInteger)
    embedding: Mapped[bytes] = mapped_column(LargeBinary)
    classifier_embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    kept: Mapped[bool | None]
    """A person said that it is right where an audit doubted it."""
    proposed: Mapped[bool | None]
    """It was chosen from images without labels."""


class Thumbnail(Base):
    """A small JPEG of a support image, apart from its row so that reading embeddings does not drag
    pictures along."""

    __tablename__ = "thumbnails"

    support_id: Mapped[int] = mapped_column(
        ForeignKey("supports.id"), primary_key=True, autoincrement=False
    )
    jpeg: Mapped[bytes] = mapped_column(LargeBinary)


class Change(Base):
    """The log of purged rows: what a cache must still drop although the row is gone."""

    __tablename__ = "changes"
    __table_args__ = (
        partial_index("ix_changes_space_id_revision", "space_id", "revision"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    kind: Mapped[str] = mapped_column(String(8))
    """"label" or "support"."""
    row_id: Mapped[int] = mapped_column(BigInteger)
    label_id: Mapped[int] = mapped_column(BigInteger)
    """The label itself, or the label of the support image."""
    created_revision: Mapped[int] = mapped_column(BigInteger)
    revision: Mapped[int] = mapped_column(BigInteger)
    """When the row was removed."""


class Fit(Base):
    """What a space's support images say, as the service computed it. Derived: it can be computed
    again."""

    __tablename__ = "fits"

    space_id: Mapped[SpaceKey]
    revision: Mapped[int] = mapped_column(BigInteger)
    """The space's revision that it belongs to."""
    content: Mapped[dict[str, Any]] = mapped_column(JSON)


class CalibrationRow(Base):
    """A calibration of a space. The newest that proved a threshold and was not removed is in
    force."""

    __tablename__ = "calibrations"
    __table_args__ = (
        partial_index("ix_calibrations_space_id", "space_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    revision: Mapped[int] = mapped_column(BigInteger)
    classifier_identity: Mapped[str]
    verifier_identity: Mapped[str]
    content: Mapped[dict[str, Any]] = mapped_column(JSON)
    removed_at: Mapped[datetime | None] = mapped_column(UTCDateTime)
    author: Mapped[str | None]


class Observation(Base):
    """An image whose true label a user gave, for calibration and for watching over the promise."""

    __tablename__ = "observations"
    __table_args__ = (
        partial_index(
            "uq_observations_space_id_content_hash_sampling",
            "space_id",
            "content_hash",
            "sampling",
            unique=True,
        ),
        partial_index(
            "ix_observations_support_id", "support_id", where=text("support_id IS NOT NULL")
        ),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("spaces.id"))
    content_hash: Mapped[bytes] = mapped_column(LargeBinary(32))
    origin: Mapped[str] = mapped_column(String(12))
    """"calibration" or "feedback"."""
    sampling: Mapped[str] = mapped_column(String(8))
    """"random": drawn like what comes in; "chosen": picked for a reason, so that it says nothing of
    the rest; "claimed": drawn like what comes in, with a claim, `claimed_id`."""
    truth_id: Mapped[int | None] = mapped_column(BigInteger)
    truth: Mapped[str | None]
    """The true label, by id and by name at that time; None: no label of the space. No foreign key:
    labels can be purged."""
    source: Mapped[str | None]
    classifier_embedding: Mapped[bytes] = mapped_column(LargeBinary)
    verifier_embedding: Mapped[bytes | None] = mapped_column(LargeBinary)
    checksum: Mapped[int] = mapped_column(BigInteger)
    created_at: Mapped[datetime] = mapped_column(UTCDateTime)
    support_id: Mapped[int | None] = mapped_column(BigInteger)
    """The support image that was made of it: it cannot testify any more."""
    predicted_id: Mapped[int | None] = mapped_column(BigInteger)
    predicted: Mapped[str | None]
    trust: Mapped[float | None]
    node: Mapped[str | None]
    """The node of the taxonomy that was answered, where a calibration backs off."""
    accepted: Mapped[bool | None]
    calibration_id: Mapped[int | None] = mapped_column(BigInteger)
    revision: Mapped[int | None] = mapped_column(BigInteger)
    """The verdict that was given when the feedback came; "predicted" is the label that it is
    about, which may be the claimed one."""
    claimed_id: Mapped[int | None] = mapped_column(BigInteger)
    """The label that the image was claimed to have. No foreign key: labels can be purged."""
    thumbnail: Mapped[bytes | None] = mapped_column(LargeBinary)
    """A small JPEG of it. The last column: reading the others reads nothing of it."""
