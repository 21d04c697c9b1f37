"""corrected numbers in result rows, recommendations and overrides in decisions

Every new column is nullable: rows that are already stored were made without these numbers, and null says so.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBERS = (
    "p_value_adjusted",
    "ci_lower_adjusted",
    "ci_upper_adjusted",
    "difference_ci_lower_adjusted",
    "difference_ci_upper_adjusted",
    "always_valid_lower",
    "always_valid_upper",
    "always_valid_p_value",
    "log_e_value",
    "non_inferiority_p_value",
    "harm_p_value",
    "decision_lower",
    "decision_upper",
    "decision_p_value",
)
FLAGS = ("non_inferior", "equivalent", "significant")


def upgrade() -> None:
    op.add_column("result_rows", sa.Column("family", sa.String(length=16), nullable=True))
    op.add_column("result_rows", sa.Column("correction", sa.String(length=64), nullable=True))
    for name in NUMBERS:
        op.add_column("result_rows", sa.Column(name, sa.Double(), nullable=True))
    for name in FLAGS:
        op.add_column("result_rows", sa.Column(name, sa.Boolean(), nullable=True))
    op.add_column("decisions", sa.Column("recommendation", sa.String(length=16), nullable=True))
    op.add_column("decisions", sa.Column("against_recommendation", sa.Boolean(), nullable=True))
    op.add_column("decisions", sa.Column("override_reason", sa.Text(), nullable=True))


def downgrade() -> None:
    for name in ("override_reason", "against_recommendation", "recommendation"):
        op.drop_column("decisions", name)
    for name in (*reversed(FLAGS), *reversed(NUMBERS), "correction", "family"):
        op.drop_column("result_rows", name)
