"""The names of a dataset's classes in the order of their labels."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    kind = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("datasets", sa.Column("class_names", kind, nullable=True))


def downgrade() -> None:
    op.drop_column("datasets", "class_names")
