"""connections to warehouses, compacted segments of the store, erasures, and dead letters of batches"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "connections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("check", sa.Text(), nullable=True),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connections")),
        sa.UniqueConstraint("key", name=op.f("uq_connections_key")),
    )
    op.create_table(
        "store_segments",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("stream", sa.String(length=16), nullable=False),
        sa.Column("subject", sa.String(length=200), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("batches", sa.Text(), nullable=False),
        sa.Column("rows", sa.BigInteger(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("newest_batch_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_store_segments")),
        sa.UniqueConstraint("name", name=op.f("uq_store_segments_name")),
    )
    with op.batch_alter_table("store_segments", schema=None) as batch_op:
        batch_op.create_index("ix_store_segments_subject", ["stream", "subject"], unique=False)
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("unit_type", sa.String(length=64), nullable=False),
        sa.Column("unit_digest", sa.String(length=64), nullable=False),
        sa.Column("unit_id", sa.String(length=200), nullable=True),
        sa.Column("reason", sa.String(length=1000), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("effects", sa.Text(), nullable=True),
        sa.Column("refuse_future", sa.Boolean(), nullable=False),
        sa.Column("requested_by", sa.String(length=200), nullable=False),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("rewritten_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erasures")),
    )
    with op.batch_alter_table("erasures", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_erasures_requested_at"), ["requested_at"], unique=False)
        batch_op.create_index(batch_op.f("ix_erasures_state"), ["state"], unique=False)
        batch_op.create_index(batch_op.f("ix_erasures_unit_digest"), ["unit_digest"], unique=False)
    op.add_column("ingest_batches", sa.Column("dead_letters", sa.String(length=200), nullable=True))
    op.add_column("ingest_batches", sa.Column("swept_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("ingest_batches", schema=None) as batch_op:
        batch_op.drop_column("swept_at")
        batch_op.drop_column("dead_letters")
    for table in ("erasures", "store_segments", "connections"):
        op.drop_table(table)
