"""A refused object that need not be delivered, and the word of the person who says so."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

STATES = ("pending", "sending", "unknown", "uncommitted", "sent", "sent_warning", "committed", "failed")
WORDS = ("retry", "release")
EARLIER_COMMENTS = {
    ("delivery", "state"): "pending, sending, unknown, uncommitted; sent, sent_warning, committed; failed",
    ("work_decision", "decision"): "retry: its cause is gone; release: taken as it is, though incomplete",
}
COMMENTS = {
    (
        "delivery",
        "state",
    ): "pending, sending, unknown, uncommitted; sent, sent_warning, committed; failed: "
    "refused for good; dismissed: and a person said that it need not be delivered",
    ("work_decision", "decision"): "retry: its cause is gone; release: taken as it is, though incomplete; "
    "dismiss: what was refused need not be delivered",
}


def upgrade() -> None:
    _allow("delivery", "state", "deliverystate", (*STATES, "dismissed"))
    _allow("work_decision", "decision", "workword", (*WORDS, "dismiss"))
    _comment(COMMENTS)


def downgrade() -> None:
    op.execute("UPDATE delivery SET state = 'failed', failed_at = now() WHERE state = 'dismissed'")
    op.execute("UPDATE work_decision SET decision = 'release' WHERE decision = 'dismiss'")
    _comment(EARLIER_COMMENTS)
    _allow("work_decision", "decision", "workword", WORDS)
    _allow("delivery", "state", "deliverystate", STATES)


def _allow(table: str, column: str, name: str, words: tuple[str, ...]) -> None:
    constraint = op.f(f"ck_{table}_{name}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, f"{column} IN ({', '.join(repr(word) for word in words)})")


def _comment(comments: dict[tuple[str, str], str]) -> None:
    for (table, column), words in comments.items():
        op.alter_column(table, column, comment=words)
