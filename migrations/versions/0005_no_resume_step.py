"""Where an attempt starts is no longer written down before it is claimed."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_column("jobs", "resume_step")


def downgrade() -> None:
    op.add_column("jobs", sa.Column("resume_step", sa.BigInteger(), nullable=True))
