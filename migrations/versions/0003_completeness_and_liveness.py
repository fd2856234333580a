"""Completeness of a study version, and liveness of workers."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "study",
        sa.Column("opened_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
    )
    op.add_column("study", sa.Column("source_asked_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "study", sa.Column("source_agreements", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "study_version",
        sa.Column(
            "completeness",
            sa.Enum(
                "quiet",
                "verified",
                "unverified",
                name="completeness",
                native_enum=False,
                create_constraint=True,
                length=20,
            ),
            server_default="quiet",
            nullable=False,
        ),
    )
    op.create_table(
        "heartbeat",
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("queues", sa.Text(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("beaten_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("worker", name=op.f("pk_heartbeat")),
    )


def downgrade() -> None:
    op.drop_table("heartbeat")
    op.drop_column("study_version", "completeness")
    op.drop_column("study", "source_agreements")
    op.drop_column("study", "source_asked_at")
    op.drop_column("study", "opened_at")
