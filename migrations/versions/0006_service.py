"""The HTTP service: keys, calls that may be repeated, jobs; and an index of the labels without
support images.

Revision ID: 0006
Revises: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

UNVERIFIED = sa.text("support_count = 0 AND removed_revision IS NULL AND alias_of IS NULL")


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("space", sa.String()),
        sa.Column("note", sa.String()),
        sa.Column("rate", sa.Double()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("expires_at", sa.DateTime()),
        sa.Column("revoked_at", sa.DateTime()),
        sa.Column("used_at", sa.DateTime()),
    )
    op.create_table(
        "idempotent_calls",
        sa.Column("owner", sa.String(16), primary_key=True),
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("request", sa.LargeBinary(32), nullable=False),
        sa.Column("worker", sa.String(36), nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("body", sa.LargeBinary()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_idempotent_calls_created_at", "idempotent_calls", ["created_at"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(12), nullable=False),
        sa.Column("space", sa.String(), nullable=False),
        sa.Column("owner", sa.String(16), nullable=False),
        sa.Column("worker", sa.String(36), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("phase", sa.String(), nullable=False),
        sa.Column("done", sa.BigInteger(), nullable=False),
        sa.Column("total", sa.BigInteger()),
        sa.Column("cancel_asked", sa.Boolean(), nullable=False),
        sa.Column("content", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime(), nullable=False),
    )
    op.create_index("ix_jobs_created_at", "jobs", ["created_at"])
    op.create_index(
        "ix_labels_space_id_unverified",
        "labels",
        ["space_id", "name"],
        sqlite_where=UNVERIFIED,
        postgresql_where=UNVERIFIED,
    )


def downgrade() -> None:
    op.drop_index("ix_labels_space_id_unverified", "labels")
    for table in ("jobs", "idempotent_calls", "api_keys"):
        op.drop_table(table)
