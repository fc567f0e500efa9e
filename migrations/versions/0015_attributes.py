"""Attributes of labels and support images, and the keys whose values are indexed.

Revision ID: 0015
Revises: 0014
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    for owner in ("label", "support"):
        op.create_table(
            f"{owner}_attributes",
            sa.Column(
                f"{owner}_id",
                ID,
                sa.ForeignKey(f"{owner}s.id"),
                primary_key=True,
                autoincrement=False,
            ),
            sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
            sa.Column("revision", sa.BigInteger(), nullable=False),
            sa.Column("content", sa.String(), nullable=False),
        )
        op.create_index(
            f"ix_{owner}_attributes_space_id_revision",
            f"{owner}_attributes",
            ["space_id", "revision"],
        )
    op.create_table(
        "indexed_keys",
        sa.Column(
            "space_id", ID, sa.ForeignKey("spaces.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("key", sa.String(), primary_key=True),
    )


def downgrade() -> None:
    op.drop_table("indexed_keys")
    op.drop_table("support_attributes")
    op.drop_table("label_attributes")
