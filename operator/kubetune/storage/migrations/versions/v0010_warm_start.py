"""Trials of other experiments that a study began with, as they were mapped then: they may be gone later."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

STATEMENTS = (
    "ALTER TABLE kubetune.experiments ADD COLUMN warm_started double precision",
    """
    CREATE TABLE kubetune.warm_trials (
        experiment_id integer NOT NULL REFERENCES kubetune.experiments,
        place integer NOT NULL,
        source text NOT NULL,  -- the other experiment's name
        source_uid text NOT NULL,
        number integer NOT NULL,  -- there
        state text NOT NULL,
        params json NOT NULL,  -- here
        objective_values double precision[],
        last_step bigint,
        last_value double precision,
        constraint_values json,
        PRIMARY KEY (experiment_id, place)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)
