"""Which scanner a series is from, and whose files were purged."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

SCANNER = ("manufacturer", "manufacturer_model_name", "station_name")
PURGED = "When a person purged its file, UTC; the row stays"


def upgrade() -> None:
    for name in SCANNER:
        op.add_column("series", sa.Column(name, sa.Text(), server_default="", nullable=False))
    for table in ("instance", "result_object"):
        op.add_column(
            table, sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True, comment=PURGED)
        )


def downgrade() -> None:
    for table in ("result_object", "instance"):
        op.drop_column(table, "purged_at")
    for name in reversed(SCANNER):
        op.drop_column("series", name)
