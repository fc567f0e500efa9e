"""Items of the review queue that come from the log of answers, and the node that was answered; what
each revision can alter.

Revision ID: 0021
Revises: 0020
"""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("review_items", sa.Column("node", sa.String()))
    op.add_column("review_items", sa.Column("logged_id", sa.BigInteger()))
    op.add_column("revisions", sa.Column("effect", sa.String(8)))


def downgrade() -> None:
    # Items without an image are nothing that an older program can show.
    op.execute(sa.text("DELETE FROM review_items WHERE logged_id IS NOT NULL"))
    with op.batch_alter_table("review_items") as batch:
        batch.drop_column("logged_id")
        batch.drop_column("node")
    with op.batch_alter_table("revisions") as batch:
        batch.drop_column("effect")
