"""An index that tells how many labels and support images a space has, without reading the labels.

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
    op.create_index("ix_labels_space_id_support_count", "labels", ["space_id", "support_count"], sqlite_where=alive)


def downgrade() -> None:
    op.drop_index("ix_labels_space_id_support_count", "labels")
