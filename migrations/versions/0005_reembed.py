"""What an identity is made of; kept originals; spaces that are embedded anew.

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("spaces", sa.Column("classifier_parts", sa.JSON()))
    op.add_column("spaces", sa.Column("verifier_parts", sa.JSON()))
    op.create_table(
        "originals",
        sa.Column("id", ID, primary_key=True),
        sa.Column("support_id", sa.BigInteger()),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_originals_support_id", "originals", ["support_id"], unique=True)
    op.create_index("ix_originals_content_hash", "originals", ["content_hash"])
    op.create_table(
        "reembeds",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", sa.BigInteger(), nullable=False),
        sa.Column("other_id", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("synced", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("uq_reembeds_space_id", "reembeds", ["space_id"], unique=True)
    op.create_index("uq_reembeds_other_id", "reembeds", ["other_id"], unique=True)
    op.create_table(
        "reembed_rows",
        sa.Column("reembed_id", ID, sa.ForeignKey("reembeds.id"), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("staged_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("reembed_id", "kind", "source_id"),
    )
    columns = ["reembed_id", "kind", "staged_id"]
    op.create_index("ix_reembed_rows_reembed_id_kind_staged_id", "reembed_rows", columns)


def downgrade() -> None:
    for table in ("reembed_rows", "reembeds", "originals"):
        op.drop_table(table)
    op.drop_column("spaces", "verifier_parts")
    op.drop_column("spaces", "classifier_parts")
