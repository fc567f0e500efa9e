"""Which support images a person kept in an audit, and which were proposed.

Revision ID: 0014
Revises: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

MARKED = {"kept": "kept IS NOT NULL", "proposed": "proposed IS NOT NULL"}


def upgrade() -> None:
    for name, condition in MARKED.items():
        op.add_column("supports", sa.Column(name, sa.Boolean()))
        op.create_index(
            f"ix_supports_space_id_{name}",
            "supports",
            ["space_id"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )


def downgrade() -> None:
    for name in reversed(MARKED):
        op.drop_index(f"ix_supports_space_id_{name}", "supports")
        op.drop_column("supports", name)
