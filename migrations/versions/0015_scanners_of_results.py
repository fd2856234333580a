"""Which scanner a result is from, what a second reading's gates said, and when a delivery was refused."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

SCANNER = ("manufacturer", "manufacturer_model_name", "station_name")

VERDICT = sa.Enum(
    *("graded", "indeterminate", "no_tumour_seen", "out_of_distribution"),
    name="verdict",
    native_enum=False,
    create_constraint=True,
    length=20,
)
CHECKS = {
    "verdict_of_grade": "(grade IS NOT NULL) = (verdict = 'graded')",
    "verdict_of_probability": "(probability IS NOT NULL) = (verdict IN ('graded', 'indeterminate'))",
}
COMMENTS = {
    "result.manufacturer": "Who made the scanner of the T1 post-contrast series; empty where it did not say",
    "second_reading.verdict": "graded; or why the candidate''s gates gave no grade",
    "delivery.failed_at": "When the destination refused it for good, UTC",
}

SCANNER_OF_RESULT = """
    UPDATE result r
    SET manufacturer = s.manufacturer, manufacturer_model_name = s.manufacturer_model_name,
        station_name = s.station_name
    FROM job j
    JOIN series_role o ON o.job_id = j.id AND o.contrast = 't1ce'
    JOIN series s ON s.id = o.series_id
    WHERE j.result_id = r.id AND s.manufacturer || s.manufacturer_model_name || s.station_name <> ''
"""
FAILED_AT = """
    UPDATE delivery d SET failed_at = r.created_at
    FROM result_object o JOIN result r ON r.id = o.result_id
    WHERE o.id = d.result_object_id AND d.state = 'failed'
"""

FAILED_AT_CHECK = "(state = 'failed') = (failed_at IS NOT NULL)"

RESULTS = """
    SELECT r.id AS result_id, r.study_id, s.study_instance_uid, s.accession_number, s.study_date,
           r.grade, r.probability, r.threshold,
           r.verdict, r.reason_code, r.reason, r.is_calibrated, r.attention_ml, r.appearance_distance,
           r.model_name, r.model_version, r.checkpoint_sha256, r.trained_on_simulated, r.pipeline_version,
           NOT r.is_replaced AS is_current,
           k.grade AS known_grade,
           r.created_at{scanner}
    FROM result r
    LEFT JOIN study s ON s.id = r.study_id
    LEFT JOIN feedback k
      ON k.study_id = r.study_id
     AND NOT EXISTS (SELECT FROM feedback n WHERE n.study_id = k.study_id AND n.id > k.id)
    WHERE r.verdict IS NOT NULL
"""
OF_SCANNER = ", r.manufacturer, r.manufacturer_model_name, r.station_name"

PAIR = """
    SELECT a.study_id, a.id AS older_result_id, {newer_id} AS newer_result_id,
           a.model_name || ' ' || a.model_version AS older_model,
           b.model_name || ' ' || b.model_version AS newer_model,
           a.checkpoint_sha256 AS older_checkpoint_sha256,
           b.checkpoint_sha256 AS newer_checkpoint_sha256,
           a.grade AS older_grade, b.grade AS newer_grade, a.grade = b.grade AS agree,
           b.probability - a.probability AS probability_change, b.created_at, {origin} AS origin{verdicts}
"""
BOTH_SENT = """
    FROM result b
    JOIN result a
      ON a.study_id = b.study_id AND a.id < b.id AND a.checkpoint_sha256 <> b.checkpoint_sha256
    WHERE a.{said} IS NOT NULL AND b.{said} IS NOT NULL AND b.predecessor_id IS NOT NULL
"""
SECOND_READ = """
    FROM second_reading b
    JOIN job j ON j.id = b.job_id
    JOIN result a ON a.id = j.result_id
    WHERE a.{said} IS NOT NULL AND a.checkpoint_sha256 <> b.checkpoint_sha256
