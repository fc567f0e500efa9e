"""The first schema: spaces, labels, support images, thumbnails, and the log of purged rows.

Revision ID: 0001
Revises:
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "catalog_state",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("epoch", sa.String(36), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_table(
        "spaces",
        sa.Column("id", ID, primary_key=True),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("classifier", sa.String(), nullable=False),
        sa.Column("verifier", sa.String(), nullable=False),
        sa.Column("classifier_identity", sa.String(), nullable=False),
        sa.Column("verifier_identity", sa.String(), nullable=False),
        sa.Column("classifier_golden", sa.LargeBinary()),
        sa.Column("verifier_golden", sa.LargeBinary()),
        sa.Column("classifier_dim", sa.Integer(), nullable=False),
        sa.Column("verifier_dim", sa.Integer(), nullable=False),
        sa.Column("templates", sa.JSON(), nullable=False),
        sa.Column("logit_scale", sa.Double(), nullable=False),
        sa.Column("recipe", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("log_start", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("removed_at", sa.DateTime()),
        sqlite_autoincrement=True,
    )
    _index("uq_spaces_name", "spaces", ["name"], unique=True, where="removed_at IS NULL")
    op.create_table(
        "labels",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("name_hash", sa.BigInteger(), nullable=False),
        sa.Column("prompt", sa.String()),
        sa.Column("text_source", sa.String(8), nullable=False),
        sa.Column("support_count", sa.Integer(), nullable=False),
        sa.Column("created_revision", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("removed_revision", sa.BigInteger()),
        sa.Column("removed_at", sa.DateTime()),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.Column("text_prototype", sa.LargeBinary(), nullable=False),
        sa.Column("prototype", sa.LargeBinary()),
        sqlite_autoincrement=True,
    )
    _index(
        "uq_labels_space_id_name",
        "labels",
        ["space_id", "name"],
        unique=True,
        where="removed_revision IS NULL",
    )
    _index(
        "ix_labels_space_id_removed_name",
        "labels",
        ["space_id", "name"],
        where="removed_revision IS NOT NULL",
    )
    _index("ix_labels_space_id_revision", "labels", ["space_id", "revision"])
    _index(
        "ix_labels_space_id_name_hash", "labels", ["space_id", "name_hash"],
        where="support_count > 0 AND removed_revision IS NULL",
    )  # fmt: skip
    _index("ix_labels_removed_at", "labels", ["removed_at"], where="removed_at IS NOT NULL")
    op.create_table(
        "supports",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("label_id", ID, sa.ForeignKey("labels.id"), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("source", sa.String()),
        sa.Column("created_revision", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("removed_revision", sa.BigInteger()),
        sa.Column("hidden_from", sa.BigInteger()),
        sa.Column("hidden_until", sa.BigInteger()),
        sa.Column("removed_at", sa.DateTime()),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.Column("embedding", sa.LargeBinary(), nullable=False),
        sa.Column("classifier_embedding", sa.LargeBinary()),
        sqlite_autoincrement=True,
    )
    _index(
        "uq_supports_label_id_content_hash",
        "supports",
        ["label_id", "content_hash"],
        unique=True,
        where="removed_revision IS NULL",
    )
    _index("ix_supports_label_id", "supports", ["label_id"])
    _index("ix_supports_space_id_revision", "supports", ["space_id", "revision"])
    _index(
        "ix_supports_space_id_content_hash",
        "supports",
        ["space_id", "content_hash"],
        where="removed_revision IS NULL",
    )
    _index("ix_supports_removed_at", "supports", ["removed_at"], where="removed_at IS NOT NULL")
    op.create_table(
        "thumbnails",
        sa.Column(
            "support_id", ID, sa.ForeignKey("supports.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("jpeg", sa.LargeBinary(), nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("created_revision", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sqlite_autoincrement=True,
    )
    _index("ix_changes_space_id_revision", "changes", ["space_id", "revision"])


def downgrade() -> None:
    for table in ("changes", "thumbnails", "supports", "labels", "spaces", "catalog_state"):
        op.drop_table(table)


def _index(
    name: str, table: str, columns: list[str], *, unique: bool = False, where: str | None = None
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )
