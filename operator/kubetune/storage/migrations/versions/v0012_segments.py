"""Trials that go on from another one's checkpoint: segments of the life of a member of a population."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute(
        "ALTER TABLE kubetune.experiment_trials"
        " ADD COLUMN parent integer,"  # that trial's number
        " ADD COLUMN member integer"  # 0, 1, … of the population
    )
