"""When and by whom each revision and each calibration was made.

Revision ID: 0012
Revises: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revisions",
        sa.Column("space_id", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("revision", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("author", sa.String()),
        sa.Column("action", sa.String(24), nullable=False),
        sa.Column("labels", sa.Integer(), nullable=False),
        sa.Column("supports", sa.Integer(), nullable=False),
    )
    op.add_column("calibrations", sa.Column("author", sa.String()))


def downgrade() -> None:
    op.drop_column("calibrations", "author")
    op.drop_table("revisions")
