"""The outbox of what a person is told by webhook or mail."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

MOMENT = sa.DateTime(timezone=True)
EVENTS = ("held", "not_gradable", "delivery_failed", "destination_down", "destination_up")


def upgrade() -> None:
    op.create_table(
        "notification",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("event_key", sa.Text(), nullable=False),
        sa.Column("channel", _words("notificationchannel", ("webhook", "mail")), nullable=False),
        sa.Column("event", _words("notificationevent", EVENTS), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=True),
        sa.Column("job_id", sa.BigInteger(), nullable=True),
        sa.Column("destination", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason_code", sa.Text(), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.Column("not_before", MOMENT, nullable=True),
        sa.Column("created_at", MOMENT, server_default=sa.text("now()"), nullable=False),
        sa.Column("told_at", MOMENT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notification")),
        sa.UniqueConstraint("event_key", "channel", name=op.f("uq_notification_event_key_channel")),
        comment="One event that a person is told by webhook or mail, once; names no patient",
    )
    waiting = sa.text("told_at IS NULL")
    op.create_index("ix_notification_waiting", "notification", ["channel", "id"], postgresql_where=waiting)


def downgrade() -> None:
    op.drop_table("notification")


def _words(name: str, words: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=20)
