"""What a person has to look at is of a study's newest version, and each thing once."""

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

# the job of a study that is held was stopped with it; a result that a newer one replaces is owed to nobody
FAILURES = """
    SELECT 'job' AS kind, v.study_id, j.id AS job_id, NULL::text AS destination, j.state,
           j.reason_code, j.reason, j.ended_at AS since, NULL::bigint AS objects
    FROM job j JOIN study_version v ON v.id = j.study_version_id JOIN study s ON s.id = v.study_id
    WHERE j.state IN ('held', 'not_gradable') AND s.state <> 'held'
      AND NOT EXISTS (SELECT FROM study_version n WHERE n.study_id = v.study_id AND n.number > v.number)
    UNION ALL
    SELECT 'study', s.id, NULL, NULL, s.state, 'study_held', s.hold_reason, s.last_instance_at, NULL
    FROM study s WHERE s.state = 'held'
    UNION ALL
    SELECT 'delivery', r.study_id, NULL, d.destination, d.state, NULL,
           (array_agg(d.detail ORDER BY d.failed_at DESC, d.id DESC))[1], max(d.failed_at), count(*)
    FROM delivery d JOIN result_object o ON o.id = d.result_object_id JOIN result r ON r.id = o.result_id
    WHERE d.state = 'failed' AND NOT r.is_replaced
    GROUP BY r.study_id, d.destination, d.state
"""
EARLIER_FAILURES = """
    SELECT 'job' AS kind, v.study_id, j.id AS job_id, NULL::text AS destination, j.state,
           j.reason_code, j.reason, j.ended_at AS since
    FROM job j JOIN study_version v ON v.id = j.study_version_id
    WHERE j.state IN ('held', 'not_gradable')
    UNION ALL
    SELECT 'study', s.id, NULL, NULL, s.state, 'study_held', s.hold_reason, s.last_instance_at
    FROM study s WHERE s.state = 'held'
    UNION ALL
    SELECT 'delivery', r.study_id, NULL, d.destination, d.state, NULL, d.detail, d.failed_at
    FROM delivery d JOIN result_object o ON o.id = d.result_object_id JOIN result r ON r.id = o.result_id
    WHERE d.state = 'failed'
"""
ABOUT = (
    "What a person has to look at: held studies; held and not gradable jobs of newest versions; what a "
    "destination refused of a current result, one row a study and destination, with its number of objects"
)
EARLIER_ABOUT = "What a person has to look at: held studies and jobs, not gradable ones, refused objects"
GRANT_READER = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gliograde_reader') THEN
        GRANT SELECT ON v_failures TO gliograde_reader;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END
$$
"""


def upgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_failures AS {FAILURES}")
    op.execute(f"COMMENT ON VIEW v_failures IS '{ABOUT}'")


def downgrade() -> None:
    # a view can't lose a column in place; a new one gets its readers' grants back
    op.execute("DROP VIEW v_failures")
    op.execute(f"CREATE VIEW v_failures AS {EARLIER_FAILURES}")
    op.execute(f"COMMENT ON VIEW v_failures IS '{EARLIER_ABOUT}'")
    op.execute(GRANT_READER)
