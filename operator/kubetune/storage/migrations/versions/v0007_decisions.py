"""What the pruner decides about a trial: why it is to stop, in words, and the last rung at which it was judged."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN stop_message text NOT NULL DEFAULT ''",
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN rung bigint",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
