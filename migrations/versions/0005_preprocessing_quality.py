"""How well each study was brought to BraTS space."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

MEASURES = (
    "brain_ml",
    "outside_grid",
    "atlas_similarity",
    "atlas_overlap",
    "head_rotation_degrees",
    "flair_similarity",
    "t2_similarity",
    "flair_overlap",
    "t2_overlap",
    "flair_rotation_degrees",
    "t2_rotation_degrees",
    "flair_shift_mm",
    "t2_shift_mm",
    "flair_coverage",
    "t1ce_coverage",
    "t2_coverage",
)


def upgrade() -> None:
    op.create_table(
        "preprocessing_quality",
        sa.Column("job_id", sa.BigInteger(), nullable=False),
        *(sa.Column(name, sa.Float(), nullable=False) for name in MEASURES),
        sa.Column("warnings", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["job.id"], name=op.f("fk_preprocessing_quality_job_id_job")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("pk_preprocessing_quality")),
    )


def downgrade() -> None:
    op.drop_table("preprocessing_quality")
