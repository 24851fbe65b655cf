"""The order of what happens in a study, and what was known when: enough to make every decision again.

``known`` and ``end_order`` are places in one order that the engine counts (`storage.record`).
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

STATEMENTS = (
    """
    ALTER TABLE kubetune.experiment_trials
        ADD COLUMN known bigint,  -- what its sampler was shown
        ADD COLUMN end_order bigint
    """,
    """
    ALTER TABLE kubetune.steering
        ADD COLUMN trial integer,  -- number of the next trial
        ADD COLUMN place bigint
    """,
    """
    CREATE TABLE kubetune.judgements (
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        place bigint NOT NULL,
        number integer NOT NULL,  -- of the trial
        attempt integer NOT NULL,
        kind text NOT NULL,
        seq integer NOT NULL,
        rung bigint,
        why text NOT NULL,
        time double precision NOT NULL,
        PRIMARY KEY (experiment_id, place)
    )
    """,
    "CREATE INDEX judgements_of ON kubetune.judgements (experiment_id, number)",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
