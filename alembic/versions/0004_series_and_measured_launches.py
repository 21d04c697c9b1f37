"""series with restatements, launches that are measured on them, and what was found

Launches that are there already were never measured: `measured_since` is when they were recorded.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("launches", sa.Column("measured_since", sa.DateTime(timezone=True), nullable=True))
    op.execute("UPDATE launches SET measured_since = created_at")
    with op.batch_alter_table("launches", schema=None) as batch_op:
        batch_op.alter_column("measured_since", existing_type=sa.DateTime(timezone=True), nullable=False)
    op.add_column("rollout_steps", sa.Column("segments", sa.Text(), nullable=True))
    op.execute("UPDATE rollout_steps SET segments = '[]'")
    with op.batch_alter_table("rollout_steps", schema=None) as batch_op:
        batch_op.alter_column("segments", existing_type=sa.Text(), nullable=False)
    op.create_table(
        "series",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("archived_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("key", name=op.f("uq_series_key")),
    )
    op.create_table(
        "series_versions",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_series_versions_series_id_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_versions")),
        sa.UniqueConstraint("series_id", "version", name=op.f("uq_series_versions_series_id")),
    )
    op.create_table(
        "series_values",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("segment", sa.String(length=200), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("n", sa.BigInteger(), nullable=True),
        sa.Column("variance", sa.Double(), nullable=True),
        sa.Column("known_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["batch_id"], ["ingest_batches.id"], name=op.f("fk_series_values_batch_id_ingest_batches")
        ),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_series_values_series_id_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series_values")),
        sa.UniqueConstraint("series_id", "segment", "at", "known_at", name=op.f("uq_series_values_series_id")),
    )
    with op.batch_alter_table("series_values", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_series_values_batch_id"), ["batch_id"], unique=False)
    op.create_table(
        "launch_effects",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("result_id", sa.Uuid(), nullable=False),
        sa.Column("launch_key", sa.String(length=63), nullable=False),
        sa.Column("series_key", sa.String(length=63), nullable=False),
        sa.Column("metric_key", sa.String(length=63), nullable=True),
        sa.Column("method", sa.String(length=32), nullable=False),
        sa.Column("leads", sa.Boolean(), nullable=False),
        sa.Column("evidence_grade", sa.String(length=1), nullable=False),
        sa.Column("estimable", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("log_effect", sa.Double(), nullable=True),
        sa.Column("standard_error", sa.Double(), nullable=True),
        sa.Column("bias_sd", sa.Double(), nullable=True),
        sa.Column("lift", sa.Double(), nullable=True),
        sa.Column("ci_lower", sa.Double(), nullable=True),
        sa.Column("ci_upper", sa.Double(), nullable=True),
        sa.Column("ci_level", sa.Double(), nullable=False),
        sa.Column("interval_kind", sa.String(length=16), nullable=False),
        sa.Column("p_value", sa.Double(), nullable=True),
        sa.Column("difference", sa.Double(), nullable=True),
        sa.Column("cumulative", sa.Double(), nullable=True),
        sa.Column("cumulative_lower", sa.Double(), nullable=True),
        sa.Column("cumulative_upper", sa.Double(), nullable=True),
        sa.Column("periods_before", sa.Integer(), nullable=False),
        sa.Column("periods_after", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["result_id"], ["results.id"], name=op.f("fk_launch_effects_result_id_results")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_launch_effects")),
    )
    with op.batch_alter_table("launch_effects", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_launch_effects_metric_key"), ["metric_key"], unique=False)
        batch_op.create_index(batch_op.f("ix_launch_effects_result_id"), ["result_id"], unique=False)
        batch_op.create_index("ix_launch_effects_launch", ["launch_key", "series_key"], unique=False)


def downgrade() -> None:
    for table in ("launch_effects", "series_values", "series_versions", "series"):
        op.drop_table(table)
    op.drop_column("rollout_steps", "segments")
    op.drop_column("launches", "measured_since")
