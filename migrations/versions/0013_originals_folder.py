"""The shared folder that a catalog keeps its originals in.

Revision ID: 0013
Revises: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("catalog_state", sa.Column("originals_id", sa.String(36)))


def downgrade() -> None:
    op.drop_column("catalog_state", "originals_id")
