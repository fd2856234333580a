"""For those who ask the database: comments, stable views, a reader role, and feedback."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COMMENTS = {
    "study": "One study as its sender identifies it. Holds patient data",
    "study.study_date": "StudyDate (0008,0020), YYYYMMDD or empty",
    "study.state": "open: still arriving; stable: frozen as a version; held: identity in doubt",
    "study.last_instance_at": "When its newest instance was indexed, UTC",
    "series": "One series of a study",
    "instance": "One received object; the spool holds its bytes under sha256",
    "instance.calling_ae_title": "AE title that sent it",
    "study_version": "A frozen manifest: what a study held when it was quiet",
    "study_version.completeness": "verified: the source counted the same instances, twice",
    "manifest_entry": "One instance of a frozen manifest",
    "result": "What the network said of one input; the same input never makes a second row",
    "result.probability": "Probability of high grade, 0 to 1",
    "result.threshold": "Probability from which the grade is HGG",
    "result.checkpoint_sha256": "Digest of the weights that said so",
    "result.trained_on_simulated": "The weights have seen simulated tumours only: research use",
    "result.predecessor_id": "Result of the same study that this one replaces",
    "job": "The work on one study version",
    "job.state": "Step it waits for or is in, or how it ended: done, not_gradable, held, superseded",
    "job.reason_code": "Why it is held, not gradable or waiting; stable words for programs",
    "job.fence": "Number of its newest claim; writes under an older one are refused",
    "step_run": "One claim of one step: who, when, and how it ended",
    "series_role": "The series a job took for a contrast, and why",
    "series_candidate": "What a job made of one series, chosen or not",
    "role_decision": "A person's word on which series shows a contrast; the newest counts",
    "result_object": "One serialised DICOM object of a result",
    "destination_state": "One destination, and since when it has been failing",
    "delivery": "One object on its way to one destination",
    "delivery.sent_at": "When the destination took it, UTC",
    "audit_record": "One event of the audit trail (PS3.15 A.5). Holds patient data",
    "heartbeat": "One worker, as its consumer last said that it lives",
    "feedback": "What is known of a study's grade from elsewhere, such as pathology; the newest counts",
    "feedback.source": "Where it is known from: pathology, follow-up, …",
}

VIEWS = {
    "v_results": """
        SELECT r.id AS result_id, s.id AS study_id, s.study_instance_uid, s.accession_number, s.study_date,
               r.grade, r.probability, r.threshold, r.model_name, r.model_version, r.checkpoint_sha256,
               r.trained_on_simulated, r.pipeline_version,
               NOT EXISTS (SELECT FROM result n WHERE n.predecessor_id = r.id) AS is_current,
               (SELECT f.grade FROM feedback f WHERE f.study_id = s.id ORDER BY f.id DESC LIMIT 1)
                   AS known_grade,
               r.created_at
        FROM result r JOIN study s ON s.id = r.study_id
        WHERE r.grade IS NOT NULL
    """,
    "v_turnaround": """
        SELECT j.id AS job_id, v.study_id, v.number AS version, j.state, j.result_id,
               v.frozen_at, j.ended_at, t.delivered_at,
               extract(epoch FROM j.ended_at - v.frozen_at)::float8 AS work_seconds,
               extract(epoch FROM t.delivered_at - v.frozen_at)::float8 AS delivery_seconds
        FROM job j JOIN study_version v ON v.id = j.study_version_id
        CROSS JOIN LATERAL (
            SELECT max(d.sent_at) AS delivered_at
            FROM result_object o JOIN delivery d ON d.result_object_id = o.id
            WHERE o.result_id = j.result_id
        ) t
    """,
    "v_failures": """
        SELECT 'job' AS kind, v.study_id, j.id AS job_id, NULL::text AS destination, j.state,
               j.reason_code, j.reason, j.ended_at AS since
        FROM job j JOIN study_version v ON v.id = j.study_version_id
        WHERE j.state IN ('held', 'not_gradable')
        UNION ALL
        SELECT 'study', s.id, NULL, NULL, s.state, 'study_held', s.hold_reason, s.last_instance_at
        FROM study s WHERE s.state = 'held'
        UNION ALL
        SELECT 'delivery', r.study_id, NULL, d.destination, d.state, NULL, d.detail, r.created_at
        FROM delivery d JOIN result_object o ON o.id = d.result_object_id JOIN result r ON r.id = o.result_id
        WHERE d.state = 'failed'
    """,
    "v_model_agreement": """
        SELECT a.study_id, a.id AS older_result_id, b.id AS newer_result_id,
               a.model_name || ' ' || a.model_version AS older_model,
               b.model_name || ' ' || b.model_version AS newer_model,
               a.checkpoint_sha256 AS older_checkpoint_sha256,
               b.checkpoint_sha256 AS newer_checkpoint_sha256,
               a.grade AS older_grade, b.grade AS newer_grade, a.grade = b.grade AS agree,
               b.probability - a.probability AS probability_change, b.created_at
        FROM result b
        JOIN result a
          ON a.study_id = b.study_id AND a.id < b.id AND a.checkpoint_sha256 <> b.checkpoint_sha256
        WHERE a.grade IS NOT NULL AND b.grade IS NOT NULL
    """,
    "v_known_grades": """
        SELECT DISTINCT ON (study_id) study_id, grade AS known_grade, source, given_at
        FROM feedback ORDER BY study_id, id DESC
    """,
}

VIEW_COMMENTS = {
    "v_results": "One row a grade given; is_current: none newer replaces it. known_grade: newest feedback",
    "v_turnaround": "One row a job; seconds count from when its study was complete",
    "v_failures": "What a person has to look at: held studies and jobs, not gradable ones, refused objects",
    "v_model_agreement": "Pairs of results of one study by different weights",
    "v_known_grades": "The newest feedback on each study that has any",
}

# a role belongs to the server, not the database: it may be there already, or not be ours to make
GRANT_READER = """
DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'gliograde_reader') THEN
        BEGIN
            CREATE ROLE gliograde_reader NOLOGIN;
        EXCEPTION
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN RETURN;
        END;
    END IF;
    GRANT SELECT ON v_results, v_turnaround, v_failures, v_model_agreement, v_known_grades
        TO gliograde_reader;
