"""Losses are counted apart from attempts (a suspend is none), and the last spec that could be run is kept.

The spec is of type json: as text it keeps the order of its fields, and takes whatever Kubernetes does.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE kubetune.experiments
        ADD COLUMN generation bigint,  -- the resource's, of the spec beside it
        ADD COLUMN spec json
    """,
    "ALTER TABLE kubetune.experiment_trials ADD COLUMN losses integer NOT NULL DEFAULT 0",
    """
    UPDATE kubetune.experiment_trials t SET losses = (
        SELECT count(*) FROM kubetune.attempts a
        WHERE a.trial_id = t.id AND a.attempt < t.attempt AND a.reason <> 'Suspended'
    ) WHERE t.attempt > 1
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