"""
OF_VERDICTS = ", a.verdict AS older_verdict, b.verdict AS newer_verdict"

FAILURES = """
    SELECT 'job' AS kind, v.study_id, j.id AS job_id, NULL::text AS destination, j.state,
           j.reason_code, j.reason, j.ended_at AS since
    FROM job j JOIN study_version v ON v.id = j.study_version_id
    WHERE j.state IN ('held', 'not_gradable')
    UNION ALL
    SELECT 'study', s.id, NULL, NULL, s.state, 'study_held', s.hold_reason, s.last_instance_at
    FROM study s WHERE s.state = 'held'
    UNION ALL
    SELECT 'delivery', r.study_id, NULL, d.destination, d.state, NULL, d.detail, {since}
    FROM delivery d JOIN result_object o ON o.id = d.result_object_id JOIN result r ON r.id = o.result_id
    WHERE d.state = 'failed'
"""

VIEW_COMMENTS = {
    "v_results": "One row an answer of the network, with verdict graded where it is a grade; is_current: "
    "none newer replaces it. known_grade: newest feedback",
    "v_model_agreement": "Pairs of results of one study by different weights; origin reported: both were "
    "the study''s result",
}
GRANT_READER = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gliograde_reader') THEN
        GRANT SELECT ON v_results, v_model_agreement TO gliograde_reader;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END
$$
"""

COVERED = ["grade", "is_replaced", "model_name", "model_version"]


def upgrade() -> None:
    for name in SCANNER:
        op.add_column("result", sa.Column(name, sa.Text(), server_default="", nullable=False))
    op.execute(SCANNER_OF_RESULT)
    _cover(["verdict", *COVERED])

    op.add_column("second_reading", sa.Column("verdict", VERDICT, nullable=True))
    op.execute("UPDATE second_reading SET verdict = 'graded'")
    op.alter_column("second_reading", "verdict", nullable=False)
    for name in ("grade", "probability"):
        op.alter_column("second_reading", name, nullable=True)
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_second_reading_{name}"), "second_reading", condition)

    op.add_column("delivery", sa.Column("failed_at", sa.DateTime(timezone=True), nullable=True))
    op.execute(FAILED_AT)
    op.create_check_constraint(op.f("ck_delivery_failed_at"), "delivery", FAILED_AT_CHECK)
    _index_failed("failed_at")

    for name, words in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN {name} IS '{words}'")
    op.execute(f"CREATE OR REPLACE VIEW v_results AS {RESULTS.format(scanner=OF_SCANNER)}")
    op.execute(f"CREATE OR REPLACE VIEW v_model_agreement AS {_agreement('verdict', OF_VERDICTS)}")
    op.execute(f"CREATE OR REPLACE VIEW v_failures AS {FAILURES.format(since='d.failed_at')}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_failures AS {FAILURES.format(since='r.created_at')}")
    # a view can't lose a column in place; a new one gets its readers' grants back
    earlier = {"v_results": RESULTS.format(scanner=""), "v_model_agreement": _agreement("grade", "")}
    for name, query in earlier.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{VIEW_COMMENTS[name]}'")
    op.execute(GRANT_READER)

    _index_failed("id")
    op.drop_constraint(op.f("ck_delivery_failed_at"), "delivery")
    op.drop_column("delivery", "failed_at")

    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_second_reading_{name}"), "second_reading")
    # the older schema knows no second reading without a grade
    op.execute("DELETE FROM second_reading WHERE grade IS NULL")
    for name in ("grade", "probability"):
        op.alter_column("second_reading", name, nullable=False)
    op.drop_column("second_reading", "verdict")

    _cover(COVERED)
    for name in reversed(SCANNER):
        op.drop_column("result", name)


def _agreement(said: str, verdicts: str) -> str:
    sent = PAIR.format(newer_id="b.id", origin="'reported'", verdicts=verdicts) + BOTH_SENT
    read = PAIR.format(newer_id="NULL", origin="b.origin::text", verdicts=verdicts) + SECOND_READ
    return f"{sent} UNION ALL {read}".format(said=said)


def _cover(columns: list[str]) -> None:
    """Index all that the documented questions ask of a study's results."""
    op.drop_index("ix_result_study_id_id", "result")
    op.create_index("ix_result_study_id_id", "result", ["study_id", "id"], postgresql_include=columns)


def _index_failed(column: str) -> None:
    op.drop_index("ix_delivery_failed", "delivery")
    op.create_index("ix_delivery_failed", "delivery", [column], postgresql_where="state = 'failed'")
