"""A refused object that need not be delivered, and the word of the person who says so."""

from alembic import op

revision = "0019"
down_revision = "0015"
branch_labels = None
depends_on = None

STATES = ("pending", "sending", "unknown", "uncommitted", "sent", "sent_warning", "committed", "failed")
WORDS = ("retry", "release")
COMMENT = "failed: refused for good; dismissed: and a person said that it need not be delivered"


def upgrade() -> None:
    _allow("delivery", "state", "deliverystate", (*STATES, "dismissed"))
    _allow("work_decision", "decision", "workword", (*WORDS, "dismiss"))
    op.alter_column("delivery", "state", comment=COMMENT)


def downgrade() -> None:
    op.execute("UPDATE delivery SET state = 'failed', failed_at = now() WHERE state = 'dismissed'")
    op.execute("UPDATE work_decision SET decision = 'release' WHERE decision = 'dismiss'")
    op.alter_column("delivery", "state", comment=None)
    _allow("work_decision", "decision", "workword", WORDS)
    _allow("delivery", "state", "deliverystate", STATES)


def _allow(table: str, column: str, name: str, words: tuple[str, ...]) -> None:
    constraint = op.f(f"ck_{table}_{name}")
    op.drop_constraint(constraint, table, type_="check")
    op.create_check_constraint(constraint, table, f"{column} IN ({', '.join(repr(word) for word in words)})")
