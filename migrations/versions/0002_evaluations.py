"""Evaluations on request; the details and the merit of a checkpoint's scores."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

ID = sa.String(64).with_variant(sa.String(64, collation="C"), "postgresql")
TEXT = sa.String()
STATUS = sa.String(16)
TIME = sa.DateTime(timezone=True)
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("checkpoints", sa.Column("score_details", JSON, nullable=True))
    op.add_column("checkpoints", sa.Column("merit", sa.Double(), nullable=True))
    op.create_table(
        "evaluations",
        sa.Column("id", ID, nullable=False),
        sa.Column("checkpoint_id", ID, nullable=False),
        sa.Column("status", STATUS, nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("result", JSON, nullable=True),
        sa.Column("error", JSON, nullable=True),
        sa.Column("attempt", sa.BigInteger(), nullable=False),
        sa.Column("worker", TEXT, nullable=True),
        sa.Column("lease_expires_at", TIME, nullable=True),
        sa.Column("published_at", TIME, nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("started_at", TIME, nullable=True),
        sa.Column("finished_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"],
            ["checkpoints.id"],
            name="fk_evaluations_checkpoint_id_checkpoints",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_evaluations"),
    )
    op.create_index("ix_evaluations_checkpoint_id", "evaluations", ["checkpoint_id"])
    op.create_index("ix_evaluations_status_published_at", "evaluations", ["status", "published_at"])


def downgrade() -> None:
    op.drop_table("evaluations")
    op.drop_column("checkpoints", "merit")
    op.drop_column("checkpoints", "score_details")
