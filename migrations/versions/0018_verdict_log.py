"""The verdict log: what spaces answered, where one is switched on.

Revision ID: 0018
Revises: 0017
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("spaces", sa.Column("verdict_log", sa.JSON()))
    op.create_table(
        "verdict_log",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("at", sa.DateTime(), nullable=False),
        sa.Column("request_id", sa.String(64)),
        sa.Column("source", sa.String()),
        sa.Column("decision", sa.String(8), nullable=False),
        sa.Column("probability", sa.Double()),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("reason_code", sa.String(16), nullable=False),
        sa.Column("trust", sa.Double()),
        sa.Column("label_id", sa.BigInteger(), nullable=False),
        sa.Column("node", sa.String()),
        sa.Column("node_probability", sa.Double()),
        sa.Column("rule", sa.String(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("calibration_id", sa.BigInteger()),
        sa.Column("claimed", sa.String()),
        sa.Column("claimed_probability", sa.Double()),
        sa.Column("claimed_id", sa.BigInteger()),
        sa.Column("claims_calibration_id", sa.BigInteger()),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_verdict_log_space_id_at_id", "verdict_log", ["space_id", "at", "id"])
    op.create_index("ix_verdict_log_label_id", "verdict_log", ["label_id"])
    for name, columns in (
        ("ix_verdict_log_claimed_id", ["claimed_id"]),
        ("ix_verdict_log_space_id_request_id", ["space_id", "request_id"]),
    ):
        where = sa.text(f"{columns[-1]} IS NOT NULL")
        op.create_index(name, "verdict_log", columns, sqlite_where=where, postgresql_where=where)
    op.create_table(
        "verdict_log_states",
        sa.Column(
            "space_id", ID, sa.ForeignKey("spaces.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("dropped", sa.BigInteger(), nullable=False),
    )


def downgrade() -> None:
    op.drop_table("verdict_log_states")
    op.drop_table("verdict_log")
    op.drop_column("spaces", "verdict_log")
