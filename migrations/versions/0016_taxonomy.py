"""The taxonomy of a space: under which node a label or another node stands.

Revision ID: 0016
Revises: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "tree_edges",
        sa.Column(
            "space_id", ID, sa.ForeignKey("spaces.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("child", sa.String(), primary_key=True),
        sa.Column("parent", sa.String()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
    )
    op.create_index("ix_tree_edges_space_id_parent", "tree_edges", ["space_id", "parent"])
    op.create_index("ix_tree_edges_space_id_revision", "tree_edges", ["space_id", "revision"])
    with op.batch_alter_table("observations") as batch:
        batch.add_column(sa.Column("node", sa.String()))


def downgrade() -> None:
    with op.batch_alter_table("observations") as batch:
        batch.drop_column("node")
    op.drop_table("tree_edges")
