"""when the rows of an erased unit stopped to be readable, and whether new ones are refused"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("erasures", sa.Column("rewritten_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("erasures", sa.Column("refuse_future", sa.Boolean(), nullable=False, server_default=sa.false()))
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.alter_column("refuse_future", server_default=None)


def downgrade() -> None:
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.drop_column("refuse_future")
        batch_op.drop_column("rewritten_at")
