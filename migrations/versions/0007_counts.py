"""Indexes that tell how many labels and support images a space has, and its labels in the order of
their ids.

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    alive = sa.text("removed_revision IS NULL")
    op.create_index(
        "ix_labels_space_id_support_count",
        "labels",
        ["space_id", "support_count"],
        sqlite_where=alive,
        postgresql_where=alive,
    )
    op.create_index(
        "ix_labels_space_id_id",
        "labels",
        ["space_id", "id"],
        sqlite_where=alive,
        postgresql_where=alive,
    )


def downgrade() -> None:
    op.drop_index("ix_labels_space_id_id", "labels")
    op.drop_index("ix_labels_space_id_support_count", "labels")
