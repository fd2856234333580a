"""What the network's gates said: a grade, an indeterminate probability, or why neither is told."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

MEASURES = ("attention_ml", "appearance_distance")

VERDICT = sa.Enum(
    "graded",
    "indeterminate",
    "no_tumour_seen",
    "out_of_distribution",
    name="verdict",
    native_enum=False,
    create_constraint=True,
    length=20,
)

CHECKS = {
    "verdict_of_grade": "(grade IS NOT NULL) = (verdict IS NOT DISTINCT FROM 'graded')",
    "verdict_of_probability": (
        "(probability IS NOT NULL) = (coalesce(verdict, '') IN ('graded', 'indeterminate'))"
    ),
}

COMMENTS = {
    "verdict": "graded; or why the network gave no grade; NULL: the network was not asked",
    "probability": "Probability of high grade, 0 to 1; NULL where it means nothing",
    "is_calibrated": "The probability was calibrated on patients that the card names",
    "attention_ml": "Volume of the brain with attention above 0.5: the no-tumour gate looks at it",
    "appearance_distance": "How far the images lie from usual ones, near 1 for a usual study",
}

OLD_PROBABILITY = "Probability of high grade, 0 to 1"

MEASURED = """
    r.verdict, r.reason_code, r.reason, r.is_calibrated, r.attention_ml, r.appearance_distance,
"""

VIEW = """
    SELECT r.id AS result_id, r.study_id, s.study_instance_uid, s.accession_number, s.study_date,
           r.grade, r.probability, r.threshold, {measured} r.model_name, r.model_version, r.checkpoint_sha256,
           r.trained_on_simulated, r.pipeline_version,
           NOT r.is_replaced AS is_current,
           k.grade AS known_grade,
           r.created_at
    FROM result r
    LEFT JOIN study s ON s.id = r.study_id
    LEFT JOIN feedback k
      ON k.study_id = r.study_id
     AND NOT EXISTS (SELECT FROM feedback n WHERE n.study_id = k.study_id AND n.id > k.id)
    WHERE r.{asked} IS NOT NULL
"""

VIEW_COMMENT = (
    "One row an answer of the network, with verdict graded where it is a grade; is_current: none newer "
    "replaces it. known_grade: newest feedback"
)
OLD_VIEW_COMMENT = "One row a grade given; is_current: none newer replaces it. known_grade: newest feedback"

GRANT_READER = """
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gliograde_reader') THEN
        GRANT SELECT ON v_results TO gliograde_reader;
    END IF;
EXCEPTION
    WHEN insufficient_privilege THEN NULL;
END
$$
"""


def upgrade() -> None:
    op.add_column("result", sa.Column("verdict", VERDICT, nullable=True))
    op.add_column("result", sa.Column("is_calibrated", sa.Boolean(), nullable=True))
    for name in MEASURES:
        op.add_column("result", sa.Column(name, sa.Float(), nullable=True))
    op.execute("UPDATE result SET verdict = 'graded', is_calibrated = false WHERE grade IS NOT NULL")
    for name, condition in CHECKS.items():
        op.create_check_constraint(op.f(f"ck_result_{name}"), "result", condition)
    for name, words in COMMENTS.items():
        op.execute(f"COMMENT ON COLUMN result.{name} IS '{words}'")
    _replace_view(VIEW.format(measured=MEASURED, asked="verdict"), VIEW_COMMENT)


def downgrade() -> None:
    _replace_view(VIEW.format(measured="", asked="grade"), OLD_VIEW_COMMENT)
    for name in CHECKS:
        op.drop_constraint(op.f(f"ck_result_{name}"), "result")
    # a study that got no grade has no probability either for what reads the older schema
    op.execute("UPDATE result SET probability = NULL WHERE grade IS NULL")
    for name in ("verdict", "is_calibrated", *MEASURES):
        op.drop_column("result", name)
    op.execute(f"COMMENT ON COLUMN result.probability IS '{OLD_PROBABILITY}'")


def _replace_view(query: str, comment: str) -> None:
    op.execute("DROP VIEW v_results")
    op.execute(f"CREATE VIEW v_results AS {query}")
    op.execute(f"COMMENT ON VIEW v_results IS '{comment}'")
    op.execute(GRANT_READER)
