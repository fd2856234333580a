"""What other checkpoints make of the same input: by replay and in shadow."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COMMENTS = {
    "TABLE second_reading": "What another checkpoint made of a job''s input; never sent, "
    "never a study''s result",
    "COLUMN second_reading.origin": "replay: a person asked; shadow: the setting shadow_model names "
    "a candidate",
}

PAIRS = """
    SELECT a.study_id, a.id AS older_result_id, b.id AS newer_result_id,
           a.model_name || ' ' || a.model_version AS older_model,
           b.model_name || ' ' || b.model_version AS newer_model,
           a.checkpoint_sha256 AS older_checkpoint_sha256,
           b.checkpoint_sha256 AS newer_checkpoint_sha256,
           a.grade AS older_grade, b.grade AS newer_grade, a.grade = b.grade AS agree,
           b.probability - a.probability AS probability_change, b.created_at{origin}
    FROM result b
    JOIN result a
      ON a.study_id = b.study_id AND a.id < b.id AND a.checkpoint_sha256 <> b.checkpoint_sha256
    WHERE a.grade IS NOT NULL AND b.grade IS NOT NULL AND b.predecessor_id IS NOT NULL
"""
READINGS = """
    SELECT a.study_id, a.id, NULL,
           a.model_name || ' ' || a.model_version, b.model_name || ' ' || b.model_version,
           a.checkpoint_sha256, b.checkpoint_sha256, a.grade, b.grade, a.grade = b.grade,
           b.probability - a.probability, b.created_at, b.origin::text
    FROM second_reading b
    JOIN job j ON j.id = b.job_id
    JOIN result a ON a.id = j.result_id
    WHERE a.grade IS NOT NULL AND a.checkpoint_sha256 <> b.checkpoint_sha256
"""
AGREEMENT = " UNION ALL ".join([PAIRS.format(origin=", 'reported' AS origin"), READINGS])
ABOUT = "Pairs of results of one study by different weights; origin reported: both were the study''s result"
EARLIER_ABOUT = "Pairs of results of one study by different weights"


def upgrade() -> None:
    op.create_table(
        "second_reading",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("origin", _words("readingorigin", "replay", "shadow"), nullable=False),
        sa.Column("grade", _words("grade", "HGG", "LGG"), nullable=False),
        sa.Column("probability", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("model_name", sa.Text(), nullable=False),
        sa.Column("model_version", sa.Text(), nullable=False),
        sa.Column("checkpoint_sha256", sa.Text(), nullable=False),
        sa.Column("trained_on_simulated", sa.Boolean(), nullable=False),
        sa.Column("pipeline_version", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("probability BETWEEN 0 AND 1", name=op.f("ck_second_reading_probability")),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_second_reading_job_id_job")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_second_reading")),
        sa.UniqueConstraint(
            "job_id", "checkpoint_sha256", name=op.f("uq_second_reading_job_id_checkpoint_sha256")
        ),
    )
    op.create_index(op.f("ix_second_reading_created_at"), "second_reading", ["created_at"])
    for name, words in COMMENTS.items():
        op.execute(f"COMMENT ON {name} IS '{words}'")
    op.execute(f"CREATE OR REPLACE VIEW v_model_agreement AS {AGREEMENT}")
    op.execute(f"COMMENT ON VIEW v_model_agreement IS '{ABOUT}'")


def downgrade() -> None:
    # a view can't lose a column in place; a new one gets its readers' grants back
    op.execute("DROP VIEW v_model_agreement")
    op.execute(f"CREATE VIEW v_model_agreement AS {PAIRS.format(origin='')}")
    op.execute(f"COMMENT ON VIEW v_model_agreement IS '{EARLIER_ABOUT}'")
    op.execute(
        """
        DO $$
        BEGIN
            IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'gliograde_reader') THEN
                GRANT SELECT ON v_model_agreement TO gliograde_reader;
            END IF;
        END
        $$
        """
    )
    op.drop_table("second_reading")


def _words(name: str, *words: str) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=20)
