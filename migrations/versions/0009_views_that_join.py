"""Views whose facts of a study are joined once, not asked for row by row."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

# an outer join to a study, whose key is unique, costs nothing where none of its columns is asked for
RESULTS = """
    SELECT r.id AS result_id, r.study_id, s.study_instance_uid, s.accession_number, s.study_date,
           r.grade, r.probability, r.threshold, r.model_name, r.model_version, r.checkpoint_sha256,
           r.trained_on_simulated, r.pipeline_version,
           NOT r.is_replaced AS is_current,
           k.grade AS known_grade,
           r.created_at
    FROM result r
    LEFT JOIN study s ON s.id = r.study_id
    LEFT JOIN feedback k
      ON k.study_id = r.study_id
     AND NOT EXISTS (SELECT FROM feedback n WHERE n.study_id = k.study_id AND n.id > k.id)
    WHERE r.grade IS NOT NULL
"""
EARLIER_RESULTS = """
    SELECT r.id AS result_id, s.id AS study_id, s.study_instance_uid, s.accession_number, s.study_date,
           r.grade, r.probability, r.threshold, r.model_name, r.model_version, r.checkpoint_sha256,
           r.trained_on_simulated, r.pipeline_version,
           NOT EXISTS (SELECT FROM result n WHERE n.predecessor_id = r.id) AS is_current,
           (SELECT f.grade FROM feedback f WHERE f.study_id = s.id ORDER BY f.id DESC LIMIT 1)
               AS known_grade,
           r.created_at
    FROM result r JOIN study s ON s.id = r.study_id
    WHERE r.grade IS NOT NULL
"""


# of a study's earlier results each that another replaced is compared with what came after it
AGREEMENT = """
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
"""
ONLY_SUCCESSORS = " AND b.predecessor_id IS NOT NULL"
COVERED = ["grade", "is_replaced", "model_name", "model_version"]
ABOUT_REPLACED = "A newer result names it as its predecessor"


def upgrade() -> None:
    op.drop_index("ix_feedback_study_id", "feedback")
    op.create_index("ix_feedback_study_id_id", "feedback", ["study_id", "id"], postgresql_include=["grade"])
    op.add_column(
        "result",
        sa.Column(
            "is_replaced", sa.Boolean(), server_default="false", nullable=False, comment=ABOUT_REPLACED
        ),
    )
    op.execute("UPDATE result SET is_replaced = true WHERE id IN (SELECT predecessor_id FROM result)")
    op.drop_index("ix_result_study_id", "result")
    op.create_index("ix_result_study_id_id", "result", ["study_id", "id"], postgresql_include=COVERED)
    op.create_index(
        "ix_result_successor", "result", ["created_at"], postgresql_where="predecessor_id IS NOT NULL"
    )
    op.execute(f"CREATE OR REPLACE VIEW v_results AS {RESULTS}")
    op.execute(f"CREATE OR REPLACE VIEW v_model_agreement AS {AGREEMENT}{ONLY_SUCCESSORS}")


def downgrade() -> None:
    op.execute(f"CREATE OR REPLACE VIEW v_model_agreement AS {AGREEMENT}")
    op.execute(f"CREATE OR REPLACE VIEW v_results AS {EARLIER_RESULTS}")
    op.drop_index("ix_result_successor", "result")
    op.drop_index("ix_result_study_id_id", "result")
    op.create_index("ix_result_study_id", "result", ["study_id"])
    op.drop_column("result", "is_replaced")
    op.drop_index("ix_feedback_study_id_id", "feedback")
    op.create_index("ix_feedback_study_id", "feedback", ["study_id"])
