"""A result may be that a study was not graded, and why."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

MEASURED = ("grade", "probability", "threshold", "slice_count")
WHY = ("reason_code", "reason")


def upgrade() -> None:
    for name in MEASURED:
        op.alter_column("result", name, nullable=True)
    for name in WHY:
        op.add_column("result", sa.Column(name, sa.Text(), nullable=True))
    op.create_check_constraint(
        op.f("ck_result_graded_or_not"), "result", "(grade IS NULL) = (reason_code IS NOT NULL)"
    )


def downgrade() -> None:
    op.drop_constraint(op.f("ck_result_graded_or_not"), "result")
    for name in WHY:
        op.drop_column("result", name)
    for name in MEASURED:
        op.alter_column("result", name, nullable=False)
