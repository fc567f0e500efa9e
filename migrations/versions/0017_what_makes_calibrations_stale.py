"""Which revision of a space last altered verdicts: it makes calibrations stale, others do not.

Revision ID: 0017
Revises: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

ADDED = ("verdicts_revision", "nodes_revision")


def upgrade() -> None:
    for name in ADDED:
        op.add_column("spaces", sa.Column(name, sa.BigInteger()))


def downgrade() -> None:
    for name in reversed(ADDED):
        op.drop_column("spaces", name)
