"""Which ended trials have had their reports removed, and an index that finds the next ones."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN reports_removed boolean NOT NULL DEFAULT false",
    """
    CREATE INDEX experiment_trials_with_reports ON kubetune.experiment_trials (ended)
        WHERE ended IS NOT NULL AND NOT reports_removed
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
