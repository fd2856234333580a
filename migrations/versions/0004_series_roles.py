"""What each series was taken for, volumes of mixed series, and roles that a person set."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CONTRASTS = ("flair", "t1ce", "t2")
ROLES = (*CONTRASTS, "t1", "other")


def upgrade() -> None:
    op.add_column("series_role", sa.Column("part", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "series_candidate",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("role", _words("seriesrole", ROLES), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("passed_over", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_series_candidate_job_id_job")),
        sa.ForeignKeyConstraint(
            ["series_id"], ["series.id"], name=op.f("fk_series_candidate_series_id_series")
        ),
        sa.PrimaryKeyConstraint("job_id", "series_id", "part", name=op.f("pk_series_candidate")),
    )
    op.create_table(
        "role_decision",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("study_id", sa.BigInteger(), nullable=False),
        sa.Column("contrast", _words("contrast", CONTRASTS), nullable=False),
        sa.Column("series_id", sa.BigInteger(), nullable=False),
        sa.Column("part", sa.Text(), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=False),
        sa.Column("decided_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["study.id"], name=op.f("fk_role_decision_study_id_study")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_role_decision_series_id_series")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_role_decision")),
    )
    op.create_index(op.f("ix_role_decision_study_id"), "role_decision", ["study_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_role_decision_study_id"), table_name="role_decision")
    op.drop_table("role_decision")
    op.drop_table("series_candidate")
    op.drop_column("series_role", "part")


def _words(name: str, words: tuple[str, ...]) -> sa.Enum:
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=20)
