"""A version that takes over a result sent before it has no delivery time: it was a negative one."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

TURNAROUND = """
    SELECT j.id AS job_id, v.study_id, v.number AS version, j.state, j.result_id,
           v.frozen_at, j.ended_at, t.delivered_at,
           extract(epoch FROM j.ended_at - v.frozen_at)::float8 AS work_seconds,
           extract(epoch FROM t.delivered_at - v.frozen_at)::float8 AS delivery_seconds
    FROM job j JOIN study_version v ON v.id = j.study_version_id
    CROSS JOIN LATERAL (
        SELECT max(d.sent_at) AS delivered_at
        FROM result_object o JOIN delivery d ON d.result_object_id = o.id
        WHERE o.result_id = j.result_id AND d.sent_at >= v.frozen_at
    ) t
"""
EARLIER_TURNAROUND = TURNAROUND.replace(" AND d.sent_at >= v.frozen_at", "")
DELIVERED_AT = "When a destination took the last object sent so far for this version, UTC; NULL: none was"
EARLIER_DELIVERED_AT = "When a destination took the last object sent so far, UTC"


def upgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_turnaround AS {TURNAROUND}")
    op.execute(f"COMMENT ON COLUMN v_turnaround.delivered_at IS '{DELIVERED_AT}'")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_turnaround AS {EARLIER_TURNAROUND}")
    op.execute(f"COMMENT ON COLUMN v_turnaround.delivered_at IS '{EARLIER_DELIVERED_AT}'")
