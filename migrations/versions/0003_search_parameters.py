"""Search parameters of a space's indexes, as 'trustvlm index tune' finds them.

Revision ID: 0003
Revises: 0002
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("spaces", sa.Column("search", sa.JSON()))


def downgrade() -> None:
    op.drop_column("spaces", "search")
