"""By how much a trial broke each constraint (at most 0: met), by the constraint's name."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE kubetune.experiment_trials ADD COLUMN constraint_values json")
