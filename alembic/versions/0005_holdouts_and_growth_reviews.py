"""holdouts, growth reviews, the flat rows of ledgers and programmes, and joint summaries"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "growth_reviews",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("north_star_id", sa.Uuid(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["north_star_id"], ["north_stars.id"], name=op.f("fk_growth_reviews_north_star_id_north_stars")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_growth_reviews")),
        sa.UniqueConstraint("key", name=op.f("uq_growth_reviews_key")),
    )
    with op.batch_alter_table("growth_reviews", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_growth_reviews_ends_at"), ["ends_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_growth_reviews_north_star_id"), ["north_star_id"], unique=False)
    op.create_table(
        "holdouts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("experiment_id", sa.Uuid(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["experiment_id"], ["experiments.id"], name=op.f("fk_holdouts_experiment_id_experiments")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_holdouts")),
        sa.UniqueConstraint("key", name=op.f("uq_holdouts_key")),
    )
    with op.batch_alter_table("holdouts", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_holdouts_experiment_id"), ["experiment_id"], unique=False)
    op.create_table(
        "ledger_lines",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("review_key", sa.String(length=63), nullable=False),
        sa.Column("north_star_key", sa.String(length=63), nullable=False),
        sa.Column("begins_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ends_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("component", sa.String(length=16), nullable=False),
        sa.Column("key", sa.String(length=100), nullable=True),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("evidence_grade", sa.String(length=1), nullable=True),
        sa.Column("unit", sa.String(length=64), nullable=False),
        sa.Column("units", sa.Double(), nullable=False),
        sa.Column("lower_80", sa.Double(), nullable=False),
        sa.Column("upper_80", sa.Double(), nullable=False),
        sa.Column("lower_95", sa.Double(), nullable=False),
        sa.Column("upper_95", sa.Double(), nullable=False),
        sa.Column("log_mean", sa.Double(), nullable=False),
        sa.Column("log_lower_80", sa.Double(), nullable=False),
        sa.Column("log_upper_80", sa.Double(), nullable=False),
        sa.Column("chance_positive", sa.Double(), nullable=False),
        sa.Column("claimed_units", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_ledger_lines_result_id_results")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ledger_lines")),
    )
    with op.batch_alter_table("ledger_lines", schema=None) as batch_op:
        batch_op.create_index("ix_ledger_lines_north_star", ["north_star_key", "review_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_ledger_lines_result_id"), ["result_id"], unique=False)
    op.create_table(
        "programme_effects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("metric_key", sa.String(length=63), nullable=False),
        sa.Column("experiment_key", sa.String(length=63), nullable=False),
        sa.Column("variant_key", sa.String(length=63), nullable=False),
        sa.Column("team", sa.String(length=200), nullable=True),
        sa.Column("shipped", sa.Boolean(), nullable=False),
        sa.Column("evidence_grade", sa.String(length=1), nullable=False),
        sa.Column("topline_source", sa.String(length=16), nullable=False),
        sa.Column("claimed", sa.Double(), nullable=False),
        sa.Column("claimed_standard_error", sa.Double(), nullable=False),
        sa.Column("shrunk", sa.Double(), nullable=False),
        sa.Column("shrunk_sd", sa.Double(), nullable=False),
        sa.Column("shrunk_lower_80", sa.Double(), nullable=False),
        sa.Column("shrunk_upper_80", sa.Double(), nullable=False),
        sa.Column("shrunk_lower_95", sa.Double(), nullable=False),
        sa.Column("shrunk_upper_95", sa.Double(), nullable=False),
        sa.Column("chance_positive", sa.Double(), nullable=False),
        sa.Column("share_of_total", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_programme_effects_result_id_results")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_programme_effects")),
    )
    with op.batch_alter_table("programme_effects", schema=None) as batch_op:
        batch_op.create_index("ix_programme_effects_metric", ["metric_key", "experiment_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_programme_effects_result_id"), ["result_id"], unique=False)
    op.add_column("summaries", sa.Column("covariances", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("summaries", "covariances")
    for table in ("programme_effects", "ledger_lines", "holdouts", "growth_reviews"):
        op.drop_table(table)
