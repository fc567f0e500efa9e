"""What is said of an image that was picked stands beside what is said of the same image as one
drawn at random.

Revision ID: 0009
Revises: 0008
"""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ONE, _APART = (
    "uq_observations_space_id_content_hash",
    "uq_observations_space_id_content_hash_sampling",
)


def upgrade() -> None:
    op.create_index(_APART, "observations", ["space_id", "content_hash", "sampling"], unique=True)
    op.drop_index(_ONE, "observations")


def downgrade() -> None:
    op.execute(
        "DELETE FROM observations WHERE sampling = 'chosen' AND EXISTS (SELECT 1 FROM "
        "observations AS drawn "
        "WHERE drawn.space_id = observations.space_id AND drawn.content_hash = "
        "observations.content_hash "
        "AND drawn.sampling = 'random')"
    )
    op.create_index(_ONE, "observations", ["space_id", "content_hash"], unique=True)
    op.drop_index(_APART, "observations")
