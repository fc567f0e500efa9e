"""The labels that the images of a calibration of claims were claimed to have.

Revision ID: 0022
Revises: 0021
"""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("observations", sa.Column("claimed_id", sa.BigInteger()))


def downgrade() -> None:
    # An older program would calibrate predictions with these images.
    op.execute(sa.text("DELETE FROM observations WHERE sampling = 'claimed'"))
    with op.batch_alter_table("observations") as batch:
        batch.drop_column("claimed_id")