END
$$
"""


def upgrade() -> None:
    op.create_table(
        "feedback",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column(
            "grade",
            sa.Enum("HGG", "LGG", name="grade", native_enum=False, create_constraint=True, length=20),
            nullable=False,
        ),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("given_by", sa.Text(), nullable=False),
        sa.Column("given_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_feedback_study_id_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_feedback")),
    )
    op.create_index(op.f("ix_feedback_study_id"), "feedback", ["study_id"])
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"])
    op.create_index(op.f("ix_result_predecessor_id"), "result", ["predecessor_id"])
    op.create_index(op.f("ix_result_created_at"), "result", ["created_at"])
    op.create_index(op.f("ix_job_ended_at"), "job", ["ended_at"])
    op.create_index(
        "ix_job_failed", "job", ["ended_at"], postgresql_where="state IN ('held', 'not_gradable')"
    )
    op.create_index("ix_delivery_failed", "delivery", ["id"], postgresql_where="state = 'failed'")
    for name, query in VIEWS.items():
        op.execute(f"CREATE VIEW {name} AS {query}")
        op.execute(f"COMMENT ON VIEW {name} IS '{VIEW_COMMENTS[name]}'")
    _comment(COMMENTS)
    op.execute(GRANT_READER)


def downgrade() -> None:
    _comment(dict.fromkeys(COMMENTS, None))
    for name in VIEWS:
        op.execute(f"DROP VIEW {name}")
    op.drop_index("ix_delivery_failed", "delivery")
    op.drop_index("ix_job_failed", "job")
    op.drop_index(op.f("ix_job_ended_at"), "job")
    op.drop_index(op.f("ix_result_created_at"), "result")
    op.drop_index(op.f("ix_result_predecessor_id"), "result")
    op.drop_index(op.f("ix_study_accession_number"), "study")
    op.drop_table("feedback")


def _comment(comments: Mapping[str, str | None]) -> None:
    for name, words in comments.items():
        kind = "COLUMN" if "." in name else "TABLE"
        quoted = "NULL" if words is None else "'" + words.replace("'", "''") + "'"
        op.execute(sa.text(f"COMMENT ON {kind} {name} IS {quoted}".replace(":", r"\:")))
