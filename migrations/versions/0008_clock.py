"""Stamps of the catalog's clock, by which a purge knows how much time has passed.

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clock_stamps",
        sa.Column("machine", sa.String(64), nullable=False),
        sa.Column("uptime", sa.Float(), nullable=False),
        sa.Column("time", sa.DateTime(), nullable=False),
        sa.PrimaryKeyConstraint("machine", name="pk_clock_stamps"),
    )


def downgrade() -> None:
    op.drop_table("clock_stamps")
