"""When a sweep last ended, when a version's last object came, indexes for what is asked every few seconds."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
RECEIVED = "When the newest of its objects was received, UTC; NULL: a person''s word made the version"
STUDY_OF_RECORD = """substring(body, '"study_instance_uid":"([^"]{0,64})"')"""


def upgrade() -> None:
    op.create_table(
        "sweep_state",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column(
            "ended_at",
            MOMENT,
            server_default=sa.text("now()"),
            nullable=False,
            comment="When a sweep last ended, UTC; at first, when the table was made",
        ),
        sa.Column(
            "oldest_unindexed_at",
            MOMENT,
            nullable=True,
            comment="When the oldest object was received that it left in the inbox, UTC",
        ),
        sa.CheckConstraint("id = 1", name=op.f("ck_sweep_state_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweep_state")),
        comment="The newest sweep: one row",
    )
    op.execute("INSERT INTO sweep_state (id) VALUES (1)")
    op.add_column("study_version", sa.Column("received_at", MOMENT, nullable=True))
    op.execute(f"COMMENT ON COLUMN study_version.received_at IS '{RECEIVED}'")
    op.create_index("ix_job_held", "job", ["created_at"], postgresql_where="state = 'held'")
    op.create_index("ix_audit_record_study", "audit_record", [sa.text(STUDY_OF_RECORD)])


def downgrade() -> None:
    op.drop_index("ix_audit_record_study", "audit_record")
    op.drop_index("ix_job_held", "job")
    op.drop_column("study_version", "received_at")
    op.drop_table("sweep_state")
