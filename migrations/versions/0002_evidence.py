"""Evidence: fits of support images, calibrations, observations, and labels that are aliases of
others.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("labels", sa.Column("alias_of", sa.BigInteger()))
    _index("ix_labels_alias_of", "labels", ["alias_of"], where="alias_of IS NOT NULL")
    op.create_table(
        "fits",
        sa.Column(
            "space_id", ID, sa.ForeignKey("spaces.id"), primary_key=True, autoincrement=False
        ),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
    )
    op.create_table(
        "calibrations",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("classifier_identity", sa.String(), nullable=False),
        sa.Column("verifier_identity", sa.String(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.Column("removed_at", sa.DateTime()),
        sqlite_autoincrement=True,
    )
    _index("ix_calibrations_space_id", "calibrations", ["space_id"])
    op.create_table(
        "observations",
        sa.Column("id", ID, primary_key=True),
        sa.Column("space_id", ID, sa.ForeignKey("spaces.id"), nullable=False),
        sa.Column("content_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("origin", sa.String(12), nullable=False),
        sa.Column("sampling", sa.String(8), nullable=False),
        sa.Column("truth_id", sa.BigInteger()),
        sa.Column("truth", sa.String()),
        sa.Column("source", sa.String()),
        sa.Column("classifier_embedding", sa.LargeBinary(), nullable=False),
        sa.Column("verifier_embedding", sa.LargeBinary()),
        sa.Column("checksum", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.DateTime(), nullable=False),
        sa.Column("support_id", sa.BigInteger()),
        sa.Column("predicted_id", sa.BigInteger()),
        sa.Column("predicted", sa.String()),
        sa.Column("trust", sa.Double()),
        sa.Column("accepted", sa.Boolean()),
        sa.Column("calibration_id", sa.BigInteger()),
        sa.Column("revision", sa.BigInteger()),
        sqlite_autoincrement=True,
    )
    _index(
        "uq_observations_space_id_content_hash",
        "observations",
        ["space_id", "content_hash"],
        unique=True,
    )
    _index(
        "ix_observations_support_id", "observations", ["support_id"], where="support_id IS NOT NULL"
    )


def downgrade() -> None:
    for table in ("observations", "calibrations", "fits"):
        op.drop_table(table)
    op.drop_index("ix_labels_alias_of", "labels")
    op.drop_column("labels", "alias_of")


def _index(
    name: str, table: str, columns: list[str], *, unique: bool = False, where: str | None = None
) -> None:
    condition = None if where is None else sa.text(where)
    op.create_index(
        name, table, columns, unique=unique, sqlite_where=condition, postgresql_where=condition
    )
