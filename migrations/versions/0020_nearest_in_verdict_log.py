"""The similarity of logged answers to the nearest prototype, and whose it is.

Revision ID: 0020
Revises: 0019
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("verdict_log", sa.Column("nearest_similarity", sa.Double()))
    op.add_column("verdict_log", sa.Column("nearest_id", sa.BigInteger()))


def downgrade() -> None:
    with op.batch_alter_table("verdict_log") as batch:
        batch.drop_column("nearest_id")
        batch.drop_column("nearest_similarity")
