"""Checkpoints that trials committed, and which attempt went on from which.

A resume names what it went on from by its numbers: that may be another trial's, and is removed before.
"""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    CREATE TABLE kubetune.checkpoints (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,  -- in order of a trial's commits: they hold its lock
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials,
        attempt integer NOT NULL,
        step bigint NOT NULL,
        store text NOT NULL,
        location text NOT NULL,
        digest text NOT NULL,
        bytes bigint NOT NULL,
        files integer NOT NULL,
        time double precision NOT NULL,
        damaged boolean NOT NULL DEFAULT false,
        released double precision,  -- nobody needs it since then
        told double precision,  -- somebody was told to remove it
        removed double precision,
        UNIQUE (experiment_id, location)
    )
    """,
    "CREATE INDEX checkpoints_of ON kubetune.checkpoints (trial_id, id)",
    """
    CREATE INDEX checkpoints_garbage ON kubetune.checkpoints (experiment_id, id)
        WHERE released IS NOT NULL AND removed IS NULL
    """,
    """
    CREATE TABLE kubetune.resumes (
        trial_id bigint NOT NULL REFERENCES kubetune.experiment_trials,
        attempt integer NOT NULL,
        source integer NOT NULL,  -- number of the trial whose checkpoint it is
        source_attempt integer NOT NULL,
        step bigint NOT NULL,
        location text NOT NULL,
        time double precision NOT NULL,
        PRIMARY KEY (trial_id, attempt)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
