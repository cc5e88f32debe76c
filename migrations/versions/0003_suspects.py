"""The images of a dataset whose label is probably wrong."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    op.add_column("datasets", sa.Column("suspects", JSON, nullable=True))
    op.add_column("datasets", sa.Column("suspects_count", sa.BigInteger(), nullable=True))
    op.add_column(
        "datasets", sa.Column("suspects_attempts", sa.BigInteger(), nullable=False, server_default="0")
    )


def downgrade() -> None:
    for column in ("suspects_attempts", "suspects_count", "suspects"):
        op.drop_column("datasets", column)
