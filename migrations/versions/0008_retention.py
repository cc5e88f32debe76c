"""Checkpoints that are interim, can be gone on from, or are deleted; files that are to be deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # By plain ADD COLUMN: SQLite would otherwise build the table anew, and what refers to it would go.
    op.add_column("checkpoints", sa.Column("state_bytes", sa.BigInteger(), nullable=True))
    op.execute("UPDATE checkpoints SET state_bytes = 0")  # there, of a size that nobody has written down
    op.add_column(
        "checkpoints", sa.Column("interim", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("checkpoints", sa.Column("deleted_at", sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "unwanted_artifacts",
        sa.Column("prefix", sa.String(512), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("prefix", name="pk_unwanted_artifacts"),
    )


def downgrade() -> None:
    op.drop_table("unwanted_artifacts")
    for name in ("deleted_at", "interim", "state_bytes"):
        op.drop_column("checkpoints", name)
