"""The output that a label has in an external classifier.

Revision ID: 0019
Revises: 0018
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

HAVING = sa.text("output IS NOT NULL")


def upgrade() -> None:
    op.add_column("labels", sa.Column("output", sa.Integer()))
    op.create_index(
        "uq_labels_space_id_output",
        "labels",
        ["space_id", "output"],
        unique=True,
        sqlite_where=HAVING,
        postgresql_where=HAVING,
    )


def downgrade() -> None:
    op.drop_index("uq_labels_space_id_output", "labels")
    op.drop_column("labels", "output")
