"""what is believed of every row: posterior lift, HDI, the loss of not shipping, where the prior came from

Every new column is nullable: rows that are already stored were made without these numbers, and null says so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBERS = ("posterior_lift", "hdi_lower", "hdi_upper", "expected_loss_of_not_shipping", "rope_probability")


def upgrade() -> None:
    for name in NUMBERS:
        op.add_column("result_rows", sa.Column(name, sa.Double(), nullable=True))
    op.add_column("result_rows", sa.Column("prior_source", sa.String(length=200), nullable=True))


def downgrade() -> None:
    for name in ("prior_source", *reversed(NUMBERS)):
        op.drop_column("result_rows", name)
