"""Deliveries with a claim on each destination, storage commitment, the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATES_BEFORE = ("pending", "sent", "sent_warning", "unknown", "failed")
STATES = (
    "pending",
    "sending",
    "unknown",
    "uncommitted",
    "sent",
    "sent_warning",
    "committed",
    "failed",
)
UNDELIVERED = "state IN ('pending', 'sending', 'unknown', 'uncommitted')"


def upgrade() -> None:
    op.create_table(
        "destination_state",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("fence", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("claimed_by", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=True),
        sa.Column("hinted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failures", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("alerted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_destination_state")),
        sa.UniqueConstraint("name", name=op.f("uq_destination_state_name")),
    )
    op.execute("INSERT INTO destination_state (name) SELECT DISTINCT destination FROM delivery")
    op.create_table(
        "commitment",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("transaction_uid", sa.Text(), nullable=False),
        sa.Column("destination", sa.Text(), nullable=False),
        sa.Column(
            "requested_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["destination"],
            ["destination_state.name"],
            name=op.f("fk_commitment_destination_destination_state"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_commitment")),
        sa.UniqueConstraint("transaction_uid", name=op.f("uq_commitment_transaction_uid")),
    )
    op.add_column("delivery", sa.Column("not_before", sa.DateTime(timezone=True), nullable=True))
    op.create_foreign_key(
        op.f("fk_delivery_destination_destination_state"),
        "delivery",
        "destination_state",
        ["destination"],
        ["name"],
    )
    _allow(STATES)
    op.create_index(
        "ix_delivery_waiting",
        "delivery",
        ["destination", "not_before"],
        unique=False,
        postgresql_where=UNDELIVERED,
    )
    op.create_table(
        "audit_segment",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("copied_bytes", sa.BigInteger(), nullable=False),
        sa.Column("last_sha256", sa.Text(), nullable=False),
        sa.Column("broken", sa.Boolean(), server_default="false", nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_audit_segment")),
    )
    op.create_table(
        "audit_record",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("line_sha256", sa.Text(), nullable=False),
        sa.Column("occurred_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("outcome", sa.BigInteger(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("chain_sha256", sa.Text(), nullable=False),
        sa.Column("forwarded_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_record")),
        sa.UniqueConstraint("segment", "line_sha256", name=op.f("uq_audit_record_segment_line_sha256")),
    )
    op.create_index(
        "ix_audit_record_unforwarded",
        "audit_record",
        ["id"],
        unique=False,
        postgresql_where="forwarded_at IS NULL",
    )


def downgrade() -> None:
    op.drop_table("audit_record")
    op.drop_table("audit_segment")
    op.drop_index("ix_delivery_waiting", table_name="delivery")
    op.execute("UPDATE delivery SET state = 'unknown' WHERE state IN ('sending', 'uncommitted')")
    op.execute("UPDATE delivery SET state = 'sent' WHERE state = 'committed'")
    _allow(STATES_BEFORE)
    op.drop_constraint(op.f("fk_delivery_destination_destination_state"), "delivery", type_="foreignkey")
    op.drop_column("delivery", "not_before")
    op.drop_table("commitment")
    op.drop_table("destination_state")


def _allow(states: tuple[str, ...]) -> None:
    words = ", ".join(f"'{state}'" for state in states)
    op.drop_constraint(op.f("ck_delivery_deliverystate"), "delivery", type_="check")
    op.create_check_constraint(op.f("ck_delivery_deliverystate"), "delivery", f"state IN ({words})")
