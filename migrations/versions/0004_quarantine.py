"""Quarantine: rows that 'trustvlm verify --repair' found damaged and took out of service, as they
were.

Revision ID: 0004
Revises: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "quarantine",
        sa.Column("id", ID, primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("row_id", sa.BigInteger(), nullable=False),
        sa.Column("space_id", sa.BigInteger()),
        sa.Column("label_id", sa.BigInteger()),
        sa.Column("content_hash", sa.LargeBinary()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("first", sa.LargeBinary()),
        sa.Column("second", sa.LargeBinary()),
        sa.Column("removed_at", sa.DateTime()),
        sa.Column("quarantined_at", sa.DateTime(), nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_quarantine_space_id_content_hash", "quarantine", ["space_id", "content_hash"]
    )
    op.create_index("ix_quarantine_label_id", "quarantine", ["label_id"])


def downgrade() -> None:
    op.drop_table("quarantine")
