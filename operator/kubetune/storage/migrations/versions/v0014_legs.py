"""Trials of several legs: the current one, whether the trial is paused before it, those that ended."""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE kubetune.experiment_trials
        ADD COLUMN leg integer NOT NULL DEFAULT 0,
        ADD COLUMN paused boolean NOT NULL DEFAULT false,
        ADD COLUMN legs json,  -- those that ended, in order: attempt, lastStep, values, resumes
        ADD COLUMN environment json  -- of the current leg, beside the parameters
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
