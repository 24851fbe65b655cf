"""Where a trial's parameters come from, if people gave them: each place in `initial`, each name in `enqueue` once."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN source text",
    """
    CREATE UNIQUE INDEX experiment_trials_source ON kubetune.experiment_trials (experiment_id, source)
        WHERE source IS NOT NULL
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
