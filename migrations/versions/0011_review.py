"""The review queue: images that wait for a person's answer.

Revision ID: 0011
Revises: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "review_states",
        sa.Column(
            "space_id", ID, sa.ForeignKey("spaces.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("collecting", sa.Boolean(), nullable=False),
        sa.Column("seed", sa.LargeBinary(16), nullable=False),
        sa.Column("missed", sa.BigInteger(), nullable=False),
    )
    op.create_table(
        "review_items",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("tray", sa.String(16), nullable=False),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("source", sa.String()),
        sa.Column("predicted_id", sa.BigInteger(), nullable=False),
        sa.Column("predicted", sa.String(), nullable=False),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("probability", sa.Double()),
        sa.Column("trust", sa.Double()),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("calibration_id", sa.BigInteger()),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("changed_at", sa.DateTime()),
        sa.Column("truth_id", sa.BigInteger()),
        sa.Column("truth", sa.String()),
        sa.Column("use_as_support", sa.Boolean(), nullable=False),
        sa.Column("support_id", sa.BigInteger()),
        sa.Column("observation_id", sa.BigInteger()),
        sa.Column("earlier", sa.JSON()),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.Column("classifier_embedding", sa.LargeBinary(), nullable=False),
        sa.Column("verifier_embedding", sa.LargeBinary()),
        sa.Column("thumbnail", sa.LargeBinary()),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "uq_review_items_space_id_tray_content_hash",
        "review_items",
        ["space_id", "tray", "content_hash"],
        unique=True,
    )
    op.create_index(
        "ix_review_items_space_id_state_tray_id",
        "review_items",
        ["space_id", "state", "tray", "id"],
    )
    op.create_index("ix_review_items_support_id", "review_items", ["support_id"])


def downgrade() -> None:
    op.drop_table("review_items")
    op.drop_table("review_states")
